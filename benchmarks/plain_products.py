"""Plain products of vectors in float32, by which comparisons of all pairs are measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from layerdex.records import Vectors

_ROWS = 2_048


class Seconds(NamedTuple):
    """What a call took, on the clock and of CPU, by all threads."""

    wall: float
    cpu: float

    def times(self, factor: float) -> Seconds:
        """Return both multiplied."""
        return Seconds(self.wall * factor, self.cpu * factor)


def timed(run: Callable[[], object]) -> Seconds:
    """Call a function."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def time_products(sample: Vectors, n: int) -> Seconds:
    """Return what n² / 2 products take (G32), by those of a sample.

    One matrix product comes after the other, each on all threads.
    """
    out = np.empty((_ROWS, len(sample)), np.float32)
    n_rows = len(sample) // _ROWS * _ROWS

    def multiply() -> None:
        for at in range(0, n_rows, _ROWS):
            np.matmul(sample[at : at + _ROWS], sample.T, out=out)

    return timed(multiply).times(n * n / 2 / (n_rows * len(sample)))


def share_of_products(run: Callable[[], object], sample: Vectors, n: int) -> dict[str, float]:
    """Return what a call took, and that as shares of G32 measured before and after it."""
    before = time_products(sample, n)
    taken = timed(run)
    after = time_products(sample, n)
    return {
        "seconds": taken.wall,
        "share_of_g32": 2 * taken.wall / (before.wall + after.wall),
        "cpu_share_of_g32": 2 * taken.cpu / (before.cpu + after.cpu),
    }
