"""One tile: which of its pairs may reach the similarities that matter, and which do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from threading import local
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from layerdex.limits import Pool
from layerdex.records import OnProgress, Vectors
from layerdex.search.knn.tiles.arithmetic import Float32
from layerdex.search.knn.tiles.codes import Codes, Encoding
from layerdex.search.vectors.similarity import SIMILARITY_STEP, to_steps
from layerdex.threads import Threads, single_threaded_blas

N_ROWS, N_COLUMNS = 512, 2_048
"""Of a tile: its products lie in the cache of a core (4 MB)."""

_DENSE_SHARE = 0.04
"""Where more pairs of a tile are left, one product of all is faster than each pair alone."""

_PAIRS_AT_ONCE = 512
"""Pairs whose vectors are laid side by side: they stay in the cache. 4,096 take 4 times as long."""

_BEYOND = 4.0
"""No product of codes of unit vectors is as large."""

Positions = NDArray[np.int64]


class Pairs(NamedTuple):
    """Pairs (n_pairs,) of a row and a column, and their similarity."""

    rows: Positions
    columns: Positions
    similarities: NDArray[np.float32]

    def take(self, chosen: Positions | NDArray[np.bool_]) -> Pairs:
        """Return some of the pairs."""
        return Pairs(self.rows[chosen], self.columns[chosen], self.similarities[chosen])

    def reaching(self, step: int) -> Pairs:
        """Return those whose similarity is in a step of `SIMILARITY_STEP` or above it."""
        return self.take(to_steps(self.similarities) >= step)

    def shift(self, rows: int, columns: int) -> Pairs:
        """Return the pairs with both positions moved on."""
        return Pairs(self.rows + rows, self.columns + columns, self.similarities)

    def turn(self) -> Pairs:
        """Return the pairs with rows and columns exchanged."""
        return Pairs(self.columns, self.rows, self.similarities)


class Side(NamedTuple):
    """One side of a tile: its codes, and its unit vectors (n, width) float32 when called for."""

    codes: Codes
    vectors: Callable[[Positions | slice], Vectors]


IsWanted = Callable[[Positions, Positions], NDArray[np.bool_]]
"""Tells which of some rows and columns matter as pairs, for arrays of shapes that broadcast."""

_own = local()
"""What a thread has to itself: memory for a tile, and how it is told to end."""


def find_pairs(
    encoding: Encoding,
    rows: Side,
    columns: Side,
    floors: NDArray[np.float64],
    *,
    column_floors: NDArray[np.float64] | None = None,
    is_wanted: IsWanted | None = None,
    k: int | None = None,
) -> Pairs:
    """Return all pairs of at most `N_ROWS` x `N_COLUMNS` vectors that reach the row's floor.

    ``floors`` (n_rows,) are similarities. Inner products are summed in float64, clipped to [-1, 1]
    and rounded to float32 before they are compared. With ``column_floors`` (n_columns,), a pair may
    reach the column's floor instead. With ``is_wanted``, other pairs are left out. With ``k``, some
    of the pairs may be that are not among the first k of a row, or of a column that has a floor.
    """
    if (is_ending := getattr(_own, "is_ending", None)) is not None and is_ending.is_set():
        raise CancelledError  # Ctrl-C does not wait for the tiles of a whole block
    n_columns = len(columns.codes)
    raw = encoding.arithmetic.multiply(rows.codes.values, columns.codes.values, _buffer())
    limits = _limits(encoding, rows.codes, columns.codes, floors)
    if column_floors is None:
        # A look at each row's largest product costs a tenth of a comparison of each.
        hit = np.flatnonzero(raw.max(axis=1) >= limits)
        if not len(hit):
            return no_pairs()
        is_left = (raw if len(hit) == len(raw) else raw[hit]) >= limits[hit, None]
    else:
        hit = np.arange(len(raw))
        is_left = raw >= limits[:, None]
        is_left |= raw >= _limits(encoding, columns.codes, rows.codes, column_floors)
    n_left, most = np.count_nonzero(is_left), _DENSE_SHARE * is_left.size
    if is_wanted is not None and n_left > most:
        is_left &= is_wanted(hit[:, None], np.arange(n_columns))
        n_left = np.count_nonzero(is_left)
    if n_left > most:
        products = np.where(is_left, _all_products(rows, columns, hit), np.float32(-2))
        is_near = products >= _lowest(floors[hit], k, products)[:, None]
        if column_floors is not None:
            is_near |= products >= _lowest(column_floors, k, products.T)
        i, j = np.nonzero(is_near & is_left)
        return Pairs(hit[i], j, products[i, j])
    i, j = np.divmod(np.flatnonzero(is_left), n_columns)
    i = hit[i]
    if is_wanted is not None:
        chosen = is_wanted(i, j)
        i, j = i[chosen], j[chosen]
    lowest = floors[i]
    if column_floors is not None:
        lowest = np.minimum(lowest, column_floors[j])
    return rescore(rows, columns, i, j, lowest)


def _limits(
    encoding: Encoding, codes: Codes, others: Codes, floors: NDArray[np.float64]
) -> NDArray[Any]:
    bounds = floors - encoding.margins(codes, others)
    bounds[floors > 1] = _BEYOND  # what only a higher similarity would improve is done
    return encoding.arithmetic.limits(bounds)


def _lowest(
    floors: NDArray[np.float64], k: int | None, products: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return what those of each row reach that reach its floor and are among its first k."""
    if k is None or k >= products.shape[1]:
        return floors
    kth = np.partition(products, -k, axis=1)[:, -k].astype(np.float64)
    return np.maximum(floors, kth - SIMILARITY_STEP)


