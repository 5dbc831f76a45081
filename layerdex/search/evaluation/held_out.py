"""The neighbours of held-out documents: those with another text, or in another fold."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from layerdex.records import OnProgress, progress_of_shares
from layerdex.search.knn.neighbors import Neighbors, NeighborSearch
from layerdex.search.knn.tiles.costs import ENCODE_NS, READ_NS, pair_ns
from layerdex.search.knn.tiles.nearest import NearestSearch
from layerdex.search.knn.tiles.others import find_others
from layerdex.search.knn.tiles.vectors import has_codes
from layerdex.search.knn.vector_space import GetLayer, VectorSpace
from layerdex.search.targets import SearchTarget
from layerdex.storage.snapshot import DocumentTable
from layerdex.storage.vectors.layer_vectors import VectorSource

_BLOCK = 4_096

Positions = NDArray[np.int64]
"""Positions of documents in a table, (n,)."""

Prepare = Callable[[VectorSpace, DocumentTable], VectorSpace]
"""Returns a space prepared with the documents that may vote, and no others."""


def nearest_with_other_text(
    source: VectorSource, table: DocumentTable, k: int, *, on_progress: OnProgress | None = None
) -> Iterator[tuple[Positions, Neighbors]]:
    """Yield the k nearest documents with another text, for blocks of positions in ``table``.

    The blocks, of distinct positions that together are all, depend on ``table`` alone, so that
    those of several sources can be read side by side. Missing neighbours come last and hold row
    -1. All are found before the first block comes.
    """
    n = len(table.rows)
    found, similarities = find_others(
        source, table.rows, min(k, n), groups=table.content_groups, on_progress=on_progress
    )
    rows = np.where(found < 0, -1, table.rows[found])
    for block in _blocks(np.arange(n)):
        yield block, Neighbors(rows[block], similarities[block])


def nearest_of_sample(
    source: VectorSource,
    table: DocumentTable,
    sample: Positions,
    k: int,
    *,
    on_progress: OnProgress | None = None,
) -> Iterator[tuple[Positions, Neighbors]]:
    """Yield the same neighbours of some documents, for blocks of positions in ``sample``.

    ``sample`` (n_sampled,) are positions in ``table``.
    """
    search = NearestSearch(source, table.rows, n_queries=len(sample), groups=table.content_groups)
    blocks = [*_blocks(np.arange(len(sample)))]
    shares = [1.0 * len(block) for block in blocks]
    n = len(table.rows)
    if on_progress is not None and has_codes(n, len(sample)):  # the first search makes them
        shares[0] += (READ_NS + ENCODE_NS) / pair_ns(n, source.width, len(sample))
    told = progress_of_shares(on_progress, shares, len(sample))
    for block, tell in zip(blocks, told, strict=True):
        asked = sample[block]
        found = search.find(
            source.gather(table.rows[asked]),
            min(k, len(table.rows)),
            groups=table.content_groups[asked],
            on_progress=tell,
        )
        yield block, Neighbors(*found)


def nearest_in_other_folds(
    get_layer: GetLayer,
    table: DocumentTable,
    folds: NDArray[np.int64],
    k: int,
    *,
    space: VectorSpace,
    prepare: Prepare,
    on_progress: OnProgress | None = None,
) -> Iterator[tuple[SearchTarget, Positions, Neighbors]]:
    """Yield the k nearest documents of other folds, for blocks of positions in ``table``.

    ``folds`` (n,) has the fold of each document. The target is that of the prepared space.
    """
    n_done = 0
    for fold in np.unique(folds):
        is_voter = folds != fold
        prepared = prepare(space, table.take(np.flatnonzero(is_voter).tolist()))
        source = prepared.vectors(get_layer)
        held_out = np.flatnonzero(~is_voter)
        search = NeighborSearch(source, table.rows[is_voter], n_queries=len(held_out))
        for block in _blocks(held_out):
            yield prepared.target, block, search.find(source.gather(table.rows[block]), k)
            n_done += len(block)
            if on_progress is not None:
                on_progress(n_done, len(folds))


def _blocks(positions: Positions) -> Iterator[Positions]:
    for start in range(0, len(positions), _BLOCK):
        yield positions[start : start + _BLOCK]
