"""Documents that are kept one after another: those that no kept one is near."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from layerdex.search.knn.tiles.device import DeviceVectors
from layerdex.search.knn.tiles.tile import (
    N_COLUMNS,
    N_ROWS,
    Pairs,
    Positions,
    Side,
    find_pairs,
    is_later,
    join,
    no_pairs,
    run_in_threads,
)
from layerdex.search.knn.tiles.vectors import CodedVectors
from layerdex.search.vectors.similarity import floor_of

KEPT_BLOCK = 4 * N_ROWS
"""Documents that are gone through at once."""


def keep_greedily(
    coded: CodedVectors | DeviceVectors, min_step: int, *, n_threads: int | None = None
) -> Iterator[Positions]:
    """Yield the positions that are kept, block by block: `KEPT_BLOCK` documents are gone through.

    A document is kept unless a kept one before it has a similarity of at least ``min_step``, in
    steps of `SIMILARITY_STEP`. Memory does not grow with the number of pairs. The codes are used
    up: those of kept documents take the place of others.
    """
    kept: _Kept | _KeptOnDevice
    kept = _KeptOnDevice(coded) if isinstance(coded, DeviceVectors) else _Kept(coded, n_threads)
    for start in range(0, len(coded), KEPT_BLOCK):
        block = np.arange(start, min(start + KEPT_BLOCK, len(coded)))
        new = block[~kept.are_near(block, min_step)]
        stays = np.ones(len(new), np.bool_)
        pairs = kept.pairs_within(new, min_step)
        pairs = pairs.take(np.argsort(pairs.rows, kind="stable"))
        ends = np.flatnonzero(np.diff(pairs.rows, append=-1)) + 1
        begin = 0
        for end in ends.tolist():
            stays[pairs.rows[begin]] = not stays[pairs.columns[begin:end]].any()
            begin = end
        kept.append(new[stays])
        yield new[stays]


class _Kept:
    """The kept documents: their positions, and their codes at the front of all codes."""

    def __init__(self, coded: CodedVectors, n_threads: int | None) -> None:
        self._coded = coded
        self._n_threads = n_threads
        self._positions = np.empty(len(coded), np.int64)
        self._n = 0

    def append(self, positions: Positions) -> None:
        """Keep documents, which come after those kept before."""
        at = slice(self._n, self._n + len(positions))
        self._coded.codes[at] = self._coded.codes[positions]
        self._positions[at] = positions
        self._n = at.stop

    def are_near(self, positions: Positions, min_step: int) -> NDArray[np.bool_]:
        """Return which of some documents are near a kept one, (n_positions,)."""
        parts = [positions[at : at + N_ROWS] for at in range(0, len(positions), N_ROWS)]
        near = [np.zeros(len(part), np.bool_) for part in parts]
        jobs = [partial(self._mark_near, *each, min_step) for each in zip(parts, near, strict=True)]
        run_in_threads(jobs, self._n_threads)
        return np.concatenate(near)

    def pairs_within(self, positions: Positions, min_step: int) -> Pairs:
        """Return the pairs among a few documents, numbered from 0, the later one first."""
        return _pairs_within(self._coded, positions, min_step, self._n_threads)

    def _mark_near(self, positions: Positions, near: NDArray[np.bool_], min_step: int) -> None:
        """Set which of at most `N_ROWS` documents are near a kept one."""
        left = np.arange(len(positions))
        for start in range(0, self._n, N_COLUMNS):
            side = self._coded.chosen(positions[left])
            found = find_pairs(
                self._coded.encoding,
                side,
                self._panel(slice(start, min(start + N_COLUMNS, self._n))),
                np.full(len(left), floor_of(min_step)),
                k=1,
            )
            near[left[found.reaching(min_step).rows]] = True
            left = np.flatnonzero(~near)
            if not len(left):
                return

    def _panel(self, at: slice) -> Side:
        positions = self._positions[at]
        return Side(self._coded.codes[at], lambda chosen: self._coded.vectors[positions[chosen]])


class _KeptOnDevice:
    """The kept documents, with their codes at the front of all codes on a device."""

    def __init__(self, coded: DeviceVectors) -> None:
        self._coded = coded
        self._positions = np.empty(len(coded), np.int64)
        self._n = 0

    def append(self, positions: Positions) -> None:
        """Keep documents, which come after those kept before."""
        self._coded.move_to_front(positions, self._n)
        self._positions[self._n : self._n + len(positions)] = positions
        self._n += len(positions)

    def are_near(self, positions: Positions, min_step: int) -> NDArray[np.bool_]:
        """Return which of some documents are near a kept one, (n_positions,)."""
        return self._coded.are_near(positions, self._positions[: self._n], min_step)

    def pairs_within(self, positions: Positions, min_step: int) -> Pairs:
        """Return the pairs among a few documents, numbered from 0, the later one first."""
        return self._coded.find_pairs_within(positions, min_step)


def _pairs_within(
    coded: CodedVectors, positions: Positions, min_step: int, n_threads: int | None
) -> Pairs:
    """Return the pairs among a few documents, numbered from 0, the later one first."""
    found = [no_pairs()]

    def compare(start: int) -> None:
        rows = positions[start : start + N_ROWS]
        for first in range(0, start + len(rows), N_COLUMNS):
            columns = positions[first : min(first + N_COLUMNS, start + len(rows))]
            pairs = find_pairs(
                coded.encoding,
                coded.chosen(rows),
                coded.chosen(columns),
                np.full(len(rows), floor_of(min_step)),
                is_wanted=is_later(start, first),
            )
            found.append(pairs.reaching(min_step).shift(start, first))

    run_in_threads((partial(compare, at) for at in range(0, len(positions), N_ROWS)), n_threads)
    return join(found)
