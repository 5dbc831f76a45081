"""Choosing how much an approximate scan does, so that its recall reaches a target.

Queries are split in halves. The cheapest setting is taken whose recall is bounded by the target on
both; what is reported is of the second half. As both take part in the choice, the bound is
approximate: the best of several settings has had some luck. Costs are counted, not timed, so that
the same vectors give the same choice.

The bound is Wilson's (1927, JASA 22) for a share of n_eff trials, one-sided, where n_eff is how
many independent trials have the variance that recall has between queries (Korn and Graubard 1998,
Survey Methodology 24: effective sample size). Recall is 1 for most queries: a bootstrap of queries
that all have recall 1 would claim a bound of 1, and this one never does.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from layerdex.errors import OptionError
from layerdex.records import Rows, Vectors
from layerdex.search.knn.approximate import (
    MEASURED_K,
    Measured,
    compare_candidates,
    scan_cost,
)
from layerdex.search.knn.neighbors import find_neighbors
from layerdex.search.knn.tiles.vectors import blocks_of
from layerdex.search.vectors.similarity import to_steps
from layerdex.storage.vectors.approximate import ApproximateIndex
from layerdex.storage.vectors.layer_vectors import VectorSource

SHARES = (1.0, 0.3, 0.1, 0.03, 0.01)
"""Of the vectors that a filter keeps: drawn at random, and as many that are near to each other.

