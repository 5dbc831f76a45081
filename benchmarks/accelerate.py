"""Approximate against exact search, and against a bare FAISS script at the same recall.

Vectors are made as ``benchmarks.scale`` makes them, of one layer. Both ways are asked alternately.
The bare script is FAISS's own re-ranking (`IndexRefine`) over the same lists and float16 vectors in
memory, with the same number of lists and candidates: it has no filters, deletes or documents.
``--index`` keeps the index, and measures the one that is there.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.results_file import command_line, save, spread
from benchmarks.scale import N_QUERIES, QUESTIONS, K, MixingEncoder, fill, read_pool, timed
from layerdex.index import Index
from layerdex.search.knn.approximate import ApproximateLayer, find_approximate
from layerdex.search.results import SearchResult
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.vectors.faiss_library import load_faiss, one_omp_thread

FILTERS = {"none": None, "50 %": 500, "10 %": 100, "1 %": 10, "0.1 %": 1}
"""The number of buckets of a thousand that each keeps."""

BATCH = [f"{QUESTIONS} {i * 31}" for i in range(N_QUERIES)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-documents", type=int, default=1_000_000)
    parser.add_argument("--vectors", type=Path, help="a .npy file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--recalls", type=float, nargs="+", default=[0.95, 0.99])
    parser.add_argument("--index", type=Path)
    parser.add_argument("--name", default="accelerate", help="of the result file")
    options = parser.parse_args()
    options.n_layers = 1
    encoder = MixingEncoder(read_pool(options), options.seed)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        path = options.index or folder / "index"
        if not path.exists():
            fill(path, encoder, options.n_documents)
        index = Index.open(path, encoder=encoder)
        results = {
            "documents": len(index),
            "vectors": "random" if options.vectors is None else options.vectors.name,
            "seed": options.seed,
            "rounds": options.rounds,
            "targets": {
                f"{recall:g}": measure(index, recall, options.rounds) for recall in options.recalls
            },
        }
        if options.index is None:  # what is kept stays as it is
            results["a seventh deleted"] = after_deletes(index)
    save(options.name, command_line("benchmarks.accelerate"), results)


def measure(index: Index, recall: float, rounds: int) -> dict[str, Any]:
    """Build for a recall, and compare."""
    built: list[Any] = []
    seconds = timed(lambda: built.extend(index.accelerate(recall=recall)))
    [made] = built
    print(made, f"built in {seconds:.0f} s", file=sys.stderr)
    return {
        "build_seconds": round(seconds),
        "bytes_per_vector": round(made.size_bytes / made.n, 1),
        "measured": [
            [
                *(each.share, each.n_probes, each.n_probes_together, each.n_candidates),
                round(each.bound, 4),
            ]
            for each in made.measured
        ],
        "by_filter": {name: by_filter(index, n, rounds) for name, n in FILTERS.items()},
        "batch": compare(index, BATCH, None, rounds),
        "bare": against_faiss(index, rounds),
    }


def by_filter(index: Index, n_buckets: int | None, rounds: int) -> dict[str, Any]:
    """Compare one question, and return the recall of many, each asked alone."""
    where = None if n_buckets is None else f"bucket<{n_buckets}"
    # One by one: of a batch, all documents are compared sooner.
    exact = [index.search(text, k=K, where=where, exact=True)[0] for text in BATCH[::5]]
    found = [index.search(text, k=K, where=where)[0] for text in BATCH[::5]]
    return {
        "recall": round(recall_of(found, exact), 4),
        "share_exact": np.mean([result.exact for result in found]),
        **compare(index, BATCH[7:8], where, 3 * rounds),
    }


def compare(index: Index, texts: list[str], where: str | None, rounds: int) -> dict[str, Any]:
    """Time both ways of a question, alternately, after one of each."""
    exactly = partial(index.search, texts, k=K, where=where, exact=True)
    nearly = partial(index.search, texts, k=K, where=where)
    seconds = alternate({"exact": exactly, "approximate": nearly}, rounds)
    ratios = np.array(seconds["approximate"]) / np.array(seconds["exact"])
    return {
        **{name: spread(taken) for name, taken in seconds.items()},
        "ratio": spread(ratios.tolist()),
    }


def against_faiss(index: Index, rounds: int) -> dict[str, Any]:
    """Time the neighbours alone, without documents, beside FAISS's own re-ranking."""
    queries = index.encoder.encode(BATCH, [0]).vectors[0]

    def question(snapshot: Snapshot) -> dict[str, Any]:
        layer = index._open.approximates.find(index._open.store, snapshot, 0)
        if layer is None:
            raise SystemExit("the approximate index is stale")
        bare = bare_index(snapshot, layer)
        figures = {}
        for name, asked in (("one", queries[7:8]), ("batch", queries)):
            ways = {
                "layerdex": partial(find_approximate, snapshot, layer, asked, K),
                "faiss": partial(ask_bare, bare, layer, asked),
            }
            same = agreement(ways["layerdex"]().neighbors.rows, ways["faiss"]() + layer.first_row)
            seconds = alternate(ways, 3 * rounds if len(asked) == 1 else rounds)
            ratios = np.array(seconds["faiss"]) / np.array(seconds["layerdex"])
            figures[name] = {
                **{way: spread(taken) for way, taken in seconds.items()},
                "same_neighbours": round(same, 4),
                "speed_of_faiss": spread(ratios.tolist()),
            }
        return figures

    return index._open.query(question)


def bare_index(snapshot: Snapshot, layer: ApproximateLayer) -> Any:
    faiss = load_faiss()
    lists = layer.index._index
    vectors = faiss.IndexScalarQuantizer(lists.d, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_L2)
    for part in snapshot.layer(layer.layer).slices():
        vectors.add(part.decode(0, len(part.rows)))
    return faiss.IndexRefine(lists, vectors)


def ask_bare(bare: Any, layer: ApproximateLayer, queries: NDArray[np.float32]) -> Any:
    faiss = load_faiss()
    plan = layer.measured[0]
    parameters = faiss.IndexRefineSearchParameters(
        k_factor=plan.n_candidates / K,
        base_index_params=faiss.SearchParametersIVF(nprobe=plan.n_probes),
    )
    with one_omp_thread() if len(queries) == 1 else contextlib.nullcontext():
        return bare.search(queries, K, params=parameters)[1]


def agreement(rows: NDArray[np.int64], others: NDArray[np.int64]) -> float:
    """Return the mean share of neighbours that two answers have in common."""
    pairs = zip(rows, others, strict=True)
    return float(np.mean([np.isin(of_row, of_other).mean() for of_row, of_other in pairs]))


def after_deletes(index: Index) -> dict[str, Any]:
    """Delete 15 % and compare again, then a third, with which the approximate index is stale."""
    figures = {}
    for share, least in (("15 %", 850), ("a third", 667)):
        index.delete(where=f"bucket>={least}", max_removed=0.5)
        figures[share] = by_filter(index, None, 1)
    return figures


def alternate(ways: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each way in each round, after a first one that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for run in ways.values():
        run()
    for _ in range(rounds):
        for name, run in ways.items():
            seconds[name].append(timed(run))
    return seconds


def recall_of(found: list[SearchResult], exact: list[SearchResult]) -> float:
    """Return the mean share of the exact hits that were found."""
    shares = [
        len({hit.id for hit in one} & {hit.id for hit in other}) / max(len(other), 1)
        for one, other in zip(found, exact, strict=True)
    ]
    return float(np.mean(shares))


if __name__ == "__main__":
    main()
