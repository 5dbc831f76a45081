"""Vectors that lie in memory, behind the same protocol as an index's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from layerdex.records import Rows, Vectors
from layerdex.storage.vectors import VectorPart


@dataclass(frozen=True, slots=True)
class GivenPart:
    """Some of the vectors: ``rows`` ascend, ``vectors`` are theirs, (n, width) float32."""

    rows: Rows
    vectors: Vectors

    def decode(self, start: int, stop: int) -> Vectors:
        """Return the unit vectors of ``rows[start:stop]``, float32."""
        return self.vectors[start:stop]


class GivenVectors:
    """Unit vectors (n, width) float32 as a `VectorSource`; ``rows`` (n,) ascend."""

    def __init__(self, rows: Rows, vectors: Vectors) -> None:
        self._rows = rows
        self._vectors = vectors
        self.n_documents, self.width = vectors.shape

    def parts(self, rows: Rows | None = None) -> Iterator[VectorPart]:
        """Yield one part: all vectors, or those of ``rows`` (ascending)."""
        if rows is None:
            yield GivenPart(self._rows, self._vectors)
        elif len(rows):
            yield GivenPart(rows, self.gather(rows))

    def gather(self, rows: Rows) -> Vectors:
        """Return the unit vectors of ``rows``, in any order, as (len(rows), width) float32."""
        return self._vectors[np.searchsorted(self._rows, rows)]