Where documents on one topic are kept, most queries are far from all of them, and recall is lower.
"""

_N_TOPICS = 8
"""Of each share: recall differs between topics. Each has a part of the queries."""

_MOST_SPREAD = 4
"""Of how many times as many documents around a list those of a topic are drawn."""

_CANDIDATES = (20, 50, 100, 200, 400)
_Z = 1.6448536269514722  # of a one-sided 95 % bound
_LEAST_PER_HALF, _MOST_PER_HALF = 500, 5_000
MOST_GIVEN = 2 * _MOST_PER_HALF
"""Of the queries that are given: more show hardly more."""

_QUERIES_TOGETHER = 1_024  # some 200 bytes for each of their candidates: 80 MB
_SEED = 0


@dataclass(frozen=True, slots=True)
class Questions:
    """Unit vectors (n, width) to search by, in random order; ``own`` (n,) is a stored one's row.

    Of queries that were given it is -1. A document is no neighbour of itself.
    """

    vectors: Vectors
    own: Rows

    def halves(self) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
        """Return two halves, each as the positions of given queries and of stored vectors.

        They are bounded apart: of both together, a few hard questions would hardly count.
        """
        is_given = self.own < 0
        kinds = [np.flatnonzero(of_kind) for of_kind in (is_given, ~is_given)]
        first = [of_kind[: len(of_kind) // 2] for of_kind in kinds]
        second = [of_kind[len(of_kind) // 2 :] for of_kind in kinds]
        return [part for part in first if len(part)], [part for part in second if len(part)]

    @property
    def n_confirming(self) -> int:
        """The number of queries in the second half."""
        return sum(map(len, self.halves()[1]))


def n_questions(target: float) -> int:
    """Return how many queries are needed for both halves to be able to bound a recall.

    Twice as many as would do if all neighbours were found.
    """
    per_half = math.ceil(2 * _Z**2 * target / (1 - target))
    return 2 * min(max(per_half, _LEAST_PER_HALF), _MOST_PER_HALF)


def check_can_show(n: int, target: float) -> None:
    """Raise `OptionError` unless n given queries could bound a recall, if none missed anything."""
    least = 2 * math.ceil(_Z**2 * target / (1 - target))
    if n < least:
        raise OptionError(
            f"{n:,} queries cannot show a recall of {target:g}, even if nothing is missed: give at "
            f"least {least:,}, better {2 * least:,}, or leave them out"
        )


def recall_bound(recalls: NDArray[np.float64]) -> float:
    """Return the one-sided lower 95 % bound of the mean of recalls (n,), each from 0 to 1."""
    n, mean = len(recalls), float(recalls.mean())
    variance = float(recalls.var(ddof=1)) if n > 1 else 0.0
    n_eff = float(n)
    if variance > 0:
        # No more than if each neighbour of each query were a trial of its own.
        n_eff = min(n * mean * (1 - mean) / variance, n * MEASURED_K)
    centre = mean + _Z**2 / (2 * n_eff)
    spread = _Z * math.sqrt(mean * (1 - mean) / n_eff + _Z**2 / (4 * n_eff**2))
    bound = (centre - spread) / (1 + _Z**2 / n_eff)
    # Never more than if all queries had recall 1, which n trials without a failure show.
    return min(max(bound, 0.0), n / (n + _Z**2))


def choose(
    vectors: VectorSource,
    index: ApproximateIndex,
    rows: Rows,
    questions: Questions,
    *,
    target: float,
    on_done: Callable[[int], None] | None = None,
) -> tuple[Measured, ...]:
    """Return the setting for each of `SHARES` in which at least ten vectors for each query are.

    ``rows`` are those of the index, ascending, in the order of its numbers from ``rows[0]``. If no
    setting reaches the target, the cheapest of the highest bound is returned.
    """
    rng = np.random.default_rng(_SEED)
    first_row = int(rows[0])
    measured = []
    for done, share in enumerate(SHARES, 1):
        n_kept = round(share * len(rows))
        # So few are compared exactly; see `ApproximateLayer.at_share`.
        if share < 1 and n_kept < MEASURED_K**2:
            break
        kinds = [[rows]]
        if share < 1:
            at_random = np.sort(rng.choice(rows, n_kept, replace=False))
            around = rng.choice(index.n_lists, min(_N_TOPICS, index.n_lists), replace=False)
            topics = []
            for n_topic, at in enumerate(around.tolist()):
                # Whole lists are the easiest topic: those of users share lists with others.
                n_around = min((1 + n_topic % _MOST_SPREAD) * n_kept, len(rows))
                near = index.numbers_around(at, n_around)
                topics.append(np.sort(rng.choice(near, n_kept, replace=False)) + first_row)
            kinds = [[at_random], topics]
        by_filter = [
            _choose_at(vectors, index, filters, questions, share, target)
            for kind in kinds
            for filters in [_share_out(vectors, kind, first_row, questions)]
        ]
        measured.append(_combined(by_filter))
        if on_done is not None:
            on_done(done)
    return tuple(measured)


@dataclass(frozen=True, slots=True)
class _Filter:
    """The rows that a filter keeps, and the queries that are asked with it.

    ``at`` (n,) are the queries' positions, ``floors`` (n,) the step of the k-th nearest of each.
    """

    rows: Rows
    first_row: int
    questions: Questions
    at: NDArray[np.int64]
    floors: NDArray[np.float64]


def _share_out(
    vectors: VectorSource, kept: Sequence[Rows], first_row: int, questions: Questions
) -> list[_Filter]:
    """Return a filter for each rows that are kept, with an equal part of the queries' halves."""
    halves = [part for half in questions.halves() for part in half]
    filters = []
    for first, rows in enumerate(kept):
        at = np.concatenate([part[first :: len(kept)] for part in halves])
        some = Questions(questions.vectors[at], questions.own[at])
        filters.append(_Filter(rows, first_row, some, at, _floors(vectors, rows, some)))
    return filters


def _combined(by_filter: Sequence[Measured]) -> Measured:
    """Return what reaches the lowest bound of all filters, the last of which is the hardest kind.

    More candidates than were measured lose nothing.
    """
    first, lowest = by_filter[0], min(by_filter, key=lambda each: each.bound)
    return Measured(
        first.share,
        first.n_probes,
        max(each.n_probes for each in by_filter),
        max(each.n_candidates for each in by_filter),
        lowest.recall,
        lowest.bound,
    )


