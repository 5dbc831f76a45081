"""The k nearest of many vectors, for many queries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from layerdex.records import Rows, Vectors
from layerdex.search.knn.tiles.codes import PLAIN, Encoding, choose_encoding
from layerdex.search.knn.tiles.tile import (
    N_COLUMNS,
    N_ROWS,
    Pairs,
    Positions,
    Side,
    find_pairs,
    no_pairs,
    run_in_threads,
)
from layerdex.search.knn.tiles.vectors import CodedVectors, ManyVectors
from layerdex.search.vectors.similarity import SIMILARITY_STEP, to_steps
from layerdex.storage.vectors.layer_vectors import VectorSlice, VectorSource

PLAIN_BLOCK = 16_384
"""Plain vectors that are decoded at once: 25 MB at width 384."""

_N_SAMPLED_QUERIES = 256
N_CODED_QUERIES = 1_000
"""For fewer queries, plain vectors are compared before their codes are made."""

N_CODED = 16_384
"""For fewer documents, too."""


class NearestSearch:
    """The nearest of n documents of a source, ``rows`` (ascending; None for all)."""

    def __init__(
        self,
        source: VectorSource,
        rows: Rows | None = None,
        *,
        n_queries: int,
        arithmetic: str | None = None,
        n_threads: int | None = None,
    ) -> None:
        """Take a source; ``n_queries`` is about how many there will be in all."""
        self._source = source
        self._n_queries = n_queries
        self._arithmetic = arithmetic
        self._n_threads = n_threads
        self._chosen = rows
        self._coded: CodedVectors | None = None
        parts = [part.rows for part in source.slices(rows)]
        self._rows = np.concatenate([np.empty(0, np.int64), *parts])

    def find(
        self, queries: Vectors, k: int, floors: NDArray[np.float64] | float = -2.0
    ) -> tuple[Rows, NDArray[np.float32]]:
        """Return the rows and similarities (n_queries, k) of the nearest, the nearest first.

        ``queries`` are unit vectors, (n_queries, width) float32; k is at most the number of
        documents. Similarities are summed in float64; those in the same step of
        `SIMILARITY_STEP` are ordered by row. What does not reach a query's floor is left out, with
        row -1 and similarity -2 in its place.
        """
        lowest = np.broadcast_to(np.asarray(floors, np.float64), len(queries))
        blocks = range(0, len(queries), N_ROWS)
        if self._n_queries < N_CODED_QUERIES or len(self._rows) < N_CODED:
            best = [
                _Best(PLAIN, queries[at : at + N_ROWS], k, lowest[at : at + N_ROWS])
                for at in blocks
            ]
            run_in_threads(self._plain_jobs(best), self._n_threads)
        else:
            coded = self._encoded(queries, k, lowest)
            best = [
                _Best(coded.encoding, queries[at : at + N_ROWS], k, lowest[at : at + N_ROWS])
                for at in blocks
            ]
            jobs = (partial(_compare, each, coded.panels()) for each in best)
            run_in_threads(jobs, self._n_threads)
        found = [each.close() for each in best]
        positions = np.concatenate([np.empty((0, k), np.int64), *(one for one, _ in found)])
        similarities = np.concatenate(
            [np.empty((0, k), np.float32), *(other for _, other in found)]
        )
        return np.where(positions < 0, -1, self._rows[positions]), similarities

    def _plain_jobs(self, best: list[_Best]) -> Iterator[Callable[[], None]]:
        first = 0
        for part in self._source.slices(self._chosen):
            n = len(part.rows)
            for start in range(0, n, PLAIN_BLOCK):
                stop = min(start + PLAIN_BLOCK, n)
                yield partial(_compare_part, best, part, start, stop, first)
            first += n

    def _encoded(self, queries: Vectors, k: int, lowest: NDArray[np.float64]) -> CodedVectors:
        if self._coded is None:
            vectors = ManyVectors(self._source, self._rows)
            sample = vectors.sample()
            drawn = np.random.default_rng(0).choice(
                len(queries), min(len(queries), _N_SAMPLED_QUERIES), replace=False
            )
            # The k-th of all is about this one of the sample.
            place = max(round(k * len(sample) / len(vectors)), 1)
            near = np.partition(queries[drawn] @ sample.T, -place, axis=1)[:, -place]
            floors = np.maximum(near, lowest[drawn])
            encoding = choose_encoding(queries[drawn], sample, floors, self._arithmetic)
            codes = vectors.encode(encoding, self._n_threads)
            self._coded = CodedVectors(encoding, vectors, codes)
        return self._coded


def _compare(best: _Best, panels: Iterable[tuple[int, Side]]) -> None:
    for first, panel in panels:
        best.compare(first, panel)


def _compare_part(best: list[_Best], part: VectorSlice, start: int, stop: int, first: int) -> None:
    vectors = part.decode(start, stop)
    codes = PLAIN.encode(vectors)
    for at in range(0, stop - start, N_COLUMNS):
        block = slice(at, min(at + N_COLUMNS, stop - start))
        panel = Side(codes[block], vectors[block].__getitem__)
        for each in best:
            each.compare(first + start + at, panel)


class _Best:
    """The best of what a block of queries has been compared with."""

    def __init__(
        self, encoding: Encoding, queries: Vectors, k: int, lowest: NDArray[np.float64]
    ) -> None:
        self._encoding = encoding
        self._side = Side(encoding.encode(queries), queries.__getitem__)
        self._k = k
        self._lowest = lowest
        self._kth = np.full(len(queries), -np.inf)  # in steps
        self._last = np.full(len(queries), np.iinfo(np.int64).max)
        self._parts = [no_pairs()]
        self._n_new = 0
        self._lock = Lock()

    def compare(self, first: int, panel: Side) -> None:
        """Compare the queries with vectors whose positions begin at ``first``."""
        with self._lock:
            # Where all the best come before this panel, an equal one is no better.
            edge = np.where(self._last < first, 0.5, -0.5)
            floors = np.maximum((self._kth + edge) * SIMILARITY_STEP, self._lowest)
        found = find_pairs(self._encoding, self._side, panel, floors, k=self._k)
        if not len(found.rows):
            return
        with self._lock:
            self._parts.append(found._replace(columns=found.columns + first))
            self._n_new += len(found.rows)
            if self._n_new >= self._k * len(self._kth) / 2:
                self._keep_best()

    def close(self) -> tuple[Positions, NDArray[np.float32]]:
        """Return positions and similarities (n_queries, k), the nearest first."""
        pairs, ranks = self._keep_best()
        positions = np.full((len(self._kth), self._k), -1, np.int64)
        similarities = np.full((len(self._kth), self._k), -2, np.float32)
        positions[pairs.rows, ranks] = pairs.columns
        similarities[pairs.rows, ranks] = pairs.similarities
        return positions, similarities

    def _keep_best(self) -> tuple[Pairs, Positions]:
        """Keep the first k of each query, and return them with their ranks."""
        pairs = Pairs(*(np.concatenate(column) for column in zip(*self._parts, strict=True)))
        steps = to_steps(pairs.similarities)
        order = np.lexsort((pairs.columns, -steps, pairs.rows))
        rows = pairs.rows[order]
        starts = np.searchsorted(rows, np.arange(len(self._kth)))
        ranks = np.arange(len(rows)) - starts[rows]
        kept = ranks < self._k
        order, ranks = order[kept], ranks[kept]
        pairs = Pairs(*(column[order] for column in pairs))
        self._parts, self._n_new = [pairs], 0
        is_full = pairs.rows[ranks == self._k - 1]
        self._kth[is_full] = steps[order][ranks == self._k - 1]
        last = np.full(len(self._kth), -1, np.int64)
        np.maximum.at(last, pairs.rows, pairs.columns)
        self._last[is_full] = last[is_full]
        return pairs, ranks
