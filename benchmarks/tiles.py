"""All pairs and all neighbours of an index, as shares of the plain products in float32.

G32 is what half of all products of n vectors with each other take by one matrix product after the
other, on all threads, measured before and after each question. The numbers of documents that stay,
of pairs and of neighbours are printed too: they depend on the vectors only.

An index of 57,000 different texts, say, is made by `layerdex index`; labels are not needed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.plain_products import share_of_products
from benchmarks.results_file import save, spread
from layerdex.index import Index
from layerdex.search.dedup.greedy import find_duplicates
from layerdex.search.evaluation.held_out import nearest_with_other_text
from layerdex.search.knn.close_pairs import find_close_pairs
from layerdex.search.knn.random_pairs import N_PAIRED, compare_pairs, percentiles_of
from layerdex.search.knn.sampling import sample_texts
from layerdex.search.knn.tiles.arithmetic import fastest_arithmetic
from layerdex.storage.snapshot import Snapshot

_K, _N_SAMPLED = 10, 16_384


def main() -> None:
    """Print and save the medians of the shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("index", type=Path)
    parser.add_argument("--layers", type=int, nargs="+", default=[0, 3, 6])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    index = Index.open(options.index)
    results: dict[str, Any] = {"n": len(index), "arithmetic": fastest_arithmetic(), "layers": {}}
    with index._open.store.read() as snapshot:
        for layer in options.layers:
            results["layers"][layer] = _measure(snapshot, layer, options.rounds)
    save("tiles", "python -m benchmarks.tiles INDEX", results)


def _measure(snapshot: Snapshot, layer: int, n_rounds: int) -> dict[str, Any]:
    source, table = snapshot.layer(layer), snapshot.document_table()
    drawn = sample_texts(snapshot, n=N_PAIRED)
    lowest = percentiles_of(compare_pairs(source, drawn.rows))["p99.9"]
    rows = table.drop_repeats().rows
    questions: dict[str, Callable[[], int]] = {
        "dedup at 0.9": lambda: len(find_duplicates(source, table, threshold=0.9).kept),
        "dedup at 0.95": lambda: len(find_duplicates(source, table, threshold=0.95).kept),
        "pairs at p99.9": lambda: len(find_close_pairs(source, rows, lowest).steps),
        "10 nearest of each": lambda: sum(
            len(at) for at, _ in nearest_with_other_text(source, table, _K)
        ),
    }
    sample = source.gather(rows[:_N_SAMPLED])
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in questions}
    found: dict[str, int] = {}

    def ask(name: str) -> None:
        found[name] = questions[name]()

    for _ in range(n_rounds):
        for name in questions:
            measured = share_of_products(partial(ask, name), sample, len(table.rows))
            taken[name].append(measured)
            print(f"layer {layer}, {name}: {measured['share_of_g32']:.2f} G32", flush=True)
    return {
        name: {
            **{figure: spread([one[figure] for one in taken[name]]) for figure in taken[name][0]},
            "found": found[name],
        }
        for name in questions
    }


if __name__ == "__main__":
    main()
