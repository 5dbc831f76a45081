"""More even vectors: centred, or whitened too, so that no direction outweighs the others.

Vectors of a middle layer lie in a narrow cone with a few long axes, and there a cosine says little
of what a text means (Mu and Viswanath, ICLR 2018). Whitening: Su and others, *Whitening sentence
representations*, 2021; Huang and others, *WhiteningBERT*, Findings of EMNLP 2021. Raw covariances
are singular here, so that each variance is first drawn towards their mean (shrinkage: Ledoit and
Wolf, *Journal of Multivariate Analysis* 88, 2004).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from layerdex.arguments import check_between
from layerdex.errors import OptionError
from layerdex.records import Rows, Vectors
from layerdex.storage.vectors.codecs import normalize
from layerdex.storage.vectors.faiss_library import load_faiss
from layerdex.storage.vectors.layer_file import LayerFile
from layerdex.storage.vectors.layer_vectors import VectorSlice, VectorSource

_LEAST_VARIANCE = 1e-10
"""Of unit vectors; the rounding of equal ones to float16 leaves less."""

_BLOCK = 16_384  # vectors moved at once: 25 MB at width 384


class Transform:
    """FAISS's transforms for the vectors of one layer: take ``mean`` off, multiply by ``matrix``.

    ``mean`` is (width,) float32; ``matrix`` is (width, width) float32, or None for centring alone.
    """

    def __init__(self, mean: NDArray[np.float32], matrix: Vectors | None = None) -> None:
        self.mean = mean
        self.matrix = matrix
        self._lengths: WeakKeyDictionary[LayerFile, NDArray[np.float32]] = WeakKeyDictionary()

    def apply(self, vectors: Vectors) -> Vectors:
        """Return unit vectors (n, width) float32; one that is the mean itself becomes zero."""
        found = self._move(vectors)
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        unit: Vectors = found / np.maximum(lengths, np.finfo(np.float32).tiny)
        return unit

    def lengths(self, file: LayerFile) -> NDArray[np.float32]:
        """Return the lengths of a file's vectors, as they are kept and moved, (2, file.n) float32.

        They are computed once, and forgotten with the file or the transform. The file's codec
        keeps lengths.
        """
        found = self._lengths.get(file)
        if found is None:
            found = np.empty((2, file.n), dtype=np.float32)
            for start in range(0, file.n, _BLOCK):
                block = slice(start, start + _BLOCK)
                kept = file.decode_stored(block)
                found[0, block] = np.linalg.norm(kept, axis=1)
                found[1, block] = np.linalg.norm(self._move(normalize(kept)), axis=1)
            self._lengths[file] = found
        return found

    @cached_property
    def size(self) -> float:
        """The Frobenius norm of the matrix, no less than what any unit vector is stretched to."""
        return 1.0 if self.matrix is None else float(np.linalg.norm(self.matrix))

    def _move(self, vectors: Vectors) -> Vectors:
        found = np.ascontiguousarray(vectors, dtype=np.float32)
        for step in self._steps:
            found = step.apply(found)
        return found

    @cached_property
    def _steps(self) -> tuple[Any, ...]:
        faiss = load_faiss()
        center = make_centering(self.mean)
        if self.matrix is None:
            return (center,)
        # The mean comes off first: as a bias, -matrix @ mean, it would cancel in float32.
        linear = faiss.LinearTransform(*reversed(self.matrix.shape), False)
        faiss.copy_array_to_vector(np.ascontiguousarray(self.matrix).ravel(), linear.A)
        linear.is_trained = True
        return (center, linear)


Transforms = Mapping[int, Transform]
"""A transform for each layer, of that layer's vectors."""


class TransformedVectors:
    """The transformed vectors of documents, computed as they are read; see `VectorSource`."""

    def __init__(self, transform: Transform, layer: VectorSource) -> None:
        self.transform = transform
        self.layer = layer
        self.n_documents, self.width = layer.n_documents, layer.width

    def slices(self, rows: Rows | None = None) -> Iterator[VectorSlice]:
        """Yield the live documents, or those of ``rows``, by segment."""
        for part in self.layer.slices(rows):
            yield _TransformedSlice(self.transform, part)

    def gather(self, rows: Rows) -> Vectors:
        """Return the unit vectors of ``rows``, in any order, as (len(rows), width) float32."""
        return self.transform.apply(self.layer.gather(rows))


