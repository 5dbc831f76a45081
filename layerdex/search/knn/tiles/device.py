"""The same comparisons on a GPU: large tiles of products there, what they cannot rule out here.

Vectors are whole in float16 on the device, where tensor cores multiply them and sum in float32. The
margin is that of ``docs/tiles.md``, so what is left holds every pair that matters, and is computed
in full by the same function as without a GPU: answers are the same. PyTorch is imported only when a
device is used. Its "cpu" does what a GPU does, for tests.
"""

from __future__ import annotations

from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from layerdex.records import OnProgress, Vectors
from layerdex.search.knn.tiles.arithmetic import UNIT_ROUNDOFF
from layerdex.search.knn.tiles.best import Best
from layerdex.search.knn.tiles.codes import PLAIN, Codes
from layerdex.search.knn.tiles.tile import (
    N_COLUMNS,
    N_ROWS,
    IsWanted,
    Pairs,
    Positions,
    Side,
    find_pairs,
    is_later,
    is_of_other_group,
    join,
    no_pairs,
    rescore,
    run_in_threads,
)
from layerdex.search.knn.tiles.vectors import ManyVectors, blocks_of
from layerdex.search.vectors.similarity import SIMILARITY_STEP, floor_of, to_steps

if TYPE_CHECKING:
    import torch

_HALF_ROUNDOFF = 2.0**-11
_SLACK = 1e-7  # as for the codes of a CPU
_BUDGET_SHARE = 0.5
"""Of the device's free memory, for vectors; tiles take 1 GB of the rest."""

_MOST_LEFT = 1 << 22
"""Pairs of one tile that are computed one by one; of more, tiles of a CPU take the best."""

_RESCORED_AT_ONCE = 1 << 15
_GROUP = 64
"""Columns of which only the largest product tells how high the k-th best of a row is."""


_BEYOND = 2.0
"""A floor that nothing reaches."""

_global_settings = Lock()

NO_CODES = Codes(np.empty((0, 0), np.float32), np.empty(0), np.empty(0))
"""Of a side whose vectors alone are called for."""


class Device:
    """A device that multiplies tiles of ``n_rows`` (at most 2,048) x ``n_columns`` vectors.

    ``name`` is PyTorch's, such as ``cuda:0``. Vectors beyond ``budget_bytes`` (None: half of what
    is free) stay in the host's memory and are sent again for each block of rows.
    """

    def __init__(
        self,
        name: str,
        *,
        n_rows: int = 2_048,
        n_columns: int = 65_536,
        budget_bytes: int | None = None,
    ) -> None:
        import torch

        self.torch = torch.device(name)
        self.n_rows, self.n_columns = n_rows, n_columns
        self._budget_bytes = budget_bytes

    @property
    def is_gpu(self) -> bool:
        """Whether memory has to be copied to it."""
        return self.torch.type == "cuda"

    def budget_bytes(self) -> float:
        """Return the memory that vectors may take."""
        import torch

        if self._budget_bytes is not None:
            return self._budget_bytes
        if not self.is_gpu:
            return float("inf")
        return _BUDGET_SHARE * torch.cuda.mem_get_info(self.torch)[0]

    def encode(self, vectors: Vectors) -> DeviceCodes:
        """Return unit vectors (n, width) float32 in float16; raises as `Encoding.encode` does."""
        import torch

        PLAIN.encode(vectors)  # finds what is not finite
        wide = torch.from_numpy(np.ascontiguousarray(vectors)).to(self.torch).double()
        values = wide.half()
        rounded = values.double()
        errors, lengths = (wide - rounded).norm(dim=1), rounded.norm(dim=1)
        return DeviceCodes(values, errors.cpu().numpy(), lengths.cpu().numpy())


class DeviceCodes(NamedTuple):
    """Vectors in float16, (n, width), and the lengths (n,) of their errors and of them."""

    values: torch.Tensor
    errors: NDArray[np.float64]
    lengths: NDArray[np.float64]


