"""The k nearest others of each of many vectors: each two are compared once, for both."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from layerdex.records import OnProgress, Rows, progress_of_shares, tell_beginning
from layerdex.search.knn.tiles.arithmetic import Float32
from layerdex.search.knn.tiles.asked_device import asked_device
from layerdex.search.knn.tiles.best import Best, close
from layerdex.search.knn.tiles.codes import principal_axes
from layerdex.search.knn.tiles.costs import ENCODE_NS, READ_NS, pair_ns, plain_ns
from layerdex.search.knn.tiles.device import Device, DeviceVectors
from layerdex.search.knn.tiles.tile import (
    N_COLUMNS,
    N_ROWS,
    Positions,
    find_pairs,
    run_in_threads,
)
from layerdex.search.knn.tiles.vectors import ManyVectors, blocks_of, encode_all, has_codes
from layerdex.search.vectors.similarity import floor_of, to_steps
from layerdex.storage.vectors.layer_vectors import VectorSource

_N_ALIKE = 1_024
_N_AXES = 10


def find_others(
    source: VectorSource,
    rows: Rows,
    k: int,
    *,
    groups: NDArray[np.int64] | None = None,
    arithmetic: str | None = None,
    n_threads: int | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[Positions, NDArray[np.float32]]:
    """Return the k nearest other documents of each of n, as positions (n, k) in ``rows``.

    With ``groups`` (n,), only documents of other groups count. Similarities, (n, k) too, are
    summed in float64; those in the same step of `SIMILARITY_STEP` are ordered by position. Where
    there are fewer than k, position -1 and similarity -2 come last.
    """
    n = len(rows)
    shares = (READ_NS, alike_ns(source.width), ENCODE_NS, n / 2 * pair_ns(n, source.width))
    told = progress_of_shares(on_progress, shares, n)
    tell_beginning(told[0])
    vectors = ManyVectors(source, rows, told[0])
    groups = np.arange(n) if groups is None else groups
    if has_codes(n) and (device := asked_device()) is not None:
        return _find_on(device, vectors, k, groups, told)
    floors = first_floors(vectors, k, groups, n_threads, on_progress=told[1])
    coded = encode_all(
        vectors, floors, arithmetic=arithmetic, n_threads=n_threads, on_progress=told[2]
    )
    best = [Best(k, floors[panel]) for panel in blocks_of(n, N_COLUMNS)]
    # In their order, as equal vectors are ruled out where all the best come before them.
    blocks = list(blocks_of(n, N_ROWS))

    def compare(block: slice) -> None:
        side, own = coded.side(block), best[block.start // N_COLUMNS]
        at = block.start % N_COLUMNS
        for other, (first, panel) in zip(best, coded.panels(block.stop), strict=False):
            row_floors = own.floors(first)[at : at + N_ROWS]
            column_floors = other.floors(block.start)[: len(panel.codes)]
            found = find_pairs(
                coded.encoding,
                side,
                panel,
                row_floors,
                column_floors=column_floors,
                is_wanted=partial(_is_wanted, groups, block.start, first),
                k=k,
            )
            serves_row = found.similarities >= row_floors[found.rows]
            own.add(found.take(serves_row).shift(at, first))
            serves_column = found.similarities >= column_floors[found.columns]
            other.add(found.take(serves_column).turn().shift(0, block.start))

    def tell(n_done: int, _: int | None) -> None:
        if (tell_compared := told[3]) is not None:
            tell_compared(blocks[n_done - 1].stop ** 2, n * n)

    run_in_threads((partial(compare, block) for block in blocks), n_threads, tell)
    return close(best, k)


def _find_on(
    device: Device,
    vectors: ManyVectors,
    k: int,
    groups: NDArray[np.int64],
    told: list[OnProgress | None],
) -> tuple[Positions, NDArray[np.float32]]:
    """Return the same from a device, which compares each two twice: it has no use for floors."""
    coded, best = DeviceVectors(device, vectors, told[2]), []
    for at in blocks_of(len(coded), device.n_rows):
        best.append(Best(k, np.full(at.stop - at.start, -2.0)))
        coded.find_nearest(coded.side(at), best[-1], own_groups=groups[at], groups=groups)
        if (tell := told[3]) is not None:
            tell(at.stop, len(coded))
    return close(best, k)


def _is_wanted(
    groups: NDArray[np.int64], first_row: int, first_column: int, i: Positions, j: Positions
) -> NDArray[np.bool_]:
    rows, columns = i + first_row, j + first_column
    is_wanted: NDArray[np.bool_] = (rows > columns) & (groups[rows] != groups[columns])
    return is_wanted


def alike_ns(width: int) -> float:
    """Return the nanoseconds that `first_floors` takes for each vector."""
    return plain_ns(_N_ALIKE, width)


def first_floors(
    vectors: ManyVectors,
    k: int,
    groups: NDArray[np.int64],
    n_threads: int | None = None,
    on_progress: OnProgress | None = None,
) -> NDArray[np.float64]:
    """Return for each vector (n,) a similarity that its k nearest reach.

    It is that of the k-th among about `_N_ALIKE` which are on the same sides of a few axes. They
    are as good as four times as many taken at random.
    """
    floors = np.full(len(vectors), -2.0)
    error = Float32().roundoff(vectors.width + 2)

    def compare(alike: Positions) -> None:
        near, of = vectors[alike], groups[alike]
        products = near @ near.T
        products[of[:, None] == of] = -2
        kth = np.partition(products, -k, axis=1)[:, -k]
        lowest = floor_of(to_steps(kth - error))
        floors[alike] = np.where(kth > -2, lowest, -2)

    order = _order_alike(vectors, n_threads)
    parts = np.array_split(order, max(len(order) // _N_ALIKE, 1))
    jobs = (partial(compare, part) for part in parts if len(part) >= k)
    run_in_threads(jobs, n_threads, on_progress)
    return floors


def _order_alike(vectors: ManyVectors, n_threads: int | None) -> Positions:
    """Return all positions so that vectors on the same sides of the first axes are together."""
    if len(vectors) < 2 * _N_ALIKE:
        return np.arange(len(vectors))
    sample = vectors[vectors.sample()]
    centre = sample.mean(axis=0)
    axes = principal_axes(sample - centre, min(_N_AXES, vectors.width)).astype(np.float32)
    along = np.empty((len(vectors), axes.shape[1]), np.float32)

    def project(block: slice) -> None:
        np.matmul(vectors[block], axes, out=along[block])

    run_in_threads((partial(project, block) for block in blocks_of(len(vectors))), n_threads)
    is_above = along > np.median(along, axis=0)
    return np.lexsort(is_above.T[::-1])
