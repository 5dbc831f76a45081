"""Nearest neighbours by an approximate index: its candidates are compared exactly, with the rest.

The index finds candidates among the rows that it has. Their stored vectors are compared as
`neighbors` compares them, and so are all rows that were added since (the tail). Filters and deletes
are applied within the scan. Where that would cost as much as comparing what a filter keeps, or
finds too few, all of it is compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from layerdex.arguments import check_count
from layerdex.errors import DamagedIndexError
from layerdex.records import OnProgress, Rows, Vectors
from layerdex.search.knn.neighbors import (
    N_SCANNED_QUERIES,
    Neighbors,
    NeighborSearch,
    find_neighbors,
    stack_neighbors,
    take_nearest,
    unit_queries,
)
from layerdex.search.knn.tiles.tile import run_in_threads
from layerdex.search.knn.tiles.vectors import blocks_of
from layerdex.storage.catalog.filters import Where
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.vectors.approximate import ApproximateIndex, Numbers, Selection
from layerdex.storage.vectors.layer_vectors import VectorSource

MEASURED_K = 10
"""Recall is measured of this many neighbours; for more, candidates and lists grow with them."""

_QUERIES_TOGETHER = 256
_GATHERED_BYTES = 64 << 20
"""Of the vectors that each thread compares at once."""
_CANDIDATES_BYTES = 256 << 20
_BYTES_PER_CANDIDATE = 64  # numbers, rows, similarities, steps and their order
_CANDIDATE_COST = 50.0
"""Of comparing a candidate exactly, where comparing a code costs 1."""
_ROW_COST, _ROW_COST_IN_BATCH = 50.0, 1.25
"""Of comparing a row where all are: of a batch of queries they are decoded once."""
_NEARLY_ALL = 0.9
"""Where so many are kept, and hardly a list is without any, they are searched as all are: of the
neighbours of a question one in ten is missing."""

_SPREAD_OF_NEARLY_ALL = 0.998
_SPREAD = 0.95
"""Of the lists that as many entries drawn at random would be in."""


@dataclass(frozen=True, slots=True)
class Measured:
    """How much a scan does where a filter keeps a ``share`` of the vectors, and what it finds.

    It compares the lists of ``n_probes`` centroids, or of ``n_probes_together`` where a filter
    keeps documents that are near to each other, and ``n_candidates`` exactly. ``recall`` is the
    mean over queries of the share of the 10 nearest that is found, ``bound`` its lower 95 % bound.
    """

    share: float
    n_probes: int
    n_probes_together: int
    n_candidates: int
    recall: float
    bound: float


@dataclass(frozen=True, slots=True)
class ApproximateLayer:
    """An approximate index of a layer, with all rows from ``first_row`` and below ``next_row``.

    ``measured`` are of falling shares, the first of all vectors.
    """

    index: ApproximateIndex
    layer: int
    name: str
    first_row: int
    next_row: int
    measured: Sequence[Measured]

    def at_share(self, share: float) -> Measured:
        """Return what to do for a filter that keeps a share, not less than the last measured.

        Between two measured shares it is the larger of both numbers: what keeps documents near to
        each other becomes harder as soon as an area is left out, not in step with the share.
        """
        wider = [measured for measured in self.measured if measured.share >= share][-1]
        narrower = next(measured for measured in self.measured if measured.share <= share)
        return Measured(
            share,
            max(wider.n_probes, narrower.n_probes),
            max(wider.n_probes_together, narrower.n_probes_together),
            max(wider.n_candidates, narrower.n_candidates),
            min(wider.recall, narrower.recall),
            min(wider.bound, narrower.bound),
        )


@dataclass(frozen=True, slots=True)
class ApproximateNeighbors:
    """Neighbours of n queries; ``bounds`` (n,) are those of their recall, 1 where exact."""

    neighbors: Neighbors
    bounds: NDArray[np.float64]


def scan_cost(index: ApproximateIndex, n_probes: int, n_candidates: int) -> float:
    """Return what a query takes, in codes compared: with centroids, lists, and candidates."""
    n_codes = min(n_probes, index.n_lists) * index.n / index.n_lists
    return index.n_lists + n_codes + _CANDIDATE_COST * n_candidates


def find_approximate(
    snapshot: Snapshot,
    approximate: ApproximateLayer,
    queries: Vectors,
    k: int,
    *,
    where: Where = (),
    on_progress: OnProgress | None = None,
) -> ApproximateNeighbors:
    """Return about the k nearest documents that match; see `NeighborSearch.find`.

    ``on_progress`` is told only where all are compared, which takes longer. There are k for each
    query if so many documents match. Raises `DamagedIndexError` if the index lacks a row that it
    must have.
    """
    k = check_count("k", k)
    vectors, rows = snapshot.layer(approximate.layer), snapshot.rows(where)
    n_covered = int(np.searchsorted(rows, approximate.next_row))
    covered, tail = rows[:n_covered], rows[n_covered:]
    index, share = approximate.index, n_covered / approximate.index.n
    if not len(queries) or share < approximate.measured[-1].share:
        return _exactly(vectors, queries, k, rows if where else None, on_progress)
    # Also where all are wanted: a forged index may have numbers of rows that there are not.
    chosen = _selection(snapshot, approximate, covered, where)
    selection = chosen if n_covered < index.n else None
    spread = _spread(index, chosen)
    is_nearly_all = share > _NEARLY_ALL and spread > _SPREAD_OF_NEARLY_ALL
    plan = approximate.at_share(1.0 if is_nearly_all else share)
    more = max(k / MEASURED_K, 1.0)
    n_probes = plan.n_probes if spread >= _SPREAD else plan.n_probes_together
    n_probes = min(math.ceil(n_probes * more), index.n_lists)
    n_candidates = math.ceil(plan.n_candidates * more)
    if scan_cost(index, n_probes, n_candidates) >= _row_cost(len(queries)) * n_covered:
        return _exactly(vectors, queries, k, rows if where else None, on_progress)
    units = unit_queries(queries)
    in_tail = NeighborSearch(vectors, tail, n_queries=len(units)) if len(tail) else None

    def find(some: Vectors) -> tuple[Neighbors, NDArray[np.int64]]:
        """Return neighbours of some queries, and how many candidates each has."""
        numbers = index.scan(some, n_candidates, n_probes=n_probes, selection=selection)
        candidates = np.where(numbers < 0, -1, numbers + approximate.first_row)
        similarities = compare_candidates(vectors, some, candidates)
        if in_tail is not None:
            of_tail = in_tail.find(some, k)
            candidates = np.concatenate([candidates, of_tail.rows], axis=1)
            similarities = np.concatenate([similarities, of_tail.similarities], axis=1)
        nearest = take_nearest(candidates, similarities, min(k, len(rows)))
        return nearest, (numbers >= 0).sum(axis=1)

    together = max(_CANDIDATES_BYTES // (_BYTES_PER_CANDIDATE * n_candidates), 1)
    parts = [find(units[block]) for block in blocks_of(len(units), together)]
    found = stack_neighbors([part for part, _ in parts])
    bounds = np.full(len(units), plan.bound)
    n_found = np.concatenate([n for _, n in parts])
    too_few = np.flatnonzero(n_found < min(k, n_covered))
    if len(too_few):
        exact = find_neighbors(vectors, units[too_few], k, rows=rows if where else None)
        found.rows[too_few], found.similarities[too_few] = exact.rows, exact.similarities
        bounds[too_few] = 1
    return ApproximateNeighbors(found, bounds)


def compare_candidates(
    vectors: VectorSource, queries: Vectors, candidates: Rows
) -> NDArray[np.float64]:
    """Return the similarities of unit vectors with some rows each, (n, m); -inf for row -1.

    They are summed in float64, as those of exact neighbours are.
    """
    similarities = np.full(candidates.shape, -np.inf)

    def compare(block: slice) -> None:
        is_row = candidates[block] >= 0
        gathered = vectors.gather(candidates[block][is_row])
        ends = np.cumsum(is_row.sum(axis=1))[:-1]
        for at, part in enumerate(np.split(gathered, ends), start=block.start):
            products = np.einsum("ij,j->i", part, queries[at].astype(np.float64))
            similarities[at, candidates[at] >= 0] = np.clip(products, -1, 1)

    n_bytes = max(candidates.shape[1], 1) * vectors.width * np.float32().nbytes
    together = min(max(_GATHERED_BYTES // n_bytes, 1), _QUERIES_TOGETHER)
    blocks = [*blocks_of(len(queries), together)]
    if len(blocks) > 1:
        for _ in vectors.slices(np.unique(candidates[candidates >= 0])):
            pass  # opens every file, which threads could not
    run_in_threads(partial(compare, block) for block in blocks)
    return similarities


def _row_cost(n_queries: int) -> float:
    return _ROW_COST if n_queries <= N_SCANNED_QUERIES else _ROW_COST_IN_BATCH


def _spread(index: ApproximateIndex, selection: Selection) -> float:
    """Return in how many lists a filter keeps entries, as a share of as many drawn at random."""
    missed = math.pow(1 - selection.n / index.n, index.n / index.n_lists)
    return selection.n_lists / ((1 - missed) * index.n_lists)


def _exactly(
    vectors: VectorSource,
    queries: Vectors,
    k: int,
    rows: Rows | None,
    on_progress: OnProgress | None,
) -> ApproximateNeighbors:
    found = find_neighbors(vectors, queries, k, rows=rows, on_progress=on_progress)
    return ApproximateNeighbors(found, np.ones(len(queries)))


def _selection(
    snapshot: Snapshot, approximate: ApproximateLayer, covered: Rows, where: Where
) -> Selection:
    """Return the selection of rows, which all questions of a commit share."""

    def select() -> Selection:
        numbers: Numbers = covered - approximate.first_row
        if len(numbers) and numbers[0] < 0:
            raise ValueError("a row before the first")
        return approximate.index.select(numbers)

    try:
        return snapshot.derived(
            ("selection", approximate.name, where), select, lambda made: made.size_bytes
        )
    except ValueError as error:
        raise DamagedIndexError(
            f"the approximate index of layer {approximate.layer} lacks documents: run 'layerdex "
            f"accelerate --layers {approximate.layer}' again"
        ) from error
