"""Nearest documents of a query, with the user's own ids and texts in place of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from layerdex.arguments import check_count
from layerdex.records import Document, OnProgress, Rows, Vectors
from layerdex.search.knn.approximate import (
    ApproximateLayer,
    ApproximateNeighbors,
    find_approximate,
)
from layerdex.search.knn.neighbors import Neighbors
from layerdex.search.knn.random_pairs import MinSimilarity, resolve_min_similarity
from layerdex.search.knn.vector_space import VectorSpace
from layerdex.search.results import Hit, SearchResult
from layerdex.search.vectors.similarity import round_similarity, to_steps
from layerdex.storage.snapshot import Snapshot

GetApproximate = Callable[[int], ApproximateLayer | None]
"""Returns the approximate index of a layer that may be asked, if there is one."""


def search_documents(
    snapshot: Snapshot,
    queries: Sequence[str],
    vectors: Mapping[int, Vectors],
    *,
    space: VectorSpace,
    k: int,
    min_similarity: MinSimilarity | None = None,
    excluded: Rows | None = None,
    get_approximate: GetApproximate | None = None,
    on_progress: OnProgress | None = None,
) -> list[SearchResult]:
    """Return the hits of each of n queries, whose ``vectors`` (n, width) are given by layer.

    Hits below ``min_similarity`` are left out, except within the same step of similarity; a
    percentile is of all documents, whatever the target's conditions. ``excluded`` (n,) names a row
    for each query that is no hit: the document that was searched by. Without ``get_approximate``,
    and for transformed or fused vectors, hits are exact.
    """
    k = check_count("k", k)
    lowest = (
        None if min_similarity is None else resolve_min_similarity(snapshot, space, min_similarity)
    )
    where = space.target.where
    n_fetched = k if excluded is None else k + 1
    approximate = None
    if get_approximate is not None and space.stored_layer is not None:
        approximate = get_approximate(space.stored_layer)
    if approximate is None:
        rows = snapshot.rows(where) if where else None
        if excluded is not None and space.is_ranking:
            # A document has no rank in its own ranking; there is one query then.
            rows = np.setdiff1d(snapshot.rows() if rows is None else rows, excluded)
        neighbors = space.find(
            snapshot.layer, vectors, n_fetched, rows=rows, on_progress=on_progress
        )
        found = ApproximateNeighbors(neighbors, np.ones(len(queries)))
    else:
        of_layer = vectors[approximate.layer]
        found = find_approximate(
            snapshot, approximate, of_layer, n_fetched, where=where, on_progress=on_progress
        )
    neighbors = found.neighbors
    documents = snapshot.documents({int(row) for row in neighbors.rows.ravel() if row >= 0})
    excluded_rows = [None] * len(queries) if excluded is None else excluded.tolist()
    return [
        SearchResult(
            query,
            space.target,
            _hits(neighbors, i, documents, space=space, lowest=lowest, excluded=row)[:k],
            None if bound == 1 else bound,
        )
        for i, (query, row, bound) in enumerate(
            zip(queries, excluded_rows, found.bounds.tolist(), strict=True)
        )
    ]


def search_by_documents(
    snapshot: Snapshot,
    ids: Sequence[str],
    *,
    space: VectorSpace,
    k: int,
    min_similarity: MinSimilarity | None = None,
    get_approximate: GetApproximate | None = None,
) -> list[SearchResult]:
    """Return the hits by stored documents' vectors, each document itself left out.

    Raises `DocumentNotFoundError`.
    """
    rows = np.array([snapshot.row_of(document_id) for document_id in ids], dtype=np.int64)
    vectors = {layer: snapshot.layer(layer).gather(rows) for layer in space.layers}
    # Each query of a ranking ranks other documents: all but itself.
    n_together = 1 if space.is_ranking else max(len(ids), 1)
    return [
        result
        for start in range(0, len(ids), n_together)
        for part in [slice(start, start + n_together)]
        for result in search_documents(
            snapshot,
            ids[part],
            {layer: of_layer[part] for layer, of_layer in vectors.items()},
            space=space,
            k=k,
            min_similarity=min_similarity,
            excluded=rows[part],
            get_approximate=get_approximate,
        )
    ]


def _hits(
    neighbors: Neighbors,
    query: int,
    documents: Mapping[int, Document],
    *,
    space: VectorSpace,
    lowest: float | None,
    excluded: int | None,
) -> tuple[Hit, ...]:
    similarities = neighbors.similarities[query]
    is_near = to_steps(similarities) >= (-np.inf if lowest is None else to_steps(lowest))
    hits: list[Hit] = []
    for row, similarity, near in zip(neighbors.rows[query], similarities, is_near, strict=True):
        if row < 0 or row == excluded or not near:
            continue
        document = documents[int(row)]
        hits.append(
            Hit(
                rank=len(hits) + 1,
                id=document.id,
                similarity=None if space.is_ranking else round_similarity(similarity),
                label=document.label,
                text=document.text,
                metadata=document.metadata,
                score=float(similarity) if space.is_ranking else None,
            )
        )
    return tuple(hits)
