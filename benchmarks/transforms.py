"""The figures of centring and whitening at each layer, for every shrinkage.

Run ``python -m benchmarks.transforms INDEX --test FILE`` for the accuracy of 10 neighbours on a
labelled file, or ``--queries FILE --qrels FILE`` for nDCG@10. Transforms are fitted on the
documents of INDEX. The last column is a rank cut instead of shrinkage: whitening in the longest
third of the axes. No shrinkage printed here was chosen; for a choice by folds, run
``layerdex evaluate INDEX --test FILE --transform whiten``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from layerdex import Index
from layerdex.choices import TransformName
from layerdex.index.measurements import read_judged
from layerdex.records import Vectors
from layerdex.search.evaluation.classification import evaluate_on_test
from layerdex.search.evaluation.results import VotingOptions
from layerdex.search.evaluation.retrieval import evaluate_retrieval
from layerdex.search.knn.vector_space import Place, Transformed
from layerdex.search.transforms.fit import SHRINKAGES, draw_sample
from layerdex.search.vectors.transform import PrincipalAxes, Transform, find_axes
from layerdex.storage.snapshot import DocumentTable, Snapshot

_K = 10
_RANK_SHARE = 3

Measure = Callable[[Snapshot, DocumentTable, Place], float]


def main() -> None:
    """Print one row per layer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("index")
    parser.add_argument("--test")
    parser.add_argument("--queries")
    parser.add_argument("--qrels")
    options = parser.parse_args()
    index = Index.open(options.index)
    if options.test is not None:
        measure, is_labelled = _accuracy(index, options.test), True
    else:
        measure, is_labelled = _retrieval(index, options.queries, options.qrels), False
    names = ["none", "center", *(f"whiten {shrinkage:g}" for shrinkage in SHRINKAGES), "rank cut"]
    print("layer |", " | ".join(names))
    with index.store.read() as snapshot:
        table = snapshot.document_table(labelled=is_labelled)
        drawn = draw_sample(table).fitted
        for layer in index.layers:
            axes = find_axes(snapshot.layer(layer).gather(drawn.rows))
            figures = [measure(snapshot, table, place) for place in _places(layer, axes)]
            print(f"{layer} |", " | ".join(f"{figure:.4f}" for figure in figures), flush=True)


def _places(layer: int, axes: PrincipalAxes) -> list[Place]:
    rank = len(axes.variances) // _RANK_SHARE
    cut = (axes.axes[:rank] / np.sqrt(axes.variances[:rank, None])).astype(np.float32)
    transforms = [axes.center(), *map(axes.whiten, SHRINKAGES), Transform(axes.mean, cut)]
    return [layer, *(Transformed(layer, TransformName.WHITEN, {layer: one}) for one in transforms)]


def _accuracy(index: Index, path: str) -> Measure:
    from layerdex.indexer.readers.sources import read_labelled

    texts, labels = read_labelled(path)
    vectors = index.encode_at(texts, index.layers)

    def measure(snapshot: Snapshot, table: DocumentTable, place: Place) -> float:
        found = evaluate_on_test(
            snapshot.layer,
            table,
            VotingOptions((_K,), n_resamples=0),
            vectors=vectors,
            test_labels=labels,
            places=[place],
        )
        return found.best.accuracy

    return measure


def _retrieval(index: Index, queries: str, qrels: str) -> Measure:
    asked = read_judged(queries, qrels, text_field="text", id_field=None)
    vectors: dict[int, Vectors] = index.encode_queries(asked.texts, index.layers, None)

    def measure(snapshot: Snapshot, table: DocumentTable, place: Place) -> float:
        found = evaluate_retrieval(
            snapshot.layer, table, asked, vectors=vectors, places=[place], n_resamples=0
        )
        return found.best.values["ndcg@10"]

    return measure


if __name__ == "__main__":
    main()
