"""One pass over all pairs of documents: the close pairs, and each document's nearest neighbour."""

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

    Where more than ``n_most`` pairs reach the minimum, it is raised, so that memory does not grow
    with the square of n. The result has all pairs at the raised minimum.
    """
    collector = _Collector(int(to_steps(min_similarity)), n_most)
    nearest = np.full(len(rows), -1, dtype=np.float32)
    for start in range(0, len(rows), _BLOCK):
        stop = min(start + _BLOCK, len(rows))
        vectors = source.gather(rows[start:stop])
        for other in range(0, start + 1, _BLOCK):
            if other < start:
                _compare_blocks(source, rows, vectors, (other, start), nearest, collector)
            else:
                _compare_within(vectors, start, nearest, collector)
        if on_progress is not None:
            on_progress(stop * stop, len(rows) ** 2)
    return collector.close(nearest)


def _compare_blocks(
    source: VectorSource,
    rows: Rows,
    vectors: Vectors,
    at: tuple[int, int],
    nearest: NDArray[np.float32],
    collector: _Collector,
) -> None:
    other, start = at
    similarities = cosine(source.gather(rows[other : other + _BLOCK]), vectors)
    _raise_to(nearest, other, similarities.max(axis=1))
    _raise_to(nearest, start, similarities.max(axis=0))
    collector.take(similarities, other, start)


def _compare_within(
    vectors: Vectors, start: int, nearest: NDArray[np.float32], collector: _Collector
) -> None:
    similarities = cosine(vectors, vectors)
    similarities[np.tril_indices(len(vectors))] = -2  # each pair once, no document with itself
    if len(vectors) > 1:
        _raise_to(nearest, start, np.maximum(similarities.max(axis=0), similarities.max(axis=1)))
    collector.take(similarities, start, start)


def _raise_to(nearest: NDArray[np.float32], start: int, similarities: NDArray[np.float32]) -> None:
    block = nearest[start : start + len(similarities)]
    np.maximum(block, similarities, out=block)


class _Collector:
    """Collects pairs, and raises the minimum where they become too many."""

    def __init__(self, min_step: int, n_most: int) -> None:
        self._min_step = min_step
        self._n_most = n_most
        self._n = 0
        self._blocks: list[tuple[NDArray[np.int32], NDArray[np.int32], Steps]] = []

    def take(self, similarities: NDArray[np.float32], earlier: int, later: int) -> None:
        """Keep the pairs of a block (n_earlier, n_later), at these positions, above the minimum."""
        # With half a step to spare: the step itself is only computed for the few close pairs.
        i, j = np.nonzero(similarities >= (self._min_step - 1) * SIMILARITY_STEP)
        steps = to_steps(similarities[i, j]).astype(np.int32)
        is_close = steps >= self._min_step
        i, j, steps = i[is_close], j[is_close], steps[is_close]
        self._blocks.append(((i + earlier).astype(np.int32), (j + later).astype(np.int32), steps))
        self._n += len(steps)
        if self._n > self._n_most:
            self._raise_min_step()

    def _raise_min_step(self) -> None:
        earlier, later, steps = self._merged()
        # Keep half of the most, so that this is rare, and drop ties with the first one dropped.
        kept = np.partition(steps, len(steps) - self._n_most // 2)
        self._min_step = int(kept[len(steps) - self._n_most // 2]) + 1
        is_close = steps >= self._min_step
        self._blocks = [(earlier[is_close], later[is_close], steps[is_close])]
        self._n = int(is_close.sum())

    def _merged(self) -> tuple[NDArray[np.int32], NDArray[np.int32], Steps]:
        earlier, later, steps = (np.concatenate(c) for c in zip(*self._blocks, strict=True))
        return earlier, later, steps

    def close(self, nearest: NDArray[np.float32]) -> ClosePairs:
        """Return the pairs, ordered by their later position."""
        earlier, later, steps = self._merged()
        order = np.argsort(later, kind="stable")
        return ClosePairs(self._min_step, earlier[order], later[order], steps[order], nearest)
