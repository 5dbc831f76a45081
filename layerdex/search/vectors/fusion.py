"""Several layers' vectors as one, computed as they are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from layerdex.choices import Fuse
from layerdex.records import Rows, Vectors
from layerdex.storage.vectors.layer_vectors import VectorSlice, VectorSource


def fuse_vectors(vectors: Sequence[Vectors], fuse: Fuse, weights: Sequence[float]) -> Vectors:
    """Return one unit vector for the unit vectors of each layer, all (n, width).

    The result is (n, width), with `Fuse.CONCAT` (n, n_layers * width). Where a mean is zero, as of
    opposite vectors, it stays zero.
    """
    # Only their proportions matter, and float32 loses what is far from 1.
    scaled = (np.asarray(weights) / max(weights)).astype(np.float32)
    if fuse is Fuse.CONCAT:
        scaled /= np.linalg.norm(scaled)
        blocks = [weight * layer for weight, layer in zip(scaled, vectors, strict=True)]
        return np.concatenate(blocks, axis=1)
    total = np.zeros_like(vectors[0])
    for weight, layer in zip(scaled, vectors, strict=True):
        total += weight * layer
    lengths = np.linalg.norm(total, axis=1, keepdims=True)
    total /= np.maximum(lengths, np.finfo(np.float32).tiny)
    return total


class FusedVectors:
    """The fused vectors of documents, computed as they are read; see `VectorSource`."""

    def __init__(
        self, layers: Sequence[VectorSource], fuse: Fuse, weights: Sequence[float]
    ) -> None:
        self._layers = layers
        self._fuse = fuse
        self._weights = weights
        self.n_documents = layers[0].n_documents
        widths = [layer.width for layer in layers]
        self.width = sum(widths) if fuse is Fuse.CONCAT else widths[0]

    def slices(self, rows: Rows | None = None) -> Iterator[VectorSlice]:
        """Yield the live documents, or those of ``rows``, by segment."""
        for slices in zip(*(layer.slices(rows) for layer in self._layers), strict=True):
            yield _FusedSlice(slices, self._fuse, self._weights)

    def gather(self, rows: Rows) -> Vectors:
        """Return the unit vectors of ``rows``, in any order, as (len(rows), width) float32."""
        vectors = [layer.gather(rows) for layer in self._layers]
        return fuse_vectors(vectors, self._fuse, self._weights)


class _FusedSlice:
    def __init__(self, slices: Sequence[VectorSlice], fuse: Fuse, weights: Sequence[float]) -> None:
        self._slices = slices
        self._fuse = fuse
        self._weights = weights

    @property
    def rows(self) -> Rows:
        return self._slices[0].rows

    def decode(self, start: int, stop: int) -> Vectors:
        vectors = [each.decode(start, stop) for each in self._slices]
        return fuse_vectors(vectors, self._fuse, self._weights)
