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

from layerdex import Index, RetrievalTask
from layerdex.choices import TransformName
from layerdex.index.open_index import QueryVectors, query_vectors
from layerdex.search.evaluation.classification import evaluate_on_test
from layerdex.search.evaluation.retrieval import evaluate_retrieval
from layerdex.search.evaluation.vote_scores import VotingOptions
from layerdex.search.knn.vector_space import VectorSpace, layer_spaces
from layerdex.search.transforms.fit import SHRINKAGES, draw_sample
from layerdex.search.vectors.transform import PrincipalAxes, Transform, find_axes
from layerdex.storage.snapshot import DocumentTable, Snapshot

_K = 10
_RANK_SHARE = 3

Measure = Callable[[Snapshot, DocumentTable, VectorSpace], float]


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
    with index._open.store.read() as snapshot:
        table = snapshot.document_table(labelled=is_labelled)
        drawn = draw_sample(table).fitted
        for layer in index.layers:
            axes = find_axes(snapshot.layer(layer).gather(drawn.rows))
            figures = [measure(snapshot, table, space) for space in _spaces(layer, axes)]
            print(f"{layer} |", " | ".join(f"{figure:.4f}" for figure in figures), flush=True)


def _spaces(layer: int, axes: PrincipalAxes) -> list[VectorSpace]:
    rank = len(axes.variances) // _RANK_SHARE
    cut = (axes.axes[:rank] / np.sqrt(axes.variances[:rank, None])).astype(np.float32)
    transforms = [axes.center(), *map(axes.whiten, SHRINKAGES), Transform(axes.mean, cut)]
    [plain] = layer_spaces([layer])
    return [
        plain,
        *(plain.transformed(TransformName.WHITEN, {layer: each}) for each in transforms),
    ]


def _accuracy(index: Index, path: str) -> Measure:
    from layerdex.indexer.readers.sources import read_labelled

    texts, labels = read_labelled(path)
    vectors = QueryVectors(index._open, texts).at(index.layers)

    def measure(snapshot: Snapshot, table: DocumentTable, space: VectorSpace) -> float:
        evaluation = evaluate_on_test(
            snapshot.layer,
            table,
            VotingOptions((_K,), n_resamples=0),
            vectors=vectors,
            test_labels=labels,
            spaces=[space],
        )
        return evaluation.best.values["accuracy"]

    return measure


def _retrieval(index: Index, queries: str, qrels: str) -> Measure:
    judged = RetrievalTask(queries, qrels).read()
    vectors = query_vectors(index._open, judged.texts, None).at(index.layers)

    def measure(snapshot: Snapshot, table: DocumentTable, space: VectorSpace) -> float:
        evaluation = evaluate_retrieval(
            snapshot.layer, table, judged, vectors=vectors, spaces=[space], n_resamples=0
        )
        return evaluation.best.values["ndcg@10"]

    return measure


if __name__ == "__main__":
    main()
