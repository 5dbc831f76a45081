"""The best that queries have been compared with."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from layerdex.search.knn.tiles.tile import Pairs, Positions, join, no_pairs
from layerdex.search.vectors.similarity import SIMILARITY_STEP, floor_of, to_steps

_MOST_STEPS = round(1 / SIMILARITY_STEP)


class Best:
    """The k best of each of n queries (at most 2,048), as far as several threads compared them."""

    def __init__(self, k: int, lowest: NDArray[np.float64]) -> None:
        """Take ``lowest`` (n,), similarities below which nothing is wanted."""
        self.k = k
        self._lowest = lowest
        self._kth = np.full(len(lowest), -np.inf)  # in steps
        self._last = np.full(len(lowest), np.iinfo(np.int64).max)
        self._parts = [no_pairs()]
        self._n_new = 0
        self._lock = Lock()

    def floors(self, first: int) -> NDArray[np.float64]:
        """Return the similarities (n,) that count of vectors whose positions begin at ``first``."""
        with self._lock:
            # Where all the best come before these, an equal one is no better.
            steps = self._kth + (self._last < first)
            return np.maximum(floor_of(steps), self._lowest)

    def add(self, pairs: Pairs) -> None:
        """Take pairs of a query, as the row, and the position of what it was compared with."""
        if not len(pairs.rows):
            return
        with self._lock:
            self._parts.append(pairs)
            self._n_new += len(pairs.rows)
            if self._n_new >= self.k * len(self._kth) / 2:
                self._keep_best()

    def close(self) -> tuple[Positions, NDArray[np.float32]]:
        """Return positions and similarities (n, k), the nearest first; -1 and -2 where none is."""
        pairs, ranks = self._keep_best()
        positions = np.full((len(self._kth), self.k), -1, np.int64)
        similarities = np.full((len(self._kth), self.k), -2, np.float32)
        positions[pairs.rows, ranks] = pairs.columns
        similarities[pairs.rows, ranks] = pairs.similarities
        return positions, similarities

    def _keep_best(self) -> tuple[Pairs, Positions]:
        """Keep the first k of each query, and return them with their ranks."""
        pairs = join(self._parts)
        steps = to_steps(pairs.similarities)
        # One number is sorted seven times as fast as three: 11 bits, 20 and 32.
        key = pairs.rows << 52 | (_MOST_STEPS - steps).astype(np.int64) << 32 | pairs.columns
        order = np.argsort(key)
        rows = pairs.rows[order]
        starts = np.searchsorted(rows, np.arange(len(self._kth)))
        ranks = np.arange(len(rows)) - starts[rows]
        kept = ranks < self.k
        order, ranks = order[kept], ranks[kept]
        pairs = pairs.take(order)
        self._parts, self._n_new = [pairs], 0
        is_full = pairs.rows[ranks == self.k - 1]
        self._kth[is_full] = steps[order][ranks == self.k - 1]
        last = np.full(len(self._kth), -1, np.int64)
        np.maximum.at(last, pairs.rows, pairs.columns)
        self._last[is_full] = last[is_full]
        return pairs, ranks


def close(best: Iterable[Best], k: int) -> tuple[Positions, NDArray[np.float32]]:
    """Return what all found, one after another; see `Best.close`."""
    found = [(np.empty((0, k), np.int64), np.empty((0, k), np.float32))]
    found += [each.close() for each in best]
    positions, similarities = (np.concatenate(column) for column in zip(*found, strict=True))
    return positions, similarities