class DeviceVectors:
    """The vectors of a comparison, on a device or on their way to it."""

    def __init__(
        self, device: Device, vectors: ManyVectors, on_progress: OnProgress | None = None
    ) -> None:
        import torch

        n, width = len(vectors), vectors.width
        is_held = n * width * torch.float16.itemsize <= device.budget_bytes()
        self.device, self.vectors = device, vectors
        self._values = torch.empty(
            (n, width),
            dtype=torch.float16,
            device=device.torch if is_held else "cpu",
            pin_memory=device.is_gpu and not is_held,
        )
        self._errors, self._lengths = np.empty(n), np.empty(n)
        for block in blocks_of(n, device.n_columns):
            codes = device.encode(vectors[block])
            self._values[block] = codes.values
            self._errors[block], self._lengths[block] = codes.errors, codes.lengths
            if on_progress is not None:
                on_progress(block.stop, n)
        self._error, self._length = (
            float(each.max(initial=0)) for each in (self._errors, self._lengths)
        )

    def __len__(self) -> int:
        return len(self.vectors)

    def codes(self, at: slice) -> DeviceCodes:
        """Return the codes at some positions, on the device."""
        values = self._values[at].to(self.device.torch, non_blocking=True)
        return DeviceCodes(values, self._errors[at], self._lengths[at])

    def codes_at(self, positions: Positions) -> DeviceCodes:
        """Return the codes at some positions, in their order, on the device."""
        import torch

        at = torch.from_numpy(positions).to(self._values.device)
        values = self._values[at].to(self.device.torch)
        return DeviceCodes(values, self._errors[positions], self._lengths[positions])

    def side(self, at: slice) -> Side:
        """Return the vectors at ``at.start`` to ``at.stop`` as one side of a CPU's tile."""

        def read(chosen: Positions | slice) -> Vectors:
            if isinstance(chosen, slice):
                start, stop, _ = chosen.indices(at.stop - at.start)
                return self.vectors[slice(at.start + start, at.start + stop)]
            return self.vectors[chosen + at.start]

        return Side(NO_CODES, read)

    def margins(self, rows: DeviceCodes) -> NDArray[np.float64]:
        """Return how far a product of each row may be from the similarity, (n_rows,).

        Tensor cores may cut off what they add instead of rounding it, and align all products of a
        step to the largest (Fasi, Higham, Mikaitis and Pranesh, *PeerJ Computer Science* 7, 2021),
        hence twice the bound of a processor.
        """
        roundoff = 4.04 * rows.values.shape[1] * UNIT_ROUNDOFF
        of_errors = rows.errors * (self._length + self._error)
        of_roundoff = rows.lengths * (self._error + roundoff * self._length)
        return np.asarray(of_errors + of_roundoff + _SLACK)

    def find_nearest(
        self,
        rows: Side,
        best: Best,
        *,
        own_groups: NDArray[np.int64] | None = None,
        groups: NDArray[np.int64] | None = None,
    ) -> None:
        """Add to ``best`` the k nearest of at most `Device.n_rows` vectors, and some others.

        Those of a row's own group do not count, where groups (n_rows,) and (n,) are given.
        """
        import torch

        vectors = rows.vectors(slice(None))
        codes = self.device.encode(vectors)
        margins = self.margins(codes)
        near = torch.empty((len(vectors), 0), dtype=torch.float16, device=self.device.torch)
        own = others = is_other = None
        if own_groups is not None and groups is not None:
            own = torch.from_numpy(own_groups).to(self.device.torch)[:, None]
            others = torch.from_numpy(groups)
            is_other = partial(is_of_other_group, own_groups, groups)
        for block in blocks_of(len(self), self.device.n_columns):
            raw = _multiply(codes.values, self.codes(block).values)
            if own is not None and others is not None:
                raw.masked_fill_(own == others[block].to(self.device.torch), -torch.inf)
            is_wanted = None if is_other is None else partial(is_other, block.start)
            near = torch.cat([near, _largest(raw, best.k)], dim=1)
            near = near.topk(min(best.k, near.shape[1]), dim=1).values
            floors = best.floors(block.start)
            if near.shape[1] == best.k:
                kth = near[:, -1].double().cpu().numpy()
                # As many have at least this similarity: a product in float16 is rounded, too.
                lowest = kth - np.abs(kth) * _HALF_ROUNDOFF - margins
                is_known = np.isfinite(kth)
                floors[is_known] = np.maximum(floors, floor_of(to_steps(lowest)))[is_known]
            found = _find(
                raw, rows, self.side(block), floors, margins, is_wanted=is_wanted, k=best.k
            )
            best.add(found.shift(0, block.start))

    def find_pairs(
        self,
        at: slice,
        block: slice,
        floors: NDArray[np.float64],
        column_floors: NDArray[np.float64],
        is_wanted: IsWanted,
    ) -> Pairs:
        """Return the pairs of the vectors at two slices that reach the floor of one of the two."""
        codes, others = self.codes(at), self.codes(block)
        raw = _multiply(codes.values, others.values)
        return _find(
            raw,
            self.side(at),
            self.side(block),
            floors,
            self.margins(codes),
            is_wanted=is_wanted,
            column_floors=column_floors,
            column_margins=self.margins(others),
        )

    def find_pairs_within(self, positions: Positions, min_step: int) -> Pairs:
        """Return the pairs among at most `Device.n_rows` vectors, numbered from 0, the later first.

        ``min_step`` is in steps of `SIMILARITY_STEP`.
        """
        codes, side = self.codes_at(positions), self._chosen(positions)
        raw = _multiply(codes.values, codes.values)
        floors = np.full(len(positions), floor_of(min_step))
        found = _find(raw, side, side, floors, self.margins(codes), is_wanted=is_later(0, 0))
        return found.reaching(min_step)

    def are_near(self, positions: Positions, kept: Positions, min_step: int) -> NDArray[np.bool_]:
        """Return which of at most `Device.n_rows` vectors are near a kept one, (n_positions,).

        The codes of the ``kept`` (n_kept,) are at the front of all; see `move_to_front`.
        """
        near = np.zeros(len(positions), np.bool_)
        left = np.arange(len(positions))
        for block in blocks_of(len(kept), self.device.n_columns):
            codes = self.codes_at(positions[left])
            raw, margins = _multiply(codes.values, self.codes(block).values), self.margins(codes)
            largest = raw.amax(dim=1).double().cpu().numpy()
            # Of most vectors that are near another one, its product alone says so.
            lowest = largest - np.abs(largest) * _HALF_ROUNDOFF - margins
            near[left[lowest >= min_step * SIMILARITY_STEP]] = True
            floors = np.full(len(left), floor_of(min_step))
            floors[near[left]] = _BEYOND
            rows, columns = self._chosen(positions[left]), self._chosen(kept[block])
            found = _find(raw, rows, columns, floors, margins, is_wanted=None, k=1)
            near[left[found.reaching(min_step).rows]] = True
            left = np.flatnonzero(~near)
            if not len(left):
                break
        return near

    def move_to_front(self, positions: Positions, start: int) -> None:
        """Put the codes at some positions in the place of those from ``start`` on."""
        codes, at = self.codes_at(positions), slice(start, start + len(positions))
        self._values[at] = codes.values
        self._errors[at], self._lengths[at] = codes.errors, codes.lengths

    def _chosen(self, positions: Positions) -> Side:
        return Side(NO_CODES, lambda at: self.vectors[positions[at]])


