"""One pass over all pairs of documents: the close ones, and everyone's nearest neighbour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerdex.records import OnProgress, Rows, Vectors
from layerdex.search.vectors.similarity import SIMILARITY_STEP, cosine, to_steps
from layerdex.storage.vectors.layer_vectors import VectorSource

_BLOCK = 2_048
N_MOST_PAIRS = 5_000_000  # 60 MB

Steps = NDArray[np.int32]
"""Similarities in units of `SIMILARITY_STEP`, within which they count as equal."""


@dataclass(frozen=True, slots=True)
class ClosePairs:
    """The pairs of n documents at ``floor`` or above, and how near each one's nearest is.

    ``earlier`` and ``later`` are spaces, (n_pairs,) int32, ``earlier`` < ``later``, ordered by
    ``later``; ``steps`` is (n_pairs,) int32. ``nearest`` is (n,) float32. ``floor`` is in steps.
    """

    floor: int
    earlier: NDArray[np.int32]
    later: NDArray[np.int32]
    steps: Steps
    nearest: NDArray[np.float32]


def find_close_pairs(
    source: VectorSource,
    rows: Rows,
    floor: float,
    *,
    n_most: int = N_MOST_PAIRS,
    on_progress: OnProgress | None = None,
) -> ClosePairs:
    """Compare each two of n documents (``rows`` in any order, n >= 2) once.

    Where more than ``n_most`` pairs reach the floor it is raised, so that memory does not grow
    with the square of n; the pairs at the raised floor are again all there are.
    """
    found = _Found(int(to_steps(floor)), n_most)
    nearest = np.full(len(rows), -1, dtype=np.float32)
    for start in range(0, len(rows), _BLOCK):
        stop = min(start + _BLOCK, len(rows))
        vectors = source.gather(rows[start:stop])
        for other in range(0, start + 1, _BLOCK):
            if other < start:
                _compare_blocks(source, rows, vectors, (other, start), nearest, found)
            else:
                _compare_within(vectors, start, nearest, found)
        if on_progress is not None:
            on_progress(stop * stop, len(rows) ** 2)
    return found.close(nearest)


def _compare_blocks(
    source: VectorSource,
    rows: Rows,
    vectors: Vectors,
    at: tuple[int, int],
    nearest: NDArray[np.float32],
    found: _Found,
) -> None:
    other, start = at
    similarities = cosine(source.gather(rows[other : other + _BLOCK]), vectors)
    _raise_to(nearest, other, similarities.max(axis=1))
    _raise_to(nearest, start, similarities.max(axis=0))
    found.take(similarities, other, start)


def _compare_within(
    vectors: Vectors, start: int, nearest: NDArray[np.float32], found: _Found
) -> None:
    similarities = cosine(vectors, vectors)
    similarities[np.tril_indices(len(vectors))] = -2  # each pair once, and none with itself
    if len(vectors) > 1:
        _raise_to(nearest, start, np.maximum(similarities.max(axis=0), similarities.max(axis=1)))
    found.take(similarities, start, start)


def _raise_to(nearest: NDArray[np.float32], start: int, found: NDArray[np.float32]) -> None:
    part = nearest[start : start + len(found)]
    np.maximum(part, found, out=part)


class _Found:
    """Collects pairs, and raises the floor where they become too many."""

    def __init__(self, floor: int, n_most: int) -> None:
        self._floor = floor
        self._n_most = n_most
        self._n = 0
        self._parts: list[tuple[NDArray[np.int32], NDArray[np.int32], Steps]] = []

    def take(self, similarities: NDArray[np.float32], earlier: int, later: int) -> None:
        """Keep what reaches the floor of (n_earlier, n_later), whose spaces begin at these."""
        # Half a step of room, as the step itself is only computed for the few that are close.
        i, j = np.nonzero(similarities >= (self._floor - 1) * SIMILARITY_STEP)
        steps = to_steps(similarities[i, j]).astype(np.int32)
        is_close = steps >= self._floor
        part = ((i + earlier).astype(np.int32), (j + later).astype(np.int32), steps)
        self._parts.append((part[0][is_close], part[1][is_close], part[2][is_close]))
        self._n += int(is_close.sum())
        if self._n > self._n_most:
            self._raise_floor()

    def _raise_floor(self) -> None:
        earlier, later, steps = self._merged()
        # Half of the most, so that it is seldom raised; what is as close as the first to go, goes.
        kept = np.partition(steps, len(steps) - self._n_most // 2)
        self._floor = int(kept[len(steps) - self._n_most // 2]) + 1
        is_close = steps >= self._floor
        self._parts = [(earlier[is_close], later[is_close], steps[is_close])]
        self._n = int(is_close.sum())

    def _merged(self) -> tuple[NDArray[np.int32], NDArray[np.int32], Steps]:
        earlier, later, steps = (np.concatenate(c) for c in zip(*self._parts, strict=True))
        return earlier, later, steps

    def close(self, nearest: NDArray[np.float32]) -> ClosePairs:
        """Return what was found."""
        earlier, later, steps = self._merged()
        order = np.argsort(later, kind="stable")
        return ClosePairs(self._floor, earlier[order], later[order], steps[order], nearest)
