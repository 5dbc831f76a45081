"""All pairs and all neighbours of an index, as shares of the plain products in float32.

G32 is what half of all products of n vectors with each other take by one matrix product after the
other, on all threads, measured before and after each question. The numbers of documents that stay,
of pairs and of neighbours are printed too: they depend on the vectors only.

An index of 57,000 different texts, say, is made by `layerdex index`; labels are not needed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results_file import save, spread
from layerdex.index import Index
from layerdex.records import Vectors
from layerdex.search.dedup.greedy import find_duplicates
from layerdex.search.evaluation.held_out import nearest_with_other_text
from layerdex.search.knn.close_pairs import find_close_pairs
from layerdex.search.knn.random_pairs import N_PAIRED, compare_pairs, percentiles_of
from layerdex.search.knn.sampling import sample_texts
from layerdex.search.knn.tiles.arithmetic import fastest_arithmetic
from layerdex.storage.snapshot import Snapshot

_K, _ROWS, _N_SAMPLED = 10, 2_048, 16_384


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
    shares: dict[str, list[float]] = {name: [] for name in questions}
    seconds: dict[str, list[float]] = {name: [] for name in questions}
    found: dict[str, int] = {}
    for _ in range(n_rounds):
        for name, ask in questions.items():
            before = _g32(sample, len(table.rows))
            start = time.perf_counter()
            found[name] = ask()
            seconds[name].append(time.perf_counter() - start)
            plain = (before + _g32(sample, len(table.rows))) / 2
            shares[name].append(seconds[name][-1] / plain)
            print(f"layer {layer}, {name}: {shares[name][-1]:.2f} G32", flush=True)
    return {
        name: {
            "share of G32": spread(shares[name]),
            "seconds": spread(seconds[name]),
            "found": found[name],
        }
        for name in questions
    }


def _g32(sample: Vectors, n: int) -> float:
    """Return the seconds that n² / 2 products take, by some of them."""
    out = np.empty((_ROWS, len(sample)), np.float32)
    start = time.perf_counter()
    n_rows = len(sample) // _ROWS * _ROWS
    for at in range(0, n_rows, _ROWS):
        np.matmul(sample[at : at + _ROWS], sample.T, out=out)
    return (time.perf_counter() - start) * n * n / 2 / (n_rows * len(sample))


if __name__ == "__main__":
    main()
