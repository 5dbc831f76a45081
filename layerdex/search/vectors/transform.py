"""`Transform`: vectors centred, or whitened too, so that no direction outweighs the others.

The vectors of a middle layer lie in a narrow cone with a few long axes, where a cosine says little
about what a text means (Mu and Viswanath, ICLR 2018). Whitening: Su and others, *Whitening sentence
representations*, 2021; Huang and others, *WhiteningBERT*, Findings of EMNLP 2021. Raw covariances
are singular here, so each variance is first shrunk towards their mean (Ledoit and Wolf, *Journal
of Multivariate Analysis* 88, 2004).
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
"""Of unit vectors; rounding equal vectors to float16 leaves less."""

_BLOCK = 16_384  # vectors mapped at once: 25 MB at width 384


class Transform:
    """A map of the vectors of one layer: subtract ``mean``, then multiply by ``matrix``.

    ``mean`` is (width,) float32; ``matrix`` is (width, width) float32, or None for centring alone.
    FAISS computes both steps.
    """

    def __init__(self, mean: NDArray[np.float32], matrix: Vectors | None = None) -> None:
        self.mean = mean
        self.matrix = matrix
        self._lengths: WeakKeyDictionary[LayerFile, NDArray[np.float32]] = WeakKeyDictionary()

    def apply(self, vectors: Vectors) -> Vectors:
        """Return unit vectors (n, width) float32; a vector equal to the mean becomes zero."""
        mapped = self._map(vectors)
        lengths = np.linalg.norm(mapped, axis=1, keepdims=True)
        unit: Vectors = mapped / np.maximum(lengths, np.finfo(np.float32).tiny)
        return unit

    def lengths(self, file: LayerFile) -> NDArray[np.float32]:
        """Return the lengths of a file's vectors, as stored and as mapped, (2, file.n) float32.

        They are computed once and cached as long as the file and the transform live. The file's
        codec must keep lengths.
        """
        lengths = self._lengths.get(file)
        if lengths is None:
            lengths = np.empty((2, file.n), dtype=np.float32)
            for start in range(0, file.n, _BLOCK):
                block = slice(start, start + _BLOCK)
                stored = file.decode_stored(block)
                lengths[0, block] = np.linalg.norm(stored, axis=1)
                lengths[1, block] = np.linalg.norm(self._map(normalize(stored)), axis=1)
            self._lengths[file] = lengths
        return lengths

    @cached_property
    def size(self) -> float:
        """The Frobenius norm of the matrix: no mapped unit vector is longer."""
        return 1.0 if self.matrix is None else float(np.linalg.norm(self.matrix))

    def _map(self, vectors: Vectors) -> Vectors:
        mapped = np.ascontiguousarray(vectors, dtype=np.float32)
        for step in self._steps:
            mapped = step.apply(mapped)
        return mapped

    @cached_property
    def _steps(self) -> tuple[Any, ...]:
        faiss = load_faiss()
        center = make_centering(self.mean)
        if self.matrix is None:
            return (center,)
        # The mean is subtracted first: as a bias, -matrix @ mean, it would cancel in float32.
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
    """All principal axes of the vectors of a layer, by FAISS's principal component analysis.

    ``mean`` is (width,), the rows of ``axes`` (width, width) are the axes, ``variances`` (width,)
    are descending; all are float32. Variances are known up to a factor, which does not change a
    cosine. If all vectors are equal, mean and variances are zero, and transforms change nothing.
    """

    mean: NDArray[np.float32]
    axes: Vectors
    variances: NDArray[np.float32]

    @property
    def is_flat(self) -> bool:
        """Whether all vectors are equal."""
        return not self.variances.any()

    def center(self) -> Transform:
        """Return the transform that subtracts the mean."""
        return Transform(self.mean)

    def whiten(self, shrinkage: float) -> Transform:
        """Return the transform that subtracts the mean and evens out the variances.

        ``shrinkage`` draws each variance towards their mean before its axis is divided by it: with
        1 this only centers, with 0 the shortest axes become noise. Raises `OptionError` for a
        value that is not between 0 and 1, and for 0 if the covariance is singular.
        """
        shrinkage = check_between("a shrinkage", shrinkage, 0, 1)
        if self.is_flat:
            return Transform(self.mean, self.axes)
        wide = np.maximum(self.variances.astype(np.float64), 0)  # rounding leaves some below 0
        shrunk = (1 - shrinkage) * wide / wide.mean() + shrinkage
        if shrunk.min() <= 0:
            raise OptionError("shrinkage must be above 0 for vectors with a singular covariance")
        return Transform(self.mean, (self.axes / np.sqrt(shrunk)[:, None]).astype(np.float32))


def find_axes(vectors: Vectors) -> PrincipalAxes:
    """Return the principal axes of unit vectors (n, width) float32.

    The same vectors give the same bytes, whatever the number of threads. Raises `OptionError` for
    a vector that is not finite.
    """
    faiss = load_faiss()
    n, width = vectors.shape
    # FAISS subtracts the squared mean from the sum of squares, in float32, where most digits of a
    # narrow cone cancel: it gets centred vectors.
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    centered = make_centering(mean).apply(np.ascontiguousarray(vectors))
    spread = float(np.einsum("ij,ij->", centered, centered, dtype=np.float64))
    if not np.isfinite(spread):
        raise OptionError("the vector of a document is zero or not finite")
    if spread <= _LEAST_VARIANCE * n:
        # As at layer 0 with CLS pooling. Without their mean, only rounding errors would be left.
        flat = np.zeros(width, np.float32)
        return PrincipalAxes(flat, np.eye(width, dtype=np.float32), flat)
    if n < width:
        # FAISS finds no more axes than vectors; added zeros only scale the variances.
        centered = np.concatenate([centered, np.zeros((width - n, width), np.float32)])
    analysis = faiss.PCAMatrix(width, width)
    analysis.max_points_per_d = len(centered)  # or FAISS would draw a sample
    n_threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # the last digits depend on how threads split sums
    try:
        analysis.train(centered)
    finally:
        faiss.omp_set_num_threads(n_threads)
    axes = faiss.vector_to_array(analysis.PCAMat).reshape(width, width)
    return PrincipalAxes(mean, axes, faiss.vector_to_array(analysis.eigenvalues))


def make_centering(mean: NDArray[np.float32]) -> Any:
    """Return FAISS's transform that subtracts a mean, (width,) float32."""
    faiss = load_faiss()
    center = faiss.CenteringTransform(len(mean))
    faiss.copy_array_to_vector(np.ascontiguousarray(mean), center.mean)
    center.is_trained = True
    return center
