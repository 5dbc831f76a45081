"""The neighbours of held-out documents: those with another text, or in another fold."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from layerdex.search.knn.neighbors import Neighbors, NeighborSearch
from layerdex.search.knn.vector_space import GetLayer, VectorSpace
from layerdex.search.targets import SearchTarget
from layerdex.storage.snapshot import DocumentTable
from layerdex.storage.vectors.layer_vectors import VectorSource

_BLOCK = 4_096
_MAX_SPARE = 64

Positions = NDArray[np.int64]
"""Positions of documents in a table, (n,)."""

Prepare = Callable[[VectorSpace, DocumentTable], VectorSpace]
"""Returns a space prepared with the documents that may vote, and no others."""


def nearest_with_other_text(
    source: VectorSource, table: DocumentTable, k: int
) -> Iterator[tuple[Positions, Neighbors]]:
    """Yield the k nearest documents with another text, for blocks of positions in ``table``.

    The blocks, of distinct positions that together are all, depend on ``table`` alone, so that
    those of several sources can be read side by side. Missing neighbours come last and hold row
    -1.
    """
    groups = table.content_groups
    group_sizes = np.bincount(groups)[groups]
    # A document with n repeats needs n spare neighbours; a large group is filtered out instead.
    n_spare = 1 << np.ceil(np.log2(group_sizes)).astype(np.int64)
    for group in np.unique(groups[n_spare > _MAX_SPARE]):
        members, others = np.flatnonzero(groups == group), table.rows[groups != group]
        search = NeighborSearch(source, others, n_queries=len(members))
        for block in _blocks(members):
            yield block, search.find(source.gather(table.rows[block]), k)
    search = NeighborSearch(source, table.rows, n_queries=len(table.rows))
    for spare in np.unique(n_spare[n_spare <= _MAX_SPARE]).tolist():
        for block in _blocks(np.flatnonzero(n_spare == spare)):
            neighbors = search.find(source.gather(table.rows[block]), k + spare)
            yield block, _without_own_text(neighbors, table, block, k)


def nearest_in_other_folds(
    get_layer: GetLayer,
    table: DocumentTable,
    folds: NDArray[np.int64],
    k: int,
    *,
    space: VectorSpace,
    prepare: Prepare,
) -> Iterator[tuple[SearchTarget, Positions, Neighbors]]:
    """Yield the k nearest documents of other folds, for blocks of positions in ``table``.

    ``folds`` (n,) has the fold of each document. The target is that of the prepared space.
    """
    for fold in np.unique(folds):
        is_voter = folds != fold
        prepared = prepare(space, table.take(np.flatnonzero(is_voter).tolist()))
        source = prepared.vectors(get_layer)
        held_out = np.flatnonzero(~is_voter)
        search = NeighborSearch(source, table.rows[is_voter], n_queries=len(held_out))
        for block in _blocks(held_out):
            yield prepared.target, block, search.find(source.gather(table.rows[block]), k)


def _blocks(positions: Positions) -> Iterator[Positions]:
    for start in range(0, len(positions), _BLOCK):
        yield positions[start : start + _BLOCK]


def _without_own_text(
    neighbors: Neighbors, table: DocumentTable, block: Positions, k: int
) -> Neighbors:
    groups = table.content_groups
    at = np.searchsorted(table.rows, np.maximum(neighbors.rows, table.rows[0]))
    is_same = (groups[at] == groups[block][:, None]) | (neighbors.rows < 0)
    first = np.argsort(is_same, axis=1, kind="stable")[:, :k]
    rows = np.where(is_same, -1, neighbors.rows)
    return Neighbors(
        np.take_along_axis(rows, first, axis=1),
        np.take_along_axis(neighbors.similarities, first, axis=1),
    )