def _find(
    raw: torch.Tensor,
    rows: Side,
    columns: Side,
    floors: NDArray[np.float64],
    margins: NDArray[np.float64],
    *,
    is_wanted: IsWanted | None,
    k: int | None = None,
    column_floors: NDArray[np.float64] | None = None,
    column_margins: NDArray[np.float64] | None = None,
) -> Pairs:
    """Return the pairs that reach the row's floor, from their products; see `find_pairs`."""
    is_left = raw >= _limits(floors, margins, raw)[:, None]
    if column_floors is not None and column_margins is not None:
        is_left |= raw >= _limits(column_floors, column_margins, raw)
    if int(is_left.sum()) > _MOST_LEFT:
        return _find_by_tiles(rows, columns, raw.shape[1], floors, is_wanted, k, column_floors)
    i, j = (each.cpu().numpy() for each in is_left.nonzero(as_tuple=True))
    if is_wanted is not None:
        chosen = is_wanted(i, j)
        i, j = i[chosen], j[chosen]
    lowest = floors[i] if column_floors is None else np.minimum(floors[i], column_floors[j])
    return _rescore(rows, columns, i, j, lowest)


def _find_by_tiles(
    rows: Side,
    columns: Side,
    n_columns: int,
    floors: NDArray[np.float64],
    is_wanted: IsWanted | None,
    k: int | None,
    column_floors: NDArray[np.float64] | None,
) -> Pairs:
    """Return the same pairs where there are too many to send: many vectors are equal."""
    found = [no_pairs()]

    def compare(at: slice, panel: slice) -> None:
        left, right = rows.vectors(at), columns.vectors(panel)
        shifted = None
        if is_wanted is not None:
            shifted = partial(_shifted, is_wanted, at.start, panel.start)
        pairs = find_pairs(
            PLAIN,
            Side(PLAIN.encode(left), left.__getitem__),
            Side(PLAIN.encode(right), right.__getitem__),
            floors[at],
            column_floors=None if column_floors is None else column_floors[panel],
            is_wanted=shifted,
            k=k,
        )
        found.append(pairs.shift(at.start, panel.start))

    run_in_threads(
        partial(compare, at, panel)
        for at in blocks_of(len(floors), N_ROWS)
        for panel in blocks_of(n_columns, N_COLUMNS)
    )
    return join(found)


