"""One layer of a snapshot: which vectors are live, and where they lie."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from layerdex.records import Rows, Vectors
from layerdex.storage.vectors.layer_file import LayerFile, Positions


class VectorSlice(Protocol):
    """Vectors of some documents, whose ``rows`` ascend."""

    @property
    def rows(self) -> Rows:
        """The documents' rows, ascending."""
        ...

    def decode(self, start: int, stop: int) -> Vectors:
        """Return the unit vectors of ``rows[start:stop]``, float32."""
        ...


class VectorSource(Protocol):
    """Vectors of all live documents: of one layer, or computed from several."""

    n_documents: int
    width: int

    def slices(self, rows: Rows | None = None) -> Iterator[VectorSlice]:
        """Yield the live documents, or those of ``rows`` (ascending and live), in row order."""
        ...

    def gather(self, rows: Rows) -> Vectors:
        """Return the unit vectors of ``rows``, in any order, as (len(rows), width) float32."""
        ...


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """What the catalog says of one layer's file."""

    size_bytes: int
    crc32: int


@dataclass(frozen=True, slots=True)
class Segment:
    """An immutable batch of documents, whose rows lie between ``first_row`` and ``last_row``."""

    id: int
    name: str
    n_documents: int
    first_row: int
    last_row: int
    files: dict[int, SegmentFile]

    @property
    def is_contiguous(self) -> bool:
        """Whether position i simply is row ``first_row + i``."""
        return self.last_row - self.first_row + 1 == self.n_documents


def n_positions(segments: Iterable[Segment]) -> int:
    """Return how many vectors segments have a layer, those of dead versions included."""
    return sum(segment.n_documents for segment in segments)


@dataclass(frozen=True, slots=True)
class SegmentSlice:
    """Some documents of one segment: ``rows`` ascending, at ``positions`` of ``file``."""

    rows: Rows
    positions: Positions
    file: LayerFile

    @property
    def is_whole(self) -> bool:
        """Whether every position of the file is here."""
        return len(self.rows) == self.file.n

    def decode(self, start: int, stop: int) -> Vectors:
        """Return the unit vectors of ``rows[start:stop]``, float32."""
        if self.is_whole:
            return self.file.decode(slice(start, stop))
        return self.file.decode(self.positions[start:stop])


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
        open_file: Callable[[Segment], LayerFile],
    ) -> None:
        self.n_documents = n_documents
        self.width = width
        self.keeps_length = keeps_length  # see `Codec`
        self._segments = segments
        self._dead = dead
        self._rows_of = rows_of
        self._open_file = open_file

    def slices(self, rows: Rows | None = None) -> Iterator[SegmentSlice]:
        """Yield the live documents, or those of ``rows`` (ascending and live), by segment."""
        for segment in self._segments:
            if rows is None:  # its size bounds the rows, of which a forged catalog may claim any
                self._open_file(segment)
            chosen, positions = self._locate(segment, rows)
            if len(chosen):
                yield SegmentSlice(chosen, positions, self._open_file(segment))

    def gather(self, rows: Rows) -> Vectors:
        """Return the unit vectors of ``rows``, in any order, as (len(rows), width) float32."""
        return self._gather(rows, lambda part: part.decode(0, len(part.rows)))

    def gather_stored(self, rows: Rows) -> Vectors:
        """Return the vectors of ``rows`` as they are kept; see `LayerFile.kept`."""
        return self._gather(rows, lambda part: part.file.kept(part.positions))

    def _gather(self, rows: Rows, read: Callable[[SegmentSlice], Vectors]) -> Vectors:
        distinct, place = np.unique(rows, return_inverse=True)
        vectors = np.empty((len(distinct), self.width), dtype=np.float32)
        for part in self.slices(distinct):
            start = np.searchsorted(distinct, part.rows[0])
            vectors[start : start + len(part.rows)] = read(part)
        return vectors[place]

    def _locate(self, segment: Segment, rows: Rows | None) -> tuple[Rows, Positions]:
        bounds = [segment.first_row, segment.last_row + 1]
        if rows is None:
            own = self._rows_of(segment)
            first, last = np.searchsorted(self._dead, bounds)
            if first == last:
                return own, np.arange(len(own))
            positions = np.flatnonzero(np.isin(own, self._dead[first:last], invert=True))
            return own[positions], positions
        first, last = np.searchsorted(rows, bounds)
        chosen = rows[first:last]
        if segment.is_contiguous or not len(chosen):
            return chosen, chosen - segment.first_row
        return chosen, np.searchsorted(self._rows_of(segment), chosen)
