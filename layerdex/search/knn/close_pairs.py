"""All pairs of documents above a similarity, and each document's nearest neighbour."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from layerdex.records import OnProgress, Rows, progress_of_shares, tell_beginning
from layerdex.search.knn.tiles.costs import ENCODE_NS, READ_NS, pair_ns
from layerdex.search.knn.tiles.others import alike_ns, first_floors
from layerdex.search.knn.tiles.pairs import each_pair, encode_vectors
from layerdex.search.knn.tiles.tile import Pairs
from layerdex.search.knn.tiles.vectors import ManyVectors
from layerdex.search.vectors.similarity import floor_of, to_steps
from layerdex.storage.vectors.layer_vectors import VectorSource

N_MOST_PAIRS = 5_000_000  # 60 MB

Steps = NDArray[np.int32]
"""Similarities in units of `SIMILARITY_STEP`, within which they count as equal."""


@dataclass(frozen=True, slots=True)
class ClosePairs:
    """The pairs of n documents at ``min_step`` or above, and each document's nearest similarity.

    ``earlier`` and ``later`` are positions, (n_pairs,) int32, ``earlier`` < ``later``, ordered by
    ``later``; ``steps`` is (n_pairs,) int32. ``nearest`` is (n,) float32. ``min_step`` is in steps.
    """

    min_step: int
    earlier: NDArray[np.int32]
    later: NDArray[np.int32]
    steps: Steps
    nearest: NDArray[np.float32]


def find_close_pairs(
    source: VectorSource,
    rows: Rows,
    min_similarity: float,
    *,
    n_most: int = N_MOST_PAIRS,
    on_progress: OnProgress | None = None,
) -> ClosePairs:
    """Compare each two of n documents (``rows`` in any order, n >= 2) once.

    Where more than ``n_most`` (2 or more) pairs reach the minimum, it is raised, so that memory
    does not grow with the square of n. The result has all pairs at the raised minimum, which is the
    lowest that fewer than half of ``n_most`` reach, however many threads there are.
    """
    n, width = len(rows), source.width
    shares = (READ_NS, alike_ns(width), ENCODE_NS, n / 2 * pair_ns(n, width))
    told = progress_of_shares(on_progress, shares, n)
    tell_beginning(told[0])
    vectors = ManyVectors(source, rows, told[0])
    nearest = first_floors(vectors, 1, np.arange(n), on_progress=told[1])
    floors = np.minimum(nearest, floor_of(to_steps(min_similarity)))
    collector = _Collector(int(to_steps(min_similarity)), n_most, nearest)
    coded = encode_vectors(vectors, floors, on_progress=told[2])
    each_pair(coded, collector.floors, collector.take, on_progress=told[3])
    return collector.close()


class _Collector:
    """Collects pairs, and raises the minimum where they become too many."""

    def __init__(self, min_step: int, n_most: int, nearest: NDArray[np.float64]) -> None:
        """Take ``nearest`` (n,), a similarity that each document's nearest neighbour reaches."""
        self.min_step = self._first_step = min_step
        # The greatest float32 below: rounding may have raised it.
        self._nearest = np.nextafter(nearest.astype(np.float32), np.float32(-4))
        self._n_most = n_most
        self._n = 0
        self._blocks = [(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.int32))]
        self._lock = Lock()

    def floors(self, documents: slice) -> NDArray[np.float64]:
        """Return the similarities that pairs must reach to be close, or the nearest of one."""
        nearer = np.nextafter(self._nearest[documents], np.float32(4))  # one as near is no news
        return np.minimum(nearer.astype(np.float64), floor_of(self.min_step))

    def take(self, pairs: Pairs) -> None:
        """Keep pairs, and raise the minimum if there are too many."""
        steps = to_steps(pairs.similarities).astype(np.int32)
        with self._lock:
            for side in (pairs.rows, pairs.columns):
                np.maximum.at(self._nearest, side, pairs.similarities)
            is_close = steps >= self.min_step
            self._blocks.append(
                (
                    pairs.columns[is_close].astype(np.int32),
                    pairs.rows[is_close].astype(np.int32),
                    steps[is_close],
                )
            )
            self._n += int(is_close.sum())
            if self._n > self._n_most:
                self._raise_min_step()

    def _raise_min_step(self) -> None:
        earlier, later, steps = self._merged()
        # Keep half of the most, so that this is rare, and drop ties with the first one dropped.
        kept = np.partition(steps, len(steps) - self._n_most // 2)
        self.min_step = int(kept[len(steps) - self._n_most // 2]) + 1
        is_close = steps >= self.min_step
        self._blocks = [(earlier[is_close], later[is_close], steps[is_close])]
        self._n = int(is_close.sum())

    def _merged(self) -> tuple[NDArray[np.int32], NDArray[np.int32], Steps]:
        earlier, later, steps = (np.concatenate(c) for c in zip(*self._blocks, strict=True))
        return earlier, later, steps

    def close(self) -> ClosePairs:
        """Return the pairs, ordered by their later and then their earlier position."""
        # Where the last raise left the minimum depends on the order of the blocks, which threads
        # decide. A raised one is never above that of all pairs at once: raise it to there.
        if self.min_step > self._first_step and self._n >= self._n_most // 2:
            self._raise_min_step()
        earlier, later, steps = self._merged()
        order = np.lexsort((earlier, later))
        return ClosePairs(self.min_step, earlier[order], later[order], steps[order], self._nearest)
