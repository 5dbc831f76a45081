"""Which pairs of documents are similar enough for one of the two, each pair once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from layerdex.records import OnProgress, Rows, progress_of_shares
from layerdex.search.knn.tiles.asked_device import asked_device
from layerdex.search.knn.tiles.costs import ENCODE_NS, READ_NS
from layerdex.search.knn.tiles.device import DeviceVectors
from layerdex.search.knn.tiles.tile import N_ROWS, Pairs, find_pairs, is_later, run_in_threads
from layerdex.search.knn.tiles.vectors import (
    CodedVectors,
    ManyVectors,
    blocks_of,
    encode_all,
    has_codes,
)
from layerdex.storage.vectors.layer_vectors import VectorSource


def encode_for_pairs(
    source: VectorSource,
    rows: Rows,
    min_similarity: float,
    *,
    arithmetic: str | None = None,
    n_threads: int | None = None,
    on_progress: OnProgress | None = None,
) -> CodedVectors | DeviceVectors:
    """Return n documents, ``rows`` in any order, with codes for pairs above a similarity."""
    told = progress_of_shares(on_progress, (READ_NS, ENCODE_NS), len(rows))
    vectors = ManyVectors(source, rows, told[0])
    return encode_vectors(
        vectors, min_similarity, arithmetic=arithmetic, n_threads=n_threads, on_progress=told[1]
    )


def encode_vectors(
    vectors: ManyVectors,
    floors: NDArray[np.float64] | float,
    *,
    arithmetic: str | None = None,
    n_threads: int | None = None,
    on_progress: OnProgress | None = None,
) -> CodedVectors | DeviceVectors:
    """Return vectors with codes for pairs, on the device that is asked for; see `encode_all`."""
    if has_codes(len(vectors)) and (device := asked_device()) is not None:
        return DeviceVectors(device, vectors, on_progress)
    return encode_all(
        vectors, floors, arithmetic=arithmetic, n_threads=n_threads, on_progress=on_progress
    )


def each_pair(
    coded: CodedVectors | DeviceVectors,
    floors: Callable[[slice], NDArray[np.float64]],
    take: Callable[[Pairs], None],
    *,
    n_threads: int | None = None,
    on_progress: OnProgress | None = None,
) -> None:
    """Hand over all pairs, the later position as the row, that reach the floor of one of the two.

    ``floors`` returns the similarities that matter to the documents at some positions, which may
    rise meanwhile. Both functions are called by several threads.
    """
    n = len(coded)
    if isinstance(coded, DeviceVectors):
        _each_pair_on(coded, floors, take, on_progress)
        return
    # The longest first, so that no thread is left with one when the others are done.
    blocks = [slice(start, min(start + N_ROWS, n)) for start in reversed(range(0, n, N_ROWS))]

    def compare(block: slice) -> None:
        side = coded.side(block)
        for first, panel in coded.panels(block.stop):
            found = find_pairs(
                coded.encoding,
                side,
                panel,
                floors(block),
                column_floors=floors(slice(first, first + len(panel.codes))),
                is_wanted=is_later(block.start, first),
            )
            if len(found.rows):
                take(found.shift(block.start, first))

    def tell(n_done: int, _: int | None) -> None:
        if on_progress is not None:
            on_progress(n * n - blocks[n_done - 1].start ** 2, n * n)

    run_in_threads((partial(compare, block) for block in blocks), n_threads, tell)


def _each_pair_on(
    coded: DeviceVectors,
    floors: Callable[[slice], NDArray[np.float64]],
    take: Callable[[Pairs], None],
    on_progress: OnProgress | None,
) -> None:
    n, device = len(coded), coded.device
    for at in blocks_of(n, device.n_rows):
        for block in blocks_of(at.stop, device.n_columns):
            is_wanted = is_later(at.start, block.start)
            found = coded.find_pairs(at, block, floors(at), floors(block), is_wanted)
            if len(found.rows):
                take(found.shift(at.start, block.start))
        if on_progress is not None:
            on_progress(at.stop**2, n * n)
