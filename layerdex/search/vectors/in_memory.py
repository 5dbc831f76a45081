"""Vectors that lie in memory, behind the same protocol as an index's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from layerdex.records import Rows, Vectors
from layerdex.storage.vectors.layer_vectors import VectorSlice


@dataclass(frozen=True, slots=True)
class InMemorySlice:
    """Some of the vectors: ``rows`` ascend, ``vectors`` are theirs, (n, width) float32."""

    rows: Rows
    vectors: Vectors

    def decode(self, start: int, stop: int) -> Vectors:
        """Return the unit vectors of ``rows[start:stop]``, float32."""
        return self.vectors[start:stop]


class InMemoryVectors:
    """Unit vectors (n, width) float32 as a `VectorSource`; ``rows`` (n,) ascend."""

    def __init__(self, rows: Rows, vectors: Vectors) -> None:
        self._rows = rows
        self._vectors = vectors
        self.n_documents, self.width = vectors.shape

    def slices(self, rows: Rows | None = None) -> Iterator[VectorSlice]:
        """Yield one part: all vectors, or those of ``rows`` (ascending)."""
        if rows is None:
            yield InMemorySlice(self._rows, self._vectors)
        elif len(rows):
            yield InMemorySlice(rows, self.gather(rows))

    def gather(self, rows: Rows) -> Vectors:
        """Return the unit vectors of ``rows``, in any order, as (len(rows), width) float32."""
        return self._vectors[np.searchsorted(self._rows, rows)]
