"""Rankings of several layers as one: reciprocal rank fusion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from layerdex.arguments import check_count
from layerdex.records import Rows, Vectors
from layerdex.search.knn.neighbors import Neighbors
from layerdex.search.vectors.similarity import cosine, to_steps
from layerdex.storage.vectors.layer_vectors import VectorSource

_RANK_OFFSET = 60
_BLOCK = 64  # queries ranked at once: 50 MB for a layer of 100,000 documents


def rank_fused(
    layers: Sequence[VectorSource],
    queries: Sequence[Vectors],
    weights: Sequence[float],
    k: int,
    *,
    rows: Rows | None = None,
) -> Neighbors:
    """Return the k documents with the highest reciprocal ranks over full rankings.

    ``queries`` hold the vectors (n, width) of the same n questions at each layer. The result's
    ``similarities`` are Σ w / (60 + rank) / Σ w, ranks counting from 1 (Cormack, Clarke and
    Büttcher, SIGIR 2009). At each layer, documents of equal similarity are ranked by row, as in a
    search there; so are equal fused ones.
    """
    k = min(check_count("k", k), layers[0].n_documents if rows is None else len(rows))
    shares = np.asarray(weights) / np.sum(weights)
    results = [Neighbors(np.empty((0, k), np.int64), np.empty((0, k), np.float32))]
    for start in range(0, len(queries[0]), _BLOCK):
        block = [vectors[start : start + _BLOCK] for vectors in queries]
        fused: NDArray[np.float64] | float = 0.0
        for share, layer, vectors in zip(shares, layers, block, strict=True):
            ranked_rows, ranks = _rank(layer, vectors, rows)
            fused = fused + share / (_RANK_OFFSET + ranks)
        fused = np.asarray(fused)
        ties = np.broadcast_to(ranked_rows, fused.shape)
        best = np.lexsort((ties, -fused), axis=-1)[:, :k]
        scores = np.take_along_axis(fused, best, axis=1).astype(np.float32)
        results.append(Neighbors(ranked_rows[best], scores))
    return Neighbors(
        np.concatenate([result.rows for result in results]),
        np.concatenate([result.similarities for result in results]),
    )


def _rank(
    layer: VectorSource, queries: Vectors, rows: Rows | None
) -> tuple[Rows, NDArray[np.int64]]:
    """Return all rows (n,), and the rank of each for each query, (n_queries, n) from 1."""
    slice_rows, slice_similarities = (
        [np.empty(0, np.int64)],
        [np.empty((len(queries), 0), np.float32)],
    )
    for each in layer.slices(rows):
        slice_rows.append(each.rows)
        slice_similarities.append(cosine(queries, each.decode(0, len(each.rows))))
    similarities = np.concatenate(slice_similarities, axis=1)
    order = np.argsort(-to_steps(similarities), axis=1, kind="stable")  # rows ascend
    ranks = np.empty(order.shape, dtype=np.int64)
    np.put_along_axis(ranks, order, np.arange(1, order.shape[1] + 1)[None], axis=1)
    return np.concatenate(slice_rows), ranks
