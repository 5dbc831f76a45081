"""The vectors of one layer in a snapshot: the live ones, and their place in layer files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from layerdex.errors import DamagedIndexError
from layerdex.records import Rows, Vectors
from layerdex.storage.vectors.layer_file import LayerFile, Positions
from layerdex.storage.vectors.segment_file import SegmentFile

_DECODED_TOGETHER = 32_768
_OPENED_TOGETHER = 256
"""Segments whose files are opened at the same time, which reads the start of each."""


class VectorSlice(Protocol):
    """Vectors of some documents."""

    @property
    def rows(self) -> Rows:
        """The documents' rows, ascending."""
        ...

    def decode(self, start: int, stop: int) -> Vectors:
        """Return the unit vectors of ``rows[start:stop]``, float32."""
        ...


class VectorSource(Protocol):
    """Vectors of all live documents: those of a layer, or computed from several layers."""

    n_documents: int
    width: int

    def slices(self, rows: Rows | None = None) -> Iterator[VectorSlice]:
        """Yield the live documents, or those of ``rows`` (ascending and live), in row order."""
        ...

    def gather(self, rows: Rows) -> Vectors:
        """Return the unit vectors of ``rows``, in any order, as (len(rows), width) float32."""
        ...


@dataclass(frozen=True, slots=True)
class Segment:
    """An immutable batch of documents, with rows from ``first_row`` to ``last_row``."""

    id: int
    name: str
    n_documents: int
    first_row: int
    last_row: int
    files: dict[int, SegmentFile]

    @property
    def is_contiguous(self) -> bool:
        """Whether position i is row ``first_row + i``."""
        return self.last_row - self.first_row + 1 == self.n_documents


def n_positions(segments: Iterable[Segment]) -> int:
    """Return the number of positions in the segments, those of dead versions included."""
    return sum(segment.n_documents for segment in segments)


@dataclass(frozen=True, slots=True)
class SegmentSlice:
    """Some documents of a segment: ``rows``, ascending, at ``positions`` of ``file``."""

    rows: Rows
    positions: Positions
    file: LayerFile

    @property
    def span(self) -> range:
        """The positions from the first to the last, at least one, those between included."""
        return range(int(self.positions[0]), int(self.positions[-1]) + 1)

    def pieces(self, n_positions: int) -> Iterator[SegmentSlice]:
        """Yield it in slices with spans of at most ``n_positions``."""
        starts = range(self.span.start, self.span.stop, n_positions)
        ends = np.searchsorted(self.positions, [*starts[1:], self.span.stop]).tolist()
        for start, end in pairwise([0, *ends]):
            if start < end:
                yield SegmentSlice(self.rows[start:end], self.positions[start:end], self.file)

    def decode(self, start: int, stop: int) -> Vectors:
        """Return the unit vectors of ``rows[start:stop]``, float32."""
        if len(self.rows) == self.file.n:
            return self.file.decode(slice(start, stop))
        return self.file.decode(self.positions[start:stop])


def decode_slices(parts: Sequence[SegmentSlice]) -> Vectors:
    """Return the unit vectors of slices of one layer, at least one, one after another, float32."""
    codes = [part.file.codes(part.positions) for part in parts]
    return parts[0].file.decode_codes(np.concatenate(codes))


class LayerVectors:
    """The vectors of all live documents at one layer, segment by segment."""

    def __init__(
        self,
        segments: Sequence[Segment],
        *,
        n_documents: int,
        width: int,
        keeps_length: bool,
        dead: Rows,
        rows_of: Callable[[Segment], Rows],
        open_files: Callable[[Sequence[Segment]], list[LayerFile]],
    ) -> None:
        self.n_documents = n_documents
        self.width = width
        self.keeps_length = keeps_length  # see `Codec`
        self._segments = segments
        self._dead = dead
        self._rows_of = rows_of
        self._open_files = open_files

    def slices(self, rows: Rows | None = None) -> Iterator[SegmentSlice]:
        """Yield the live documents, or those of ``rows`` (ascending and live), by segment."""
        concerned = self._segments if rows is None else self._segments_with(rows)
        for start in range(0, len(concerned), _OPENED_TOGETHER):
            segments = concerned[start : start + _OPENED_TOGETHER]
            if rows is None:  # the file's size bounds the rows that a forged catalog may claim
                self._open_files(segments)
            located = [(segment, *self._locate(segment, rows)) for segment in segments]
            chosen = [each for each in located if len(each[1])]
            files = self._open_files([segment for segment, *_ in chosen])
            for (_, of_segment, positions), file in zip(chosen, files, strict=True):
                yield SegmentSlice(of_segment, positions, file)

    def gather(self, rows: Rows) -> Vectors:
        """Return the unit vectors of ``rows``, in any order, as (len(rows), width) float32."""
        if 0 < len(rows) <= _DECODED_TOGETHER:  # few of each of many segments
            distinct, inverse = np.unique(rows, return_inverse=True)
            return decode_slices(self._slices_of_all(distinct))[inverse]
        return self._gather(rows, lambda segment: segment.decode(0, len(segment.rows)))

    def gather_stored(self, rows: Rows) -> Vectors:
        """Return the stored vectors of ``rows``; see `LayerFile.decode_stored`."""
        return self._gather(rows, lambda segment: segment.file.decode_stored(segment.positions))

    def _gather(self, rows: Rows, read: Callable[[SegmentSlice], Vectors]) -> Vectors:
        distinct, inverse = np.unique(rows, return_inverse=True)
        vectors = np.empty((len(distinct), self.width), dtype=np.float32)
        for segment in self._slices_of_all(distinct):
            start = np.searchsorted(distinct, segment.rows[0])
            vectors[start : start + len(segment.rows)] = read(segment)
        return vectors[inverse]

    def _slices_of_all(self, rows: Rows) -> list[SegmentSlice]:
        """Return the slices of ``rows``, ascending.

        Raises `DamagedIndexError` for a row of no segment.
        """
        slices = [*self.slices(rows)]
        if sum(len(part.rows) for part in slices) != len(rows):
            raise DamagedIndexError("the catalog has documents without vectors: restore a backup")
        return slices

    def _segments_with(self, rows: Rows) -> Sequence[Segment]:
        """Return the segments that may have some of the rows, ascending."""
        if len(rows) >= len(self._segments):
            return self._segments
        firsts = np.array([segment.first_row for segment in self._segments])
        at = np.unique(np.searchsorted(firsts, rows, side="right") - 1)
        return [self._segments[i] for i in at.tolist() if i >= 0]

    def _locate(self, segment: Segment, rows: Rows | None) -> tuple[Rows, Positions]:
        bounds = [segment.first_row, segment.last_row + 1]
        if rows is None:
            all_rows = self._rows_of(segment)
            first, last = np.searchsorted(self._dead, bounds)
            if first == last:
                return all_rows, np.arange(len(all_rows))
            positions = np.flatnonzero(np.isin(all_rows, self._dead[first:last], invert=True))
            return all_rows[positions], positions
        first, last = np.searchsorted(rows, bounds)
        chosen = rows[first:last]
        if segment.is_contiguous or not len(chosen):
            return chosen, chosen - segment.first_row
        return chosen, np.searchsorted(self._rows_of(segment), chosen)