class _TransformedSlice:
    def __init__(self, transform: Transform, part: VectorSlice) -> None:
        self._transform = transform
        self._part = part

    @property
    def rows(self) -> Rows:
        return self._part.rows

    def decode(self, start: int, stop: int) -> Vectors:
        return self._transform.apply(self._part.decode(start, stop))


@dataclass(frozen=True, slots=True)
class PrincipalAxes:
    """How the vectors of a layer spread: FAISS's principal component analysis, all axes kept.

    ``mean`` is (width,), ``axes`` (width, width) with an axis a row, ``variances`` (width,)
    descending, all float32. Variances are known up to a factor, which no cosine depends on.
    Vectors that are all alike have a mean and variances of zero: transforms leave them as they are.
    """

    mean: NDArray[np.float32]
    axes: Vectors
    variances: NDArray[np.float32]

    @property
    def is_flat(self) -> bool:
        """Whether the vectors are all alike."""
        return not self.variances.any()

    def center(self) -> Transform:
        """Return the transform that takes the mean off."""
        return Transform(self.mean)

    def whiten(self, shrinkage: float) -> Transform:
        """Return the transform to even variances.

        ``shrinkage`` from 0 to 1 draws each towards their mean: 1 leaves them as they are, which
        is centring, and 0 makes noise of the shortest axes. Raises `OptionError` for another, and
        for 0 where the covariance is singular.
        """
        shrinkage = check_between("a shrinkage", shrinkage, 0, 1)
        if self.is_flat:
            return Transform(self.mean, self.axes)
        wide = np.maximum(self.variances.astype(np.float64), 0)  # rounding leaves some below 0
        shrunk = (1 - shrinkage) * wide / wide.mean() + shrinkage
        if shrunk.min() <= 0:
            raise OptionError("these vectors do not spread in all directions: shrink more than 0")
        return Transform(self.mean, (self.axes / np.sqrt(shrunk)[:, None]).astype(np.float32))


def find_axes(vectors: Vectors) -> PrincipalAxes:
    """Return the principal axes of unit vectors (n, width) float32.

    The same vectors give the same bytes, whatever the number of threads. Raises `OptionError` for
    a vector that is not finite, of which FAISS would only say that it learns something very bad.
    """
    faiss = load_faiss()
    n, width = vectors.shape
    # FAISS sums in float32, and takes the mean's square off the sum of squares, where most of a
    # narrow cone's digits cancel: it gets centred vectors.
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = make_centering(mean).apply(np.ascontiguousarray(vectors))
    spread = float(np.einsum("ij,ij->", centred, centred, dtype=np.float64))
    if not np.isfinite(spread):
        raise OptionError("the vector of a document is zero or not finite")
    if spread <= _LEAST_VARIANCE * n:
        # Such as those of layer 0 with pooling by cls. Less their mean they would be rounding.
        flat = np.zeros(width, np.float32)
        return PrincipalAxes(flat, np.eye(width, dtype=np.float32), flat)
    if n < width:
        # From fewer vectors FAISS takes no more axes than these span; zeros only scale variances.
        centred = np.concatenate([centred, np.zeros((width - n, width), np.float32)])
    found = faiss.PCAMatrix(width, width)
    found.max_points_per_d = len(centred)  # no sample of FAISS's own
    n_threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # how sums are split would show in the last digits
    try:
        found.train(centred)
    finally:
        faiss.omp_set_num_threads(n_threads)
    axes = faiss.vector_to_array(found.PCAMat).reshape(width, width)
    return PrincipalAxes(mean, axes, faiss.vector_to_array(found.eigenvalues))


def make_centering(mean: NDArray[np.float32]) -> Any:
    """Return FAISS's transform that takes a mean off, (width,) float32."""
    faiss = load_faiss()
    center = faiss.CenteringTransform(len(mean))
    faiss.copy_array_to_vector(np.ascontiguousarray(mean), center.mean)
    center.is_trained = True
    return center
