"""One tile: which of its pairs may reach the similarities that matter, and which do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import local
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from layerdex.limits import Pool
from layerdex.records import Vectors
from layerdex.search.knn.tiles.arithmetic import Float32
from layerdex.search.knn.tiles.codes import Codes, Encoding
from layerdex.search.vectors.similarity import SIMILARITY_STEP
from layerdex.threads import Threads, single_threaded_blas

N_ROWS, N_COLUMNS = 512, 2_048
"""Of a tile: its products lie in the cache of a core (4 MB)."""

_DENSE_SHARE = 0.04
"""Where more pairs of a tile are left, one product of all is faster than each pair alone."""

_PAIRS_AT_ONCE = 4_096
Positions = NDArray[np.int64]


class Pairs(NamedTuple):
    """Pairs (n_pairs,) of a row and a column, and their similarity."""

    rows: Positions
    columns: Positions
    similarities: NDArray[np.float32]


class Side(NamedTuple):
    """One side of a tile: its codes, and its unit vectors (n, width) float32 when called for."""

    codes: Codes
    vectors: Callable[[Positions | slice], Vectors]


_buffers = local()


def find_pairs(
    encoding: Encoding,
    rows: Side,
    columns: Side,
    floors: NDArray[np.float64],
    *,
    k: int | None = None,
) -> Pairs:
    """Return all pairs of at most `N_ROWS` x `N_COLUMNS` vectors that reach the row's floor.

    ``floors`` (n_rows,) are similarities. Inner products are summed in float64, clipped to [-1, 1]
    and rounded to float32 before they are compared. With ``k``,
    some of the pairs beyond a row's first k may be left out.
    """
    bounds = floors - encoding.margins(rows.codes, columns.codes)
    limits = encoding.arithmetic.limits(bounds)
    raw = encoding.arithmetic.multiply(rows.codes.values, columns.codes.values, _buffer())
    # A look at each row's largest product costs a tenth of a comparison of each.
    hit = np.flatnonzero(raw.max(axis=1) >= limits)
    if not len(hit):
        return no_pairs()
    is_left = (raw if len(hit) == len(raw) else raw[hit]) >= limits[hit, None]
    n_columns = len(columns.codes)
    if np.count_nonzero(is_left) > _DENSE_SHARE * is_left.size:
        found = _all_products(rows, columns, hit)
        lowest = floors[hit]
        if k is not None and k < n_columns:
            kth = np.partition(found, -k, axis=1)[:, -k]
            lowest = np.maximum(lowest, kth - SIMILARITY_STEP)
        i, j = np.nonzero(found >= lowest[:, None])
        return Pairs(hit[i], j, found[i, j])
    at = np.flatnonzero(is_left)
    return _products(rows, columns, hit[at // n_columns], at % n_columns, floors)


def _similarities(products: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.clip(products, -1, 1).astype(np.float32)


def run_in_threads(
    work: Iterable[Callable[[], None]],
    n_threads: int | None = None,
    on_done: Callable[[int], None] | None = None,
) -> None:
    """Call each function, several at a time, each with one thread of BLAS.

    One at a time by several threads would wait for the slowest of them at each small product.
    ``on_done`` is told how many of the first are done.
    """
    n_threads = Pool.BLAS.size() if n_threads is None else n_threads
    with single_threaded_blas():
        if n_threads == 1:
            for n, job in enumerate(work):
                job()
                if on_done is not None:
                    on_done(n + 1)
            return
        with Threads(n_threads, "layerdex-tiles") as threads:
            for n, future in enumerate([threads.submit(job) for job in work]):
                future.result()
                if on_done is not None:
                    on_done(n + 1)


def _all_products(rows: Side, columns: Side, hit: Positions) -> NDArray[np.float32]:
    left = rows.vectors(hit).astype(np.float64)
    right = columns.vectors(slice(None)).astype(np.float64)
    return _similarities(left @ right.T)


def _products(
    rows: Side, columns: Side, i: Positions, j: Positions, floors: NDArray[np.float64]
) -> Pairs:
    parts = [no_pairs()]
    for start in range(0, len(i), _PAIRS_AT_ONCE):
        block = slice(start, start + _PAIRS_AT_ONCE)
        left, right = rows.vectors(i[block]), columns.vectors(j[block])
        # Most pairs are far below, which float32 tells in a third of the time.
        error = Float32().roundoff(left.shape[1] + 1)
        near = np.einsum("ij,ij->i", left, right) >= floors[i[block]] - error
        left, right = left[near].astype(np.float64), right[near].astype(np.float64)
        similarities = _similarities(np.einsum("ij,ij->i", left, right))
        kept = similarities >= floors[i[block][near]]
        parts.append(Pairs(i[block][near][kept], j[block][near][kept], similarities[kept]))
    return Pairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def no_pairs() -> Pairs:
    """Return pairs of which there are none."""
    return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))


def _buffer() -> NDArray[np.int32]:
    """Return this thread's own memory for the products of a tile."""
    if not hasattr(_buffers, "products"):
        _buffers.products = np.empty(N_ROWS * N_COLUMNS, np.int32)
    found: NDArray[np.int32] = _buffers.products
    return found
