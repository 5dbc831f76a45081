"""The k nearest of many vectors, for many queries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from layerdex.records import OnProgress, Rows, Vectors, progress_of_shares, tell_beginning
from layerdex.search.knn.tiles.asked_device import asked_device
from layerdex.search.knn.tiles.best import Best, close
from layerdex.search.knn.tiles.codes import PLAIN, Encoding, choose_encoding
from layerdex.search.knn.tiles.costs import ENCODE_NS, READ_NS, pair_ns
from layerdex.search.knn.tiles.device import NO_CODES, Device, DeviceVectors
from layerdex.search.knn.tiles.tile import (
    N_COLUMNS,
    N_ROWS,
    Positions,
    Side,
    find_pairs,
    is_of_other_group,
    run_in_threads,
)
from layerdex.search.knn.tiles.vectors import (
    CodedVectors,
    ManyVectors,
    blocks_of,
    has_codes,
)
from layerdex.storage.vectors.layer_vectors import VectorSlice, VectorSource

PLAIN_BLOCK = 4_096
"""Plain vectors that are decoded at once: 6 MB at width 384."""

_N_SAMPLED_QUERIES = 256


class NearestSearch:
    """The nearest of n documents of a source, ``rows`` (ascending; None for all)."""

    def __init__(
        self,
        source: VectorSource,
        rows: Rows | None = None,
        *,
        n_queries: int,
        groups: NDArray[np.int64] | None = None,
        arithmetic: str | None = None,
        n_threads: int | None = None,
    ) -> None:
        """Take a source; ``n_queries`` is about how many there will be in all.

        ``groups`` (n,) are those of ``rows``; see `find`.
        """
        self._source = source
        self._n_queries = n_queries
        self._arithmetic = arithmetic
        self._n_threads = n_threads
        self._chosen = rows
        self._coded: CodedVectors | None = None
        self._on_device: DeviceVectors | None = None
        parts = [part.rows for part in source.slices(rows)]
        self._rows = np.concatenate([np.empty(0, np.int64), *parts])
        self._groups = groups
        if rows is not None and groups is not None:
            self._groups = groups[np.searchsorted(rows, self._rows)]

    def find(
        self,
        queries: Vectors,
        k: int,
        floors: NDArray[np.float64] | float = -2.0,
        *,
        groups: NDArray[np.int64] | None = None,
        on_progress: OnProgress | None = None,
    ) -> tuple[Rows, NDArray[np.float32]]:
        """Return the rows and similarities (n_queries, k) of the nearest, the nearest first.

        ``queries`` are unit vectors, (n_queries, width) float32; k is at most the number of
        documents. Similarities are summed in float64; those in the same step of
        `SIMILARITY_STEP` are ordered by row. What does not reach a query's floor is left out, with
        row -1 and similarity -2 in its place, and so is a document of the query's own group, where
        ``groups`` (n_queries,) are given.
        """
        lowest = np.broadcast_to(np.asarray(floors, np.float64), len(queries))
        is_plain = not has_codes(len(self._rows), self._n_queries)
        shares = (0.0, 1.0)
        if not is_plain and self._coded is None and on_progress is not None:
            n = len(self._rows)
            compare_ns = len(queries) * pair_ns(n, self._source.width, self._n_queries)
            shares = (READ_NS + ENCODE_NS, compare_ns)
        told = progress_of_shares(on_progress, shares, len(queries))
        tell_beginning(told[0])
        if not is_plain and (device := asked_device()) is not None:
            return self._find_on(device, queries, k, lowest, groups, told)
        coded = None if is_plain else self._encoded(queries, k, lowest, told[0])
        encoding = PLAIN if coded is None else coded.encoding
        asked = []
        for at in range(0, len(queries), N_ROWS):
            block = queries[at : at + N_ROWS]
            side = Side(encoding.encode(block), block.__getitem__)
            is_other = None
            if groups is not None and self._groups is not None:
                is_other = partial(is_of_other_group, groups[at : at + N_ROWS], self._groups)
            asked.append(_Asked(side, Best(k, lowest[at : at + N_ROWS]), is_other))
        if coded is None:
            jobs = self._plain_jobs(asked)
        else:
            jobs = (partial(_compare, encoding, each, coded.panels()) for each in asked)
        run_in_threads(jobs, self._n_threads, told[1])
        positions, similarities = close([each.best for each in asked], k)
        return np.where(positions < 0, -1, self._rows[positions]), similarities

    def _find_on(
        self,
        device: Device,
        queries: Vectors,
        k: int,
        lowest: NDArray[np.float64],
        groups: NDArray[np.int64] | None,
        told: list[OnProgress | None],
    ) -> tuple[Rows, NDArray[np.float32]]:
        if self._on_device is None:
            vectors = ManyVectors(self._source, self._rows)
            self._on_device = DeviceVectors(device, vectors, told[0])
        best = []
        for at in blocks_of(len(queries), device.n_rows):
            block = queries[at]
            best.append(Best(k, lowest[at]))
            self._on_device.find_nearest(
                Side(NO_CODES, block.__getitem__),
                best[-1],
                own_groups=None if groups is None else groups[at],
                groups=self._groups,
            )
            if (tell := told[1]) is not None:
                tell(at.stop, len(queries))
        positions, similarities = close(best, k)
        return np.where(positions < 0, -1, self._rows[positions]), similarities

    def _plain_jobs(self, asked: list[_Asked]) -> Iterator[Callable[[], None]]:
        first = 0
        for part in self._source.slices(self._chosen):
            n = len(part.rows)
            for start in range(0, n, PLAIN_BLOCK):
                stop = min(start + PLAIN_BLOCK, n)
                yield partial(_compare_part, asked, part, start, stop, first)
            first += n

    def _encoded(
        self,
        queries: Vectors,
        k: int,
        lowest: NDArray[np.float64],
        on_progress: OnProgress | None,
    ) -> CodedVectors:
        if self._coded is None:
            told = progress_of_shares(on_progress, (READ_NS, ENCODE_NS), len(self._rows))
            vectors = ManyVectors(self._source, self._rows, told[0])
            sample = vectors[vectors.sample()]
            drawn = np.random.default_rng(0).choice(
                len(queries), min(len(queries), _N_SAMPLED_QUERIES), replace=False
            )
            # The k-th of all is about this one of the sample.
            place = max(round(k * len(sample) / len(vectors)), 1)
            near = np.partition(queries[drawn] @ sample.T, -place, axis=1)[:, -place]
            floors = np.maximum(near, lowest[drawn])
            encoding = choose_encoding(queries[drawn], sample, floors, self._arithmetic)
            codes = vectors.encode(encoding, self._n_threads, told[1])
            self._coded = CodedVectors(encoding, vectors, codes)
        return self._coded


class _Asked(NamedTuple):
    """At most `N_ROWS` queries, and the best of each so far.

    ``is_other`` takes the first position of a panel, and then is as `find_pairs` wants it.
    """

    side: Side
    best: Best
    is_other: Callable[[int, Positions, Positions], NDArray[np.bool_]] | None


def _compare(encoding: Encoding, asked: _Asked, panels: Iterable[tuple[int, Side]]) -> None:
    side, best, is_other = asked
    for first, panel in panels:
        found = find_pairs(
            encoding,
            side,
            panel,
            best.floors(first),
            is_wanted=None if is_other is None else partial(is_other, first),
            k=best.k,
        )
        best.add(found.shift(0, first))


def _compare_part(
    asked: list[_Asked], part: VectorSlice, start: int, stop: int, first: int
) -> None:
    vectors = part.decode(start, stop)
    codes = PLAIN.encode(vectors)
    for at in range(0, stop - start, N_COLUMNS):
        block = slice(at, min(at + N_COLUMNS, stop - start))
        panel = Side(codes[block], vectors[block].__getitem__)
        for each in asked:
            _compare(PLAIN, each, [(first + start + at, panel)])