def _choose_at(
    vectors: VectorSource,
    index: ApproximateIndex,
    filters: Sequence[_Filter],
    questions: Questions,
    share: float,
    target: float,
) -> Measured:
    halves = questions.halves()

    @cache
    def measure(n_probes: int) -> list[tuple[float, Measured]]:
        """Return for each number of candidates the lower bound of both halves, and the figures."""
        made = []
        by_candidates = np.empty((len(_CANDIDATES), len(questions.own)))
        for each in filters:
            by_candidates[:, each.at] = _recalls(vectors, index, each, n_probes)
        for n_candidates, recalls in zip(_CANDIDATES, by_candidates, strict=True):
            (first, _), (bound, recall) = (_lowest(recalls, parts, filters) for parts in halves)
            figures = Measured(share, n_probes, n_probes, n_candidates, recall, bound)
            made.append((min(first, bound), figures))
        return made

    def reaches(n_probes: int) -> bool:
        return max(bound for bound, _ in measure(n_probes)) >= target

    # More lists find more, so that few of the numbers have to be tried.
    numbers = [*_numbers_of_probes(index)]
    start = bisect_left(numbers, True, key=reaches)
    if start == len(numbers):  # too few queries may be the reason: more lists would not help
        target = max(bound for bound, _ in measure(index.n_lists))
        start = bisect_left(numbers, True, key=reaches)
    best = math.inf, measure(numbers[start])[0][1]  # replaced by the first that reaches the target
    for n_probes in numbers[start:]:
        if scan_cost(index, n_probes, min(_CANDIDATES)) >= best[0]:
            break
        for bound, made in measure(n_probes):
            cost = scan_cost(index, n_probes, made.n_candidates)
            if bound >= target and cost < best[0]:
                best = cost, made
    return best[1]


def _lowest(
    recalls: NDArray[np.float64],
    parts: Sequence[NDArray[np.int64]],
    filters: Sequence[_Filter],
) -> tuple[float, float]:
    """Return the lowest bound of parts of the queries, and the mean of that part.

    The bound is of the mean filter, and topics differ more than by chance: it is not above the mean
    of the hardest filter.
    """
    bound, mean = min((recall_bound(recalls[part]), float(recalls[part].mean())) for part in parts)
    half = np.concatenate(parts)
    of_filters = [recalls[np.intersect1d(half, each.at)] for each in filters]
    return min([bound, *(float(each.mean()) for each in of_filters if len(each))]), mean


def _numbers_of_probes(index: ApproximateIndex) -> Iterator[int]:
    n = 1
    while n < index.n_lists:
        yield n
        n = math.ceil(n * math.sqrt(2))
    yield index.n_lists


def _floors(vectors: VectorSource, kept: Rows, questions: Questions) -> NDArray[np.float64]:
    """Return the step of similarity of the k-th nearest of each query, itself left out."""
    found = find_neighbors(vectors, questions.vectors, MEASURED_K + 1, rows=kept)
    steps = to_steps(found.similarities)
    steps[found.rows == questions.own[:, None]] = np.inf
    has_own = np.isposinf(steps).any(axis=1)
    ordered = -np.sort(-steps, axis=1)
    floors: NDArray[np.float64] = np.where(
        has_own, ordered[:, MEASURED_K], ordered[:, MEASURED_K - 1]
    )
    return floors


def _recalls(
    vectors: VectorSource,
    index: ApproximateIndex,
    of: _Filter,
    n_probes: int,
) -> NDArray[np.float64]:
    """Return for each number of candidates the recall of each of a filter's queries.

    A candidate that is as similar as the k-th nearest counts: of equal documents any will do.
    """
    selection, questions = None, of.questions
    if len(of.rows) < index.n:
        selection = index.select(of.rows - of.first_row)
    n = max(_CANDIDATES)
    recalls = np.empty((len(_CANDIDATES), len(questions.own)))
    for block in blocks_of(len(questions.own), _QUERIES_TOGETHER):
        some = questions.vectors[block]
        numbers = index.scan(some, n, n_probes=n_probes, selection=selection)
        candidates = np.where(numbers < 0, -1, numbers + of.first_row)
        candidates[candidates == questions.own[block, None]] = -1
        steps = to_steps(compare_candidates(vectors, some, candidates))
        n_found = np.cumsum(steps >= of.floors[block, None], axis=1)
        found = n_found[:, np.array(_CANDIDATES) - 1].T
        recalls[:, block] = np.minimum(found, MEASURED_K) / MEASURED_K
    return recalls
