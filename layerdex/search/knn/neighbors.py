"""Exact nearest neighbours.

Two methods give the same result, and each is many times faster than the other somewhere. A single
query scans the mapped codes with FAISS (see `segment_scan`). Batches and selective filters decode
the rows to float32 and compare them in tiles. (100,000 × 384, k = 10: one query 4 ms against
190 ms.) Only codes that keep a vector's length are scanned; int8 is always decoded. A query of
transformed vectors scans the codes too (see `transformed_scan`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerdex.arguments import check_count
from layerdex.errors import OptionError
from layerdex.records import OnProgress, Rows, Vectors
from layerdex.search.knn.segment_scan import is_scanned, nearest_of_segments
from layerdex.search.knn.tiles.nearest import NearestSearch
from layerdex.search.knn.transformed_scan import scan_transformed
from layerdex.search.vectors.similarity import cosine_of_one, floor_of, to_steps
from layerdex.search.vectors.transform import Transform, TransformedVectors
from layerdex.storage.vectors.layer_vectors import LayerVectors, SegmentSlice, VectorSource

_NO_ROW = -1
N_SCANNED_QUERIES = 16
"""So many are asked one after the other; more are a batch."""


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The k nearest rows of n queries, the most similar first.

    ``rows`` is (n, k) int64 and ``similarities`` (n, k) float32 in [-1, 1]; k is the number asked
    for, or how many documents there are if these are fewer. Where an evaluation leaves neighbours
    out, the last positions hold row -1.
    """

    rows: NDArray[np.int64]
    similarities: NDArray[np.float32]


class NeighborSearch:
    """The live documents of a layer, or those of ``rows`` (ascending), for blocks of queries.

    ``n_queries`` is about how many queries there will be in all: for many it pays to prepare.
    """

    def __init__(self, layer: VectorSource, rows: Rows | None = None, *, n_queries: int) -> None:
        self._layer = layer
        self._rows = rows
        self._n_queries = n_queries
        self._scanned = _scanned(layer)
        self._many: NearestSearch | None = None
        self._n_documents = layer.n_documents if rows is None else len(rows)

    def find(
        self,
        queries: Vectors,
        k: int,
        *,
        min_similarity: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Neighbors:
        """Return the k nearest documents of each query, (n, width) float32, of any length.

        Similarity is the cosine; two that fall in the same step of `SIMILARITY_STEP` are ordered
        by row. Neighbours below ``min_similarity`` may be left out, with row -1 in their place.
        Raises `OptionError` for k < 1.
        """
        k = min(check_count("k", k), self._n_documents)
        if k == 0 or not len(queries):
            shape = (len(queries), k)
            return Neighbors(np.empty(shape, np.int64), np.empty(shape, np.float32))
        queries = unit_queries(queries)
        if self._scanned is not None and len(queries) <= N_SCANNED_QUERIES:
            scanned = self._scanned
            return stack_neighbors(
                [_find_by_scan(*scanned, one[None], k, self._rows) for one in queries]
            )
        if self._many is None:
            self._many = NearestSearch(self._layer, self._rows, n_queries=self._n_queries)
        floor = -2.0
        if min_similarity is not None:
            floor = float(floor_of(to_steps(min_similarity)))
        rows, similarities = self._many.find(queries, k, floor, on_progress=on_progress)
        return Neighbors(rows, similarities)


def find_neighbors(
    layer: VectorSource,
    queries: Vectors,
    k: int,
    *,
    rows: Rows | None = None,
    on_progress: OnProgress | None = None,
) -> Neighbors:
    """Return the k nearest live documents of each query; see `NeighborSearch.find`.

    ``rows`` (ascending) restricts the search; it is applied before neighbours are taken.
    """
    search = NeighborSearch(layer, rows, n_queries=len(queries))
    return search.find(queries, k, on_progress=on_progress)


def unit_queries(queries: Vectors) -> Vectors:
    """Return vectors (n, width) of any length as unit vectors, float32.

    Raises `OptionError` for one that is zero or not finite.
    """
    # In float32 the squares of components beyond 1e±19 overflow or vanish.
    wide = np.asarray(queries, dtype=np.float64)
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise OptionError("a query vector is zero or not finite")
    units: Vectors = (wide / lengths[:, None]).astype(np.float32)
    return units


def _scanned(layer: VectorSource) -> tuple[LayerVectors, Transform | None] | None:
    """Return the layer whose codes can be scanned and its transform, or None to decode."""
    transform = None
    if isinstance(layer, TransformedVectors):
        transform, layer = layer.transform, layer.layer
    if isinstance(layer, LayerVectors) and layer.keeps_length:
        return layer, transform
    return None


def _find_by_scan(
    layer: LayerVectors, transform: Transform | None, query: Vectors, k: int, rows: Rows | None
) -> Neighbors:
    """Return the exact k nearest of one query."""
    parts = [*layer.slices(rows)]
    if transform is None:
        found, similarities = nearest_of_segments(parts, query, k)
        return take_nearest(found[None], similarities[None], k)
    candidates = [_transformed(transform, part, query, k) for part in parts]
    candidate_rows, of_candidates = (
        np.concatenate(column) for column in zip(*candidates, strict=True)
    )
    return take_nearest(candidate_rows[None], of_candidates[None], k)


def _transformed(
    transform: Transform, part: SegmentSlice, query: Vectors, k: int
) -> tuple[Rows, NDArray[np.float64]]:
    if is_scanned(part, part.file.n):
        return scan_transformed(transform, part, query, k)
    return part.rows, cosine_of_one(query[0], transform.apply(part.decode(0, len(part.rows))))


def take_nearest(rows: Rows, similarities: NDArray[np.floating], k: int) -> Neighbors:
    """Order candidates by similarity step and row, and keep k, padded where there are fewer."""
    # Rounded first: a similarity is in the step that its shown value is in.
    similarities = similarities.astype(np.float32)
    missing = max(k - rows.shape[1], 0)
    rows = np.pad(rows, ((0, 0), (0, missing)), constant_values=_NO_ROW)
    similarities = np.pad(similarities, ((0, 0), (0, missing)), constant_values=-np.inf)
    order = np.lexsort((rows, -to_steps(similarities)), axis=-1)[:, :k]
    return Neighbors(
        np.take_along_axis(rows, order, axis=1),
        np.take_along_axis(similarities, order, axis=1),
    )


def stack_neighbors(results: Sequence[Neighbors]) -> Neighbors:
    """Return the neighbours of all queries of several results, of the same k each."""
    rows = np.concatenate([result.rows for result in results])
    return Neighbors(rows, np.concatenate([result.similarities for result in results]))