def _multiply(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Return the products (n_rows, n_columns), summed in float32 and rounded to float16.

    Whatever the caller has asked PyTorch for, such as `torch.autocast`, the margin is of these.
    """
    import torch

    with torch.autocast(rows.device.type, enabled=False):
        if rows.device.type != "cuda":  # whose sums in float16 would be another matter
            return (rows.float() @ columns.float().T).half()
        matmul = torch.backends.cuda.matmul
        with _global_settings:  # of the whole process, so one thread at a time
            reduces, accumulates = (
                matmul.allow_fp16_reduced_precision_reduction,
                matmul.allow_fp16_accumulation,
            )
            matmul.allow_fp16_reduced_precision_reduction = False  # would round partial sums
            matmul.allow_fp16_accumulation = False
            try:
                return torch.mm(rows, columns.T)
            finally:
                matmul.allow_fp16_reduced_precision_reduction = reduces
                matmul.allow_fp16_accumulation = accumulates


def _limits(
    floors: NDArray[np.float64], margins: NDArray[np.float64], raw: torch.Tensor
) -> torch.Tensor:
    """Return what the product of every pair reaches that reaches its floor.

    Rounding keeps the order, so a product above a number of float16 is not rounded below it.
    """
    import torch

    bounds = np.clip(floors - margins, -4, 4)
    nearest = bounds.astype(np.float16)
    below = np.nextafter(nearest, np.float16(-np.inf))
    limits = np.where(nearest > bounds, below, nearest)
    limits[floors > 1] = np.inf  # what only a higher similarity would improve is done
    return torch.from_numpy(limits).to(raw.device)


def _largest(raw: torch.Tensor, k: int) -> torch.Tensor:
    """Return the largest product of each group of columns, (n_rows, n_groups)."""
    n_columns = raw.shape[1]
    size = min(max(n_columns // (4 * k), 1), _GROUP)
    whole = n_columns // size * size
    return raw[:, :whole].reshape(len(raw), -1, size).amax(dim=2)


def _rescore(
    rows: Side, columns: Side, i: Positions, j: Positions, lowest: NDArray[np.float64]
) -> Pairs:
    parts: list[Pairs] = [no_pairs()] * (len(i) // _RESCORED_AT_ONCE + 1)

    def fill(number: int) -> None:
        at = slice(number * _RESCORED_AT_ONCE, (number + 1) * _RESCORED_AT_ONCE)
        parts[number] = rescore(rows, columns, i[at], j[at], lowest[at])

    run_in_threads(partial(fill, number) for number in range(len(parts)))
    return join(parts)


def _shifted(
    is_wanted: IsWanted, first_row: int, first_column: int, i: Positions, j: Positions
) -> NDArray[np.bool_]:
    return is_wanted(i + first_row, j + first_column)