def _similarities(products: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.clip(products, -1, 1).astype(np.float32)


def run_in_threads(
    work: Iterable[Callable[[], None]],
    n_threads: int | None = None,
    on_progress: OnProgress | None = None,
) -> None:
    """Call each function, several at a time, each with one thread of BLAS.

    One at a time by several threads would wait for the slowest of them at each small product.
    ``on_progress`` is told how many of the first are done.
    """
    n_threads = Pool.BLAS.size() if n_threads is None else n_threads
    jobs = list(work)

    def tell(n_done: int) -> None:
        if on_progress is not None:
            on_progress(n_done, len(jobs))

    if n_threads == 1 or len(jobs) == 1:  # limits take some milliseconds, and would change nothing
        for n, job in enumerate(jobs):
            job()
            tell(n + 1)
        return
    with (
        single_threaded_blas(),
        _single_threaded_torch(),
        Threads(n_threads, "layerdex-tiles") as threads,
    ):

        def run(job: Callable[[], None]) -> None:
            _own.is_ending = threads.is_ending
            job()

        for n, future in enumerate([threads.submit(run, job) for job in jobs]):
            future.result()
            tell(n + 1)


@contextmanager
def _single_threaded_torch() -> Iterator[None]:
    """Let PyTorch multiply in the thread that calls it, if codes are multiplied by it."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _all_products(rows: Side, columns: Side, hit: Positions) -> NDArray[np.float32]:
    left = rows.vectors(hit).astype(np.float64)
    right = columns.vectors(slice(None)).astype(np.float64)
    return _similarities(left @ right.T)


def rescore(
    rows: Side, columns: Side, i: Positions, j: Positions, lowest: NDArray[np.float64]
) -> Pairs:
    """Return those of some pairs (n_pairs,) that reach their ``lowest`` (n_pairs,) similarity."""
    parts = [no_pairs()]
    for start in range(0, len(i), _PAIRS_AT_ONCE):
        block = slice(start, start + _PAIRS_AT_ONCE)
        left, right = rows.vectors(i[block]), columns.vectors(j[block])
        # Most pairs are far below, which float32 tells in a third of the time.
        error = Float32().roundoff(left.shape[1] + 1)
        near = np.flatnonzero(np.vecdot(left, right) >= lowest[block] - error)
        wide = np.vecdot(left[near], right[near], dtype=np.float64)
        found = Pairs(i[block][near], j[block][near], _similarities(wide))
        parts.append(found.take(found.similarities >= lowest[block][near]))
    return join(parts)


def is_of_other_group(
    of_rows: NDArray[np.int64],
    of_columns: NDArray[np.int64],
    first_column: int,
    i: Positions,
    j: Positions,
) -> NDArray[np.bool_]:
    """Return which pairs are of two groups, given those of a block's rows and of all columns."""
    is_other: NDArray[np.bool_] = of_rows[i] != of_columns[j + first_column]
    return is_other


def is_later(first_row: int, first_column: int) -> IsWanted:
    """Return whether a row comes after a column, by the positions that both sides begin at."""
    return lambda i, j: i + first_row > j + first_column


def join(parts: Iterable[Pairs]) -> Pairs:
    """Return the pairs of all parts."""
    return Pairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def no_pairs() -> Pairs:
    """Return pairs of which there are none."""
    return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))


def _buffer() -> NDArray[np.int32]:
    """Return this thread's own memory for the products of a tile."""
    if not hasattr(_own, "products"):
        _own.products = np.empty(N_ROWS * N_COLUMNS, np.int32)
    found: NDArray[np.int32] = _own.products
    return found
