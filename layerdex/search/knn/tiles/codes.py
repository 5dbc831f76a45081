"""Short codes of vectors, whose products are never below the similarity but for a known margin.

A code is what a vector has along the first m - 1 principal axes of a sample, and the length of what
is left as one more component. By Cauchy and Schwarz the product of two codes is at least that of
the vectors. Rounding a code takes that away again, by no more than the length of its error allows,
and that length is kept (see ``docs/tiles.md``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerdex.records import Vectors
from layerdex.search.knn.tiles.arithmetic import (
    Arithmetic,
    BFloat16,
    Float32,
    fastest_arithmetic,
    int8_for,
)
from layerdex.threads import single_threaded_blas

N_SAMPLED = 4_096
"""Vectors that the length of codes is chosen by."""

PAIR_NS = 700.0
"""What a pair costs that a tile cannot rule out; see `Arithmetic.score_ns`."""

_LENGTHS = (32, 48, 64, 96, 128, 192, 256)
_N_ITERATIONS = 3
_N_FOR_AXES = 2_048
_SLACK = 1e-7
"""For the rounding of a similarity to float32, sums in float64, axes not quite orthogonal."""


@dataclass(frozen=True, slots=True)
class Codes:
    """The codes of n vectors: ``values`` (n, m), the lengths (n,) of their errors and of them."""

    values: NDArray[Any]
    errors: NDArray[np.float64]
    lengths: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, at: slice | NDArray[np.int64]) -> Codes:
        return Codes(self.values[at], self.errors[at], self.lengths[at])

    def __setitem__(self, at: slice, codes: Codes) -> None:
        self.values[at], self.errors[at] = codes.values, codes.errors
        self.lengths[at] = codes.lengths


@dataclass(frozen=True, slots=True)
class Encoding:
    """How vectors become codes.

    ``axes`` are (width, m - 1), orthonormal, or None for all of a vector; ``rotation`` (m, m)
    spreads a code evenly over its components, or is None.
    """

    arithmetic: Arithmetic
    axes: NDArray[np.float64] | None = None
    rotation: NDArray[np.float64] | None = None

    def n_components(self, width: int) -> int:
        """Return the length m of the codes of vectors of this width."""
        return width if self.axes is None else self.axes.shape[1] + 1

    def encode(self, vectors: Vectors) -> Codes:
        """Return the codes of unit vectors, (n, width) float32."""
        if self is PLAIN:
            wide_lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
            return Codes(vectors, np.zeros(len(vectors)), wide_lengths)
        wide = vectors.astype(np.float64)
        if self.axes is not None:
            wide = _shorten(wide, self.axes)
        if self.rotation is not None:
            wide = wide @ self.rotation
        values = self.arithmetic.encode(wide)
        rounded = self.arithmetic.decode(values)
        return Codes(values, _lengths(wide - rounded), _lengths(rounded))

    def margins(self, rows: Codes, columns: Codes) -> NDArray[np.float64]:
        """Return how far below the similarity a product of each row may be, (n_rows,)."""
        error, length = columns.errors.max(), columns.lengths.max()
        roundoff = self.arithmetic.roundoff(rows.values.shape[1])
        return rows.errors * (length + error) + rows.lengths * (error + roundoff * length) + _SLACK


PLAIN = Encoding(Float32())
"""The vectors themselves are the codes: for comparisons too few to make other codes."""


def choose_encoding(
    rows: Vectors,
    columns: Vectors,
    floors: NDArray[np.float64] | float,
    arithmetic: str | None = None,
) -> Encoding:
    """Return the encoding that is likely to compare vectors like these fastest.

    ``rows`` and ``columns`` are samples of both sides; ``floors`` is the similarity that matters,
    of each row (n_rows,) or of all.
    """
    name = arithmetic or fastest_arithmetic()
    width = columns.shape[1]
    lengths = [m for m in _LENGTHS if m < width]
    floors = np.broadcast_to(np.asarray(floors, np.float64), len(rows))
    with single_threaded_blas():  # a QR by two threads that wait for each other is 80 times as slow
        tried = [_make(name, columns, None)]
        if lengths:
            axes = principal_axes(columns[:_N_FOR_AXES], max(lengths) - 1)
            tried += [_make(name, columns, axes[:, : m - 1]) for m in lengths]
        return min(tried, key=lambda one: _cost(one, rows, columns, floors))


def principal_axes(vectors: Vectors, n: int) -> NDArray[np.float64]:
    """Return about the first n axes of vectors (n_vectors, width), not centred, (width, n).

    Any orthonormal axes give right answers, so a few rounds of subspace iteration do (Halko,
    Martinsson and Tropp, SIAM Review 53, 2011).
    """
    wide = vectors.astype(np.float64)
    axes = np.linalg.qr(np.random.default_rng(0).standard_normal((wide.shape[1], n)))[0]
    for _ in range(_N_ITERATIONS):
        axes = np.linalg.qr(wide.T @ (wide @ axes))[0]
    # Ordered by what they explain, so that the first m of them are the best m.
    _, order = np.linalg.eigh((wide @ axes).T @ (wide @ axes))
    return np.asarray(axes @ order[:, ::-1])


def _make(name: str, sample: Vectors, axes: NDArray[np.float64] | None) -> Encoding:
    if name == Float32.name:
        return Encoding(Float32(), axes)
    if name == BFloat16.name:
        return Encoding(BFloat16(), axes)
    m = sample.shape[1] if axes is None else axes.shape[1] + 1
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((m, m)))[0]
    wide = sample.astype(np.float64)
    short = wide if axes is None else _shorten(wide, axes)
    return Encoding(int8_for(short @ rotation), axes, rotation)


def _cost(
    encoding: Encoding, rows: Vectors, columns: Vectors, floors: NDArray[np.float64]
) -> float:
    left, right = encoding.encode(rows), encoding.encode(columns)
    decode = encoding.arithmetic.decode
    # The largest errors are of few vectors, and columns in order of them would meet alone.
    usual = right[np.argsort(right.errors)[: len(right) // 2 + 1]]
    bounds = floors - encoding.margins(left, usual)
    products = decode(left.values) @ decode(right.values).T
    share = float(np.mean(products >= bounds[:, None]))
    return encoding.arithmetic.score_ns(left.values.shape[1]) + PAIR_NS * share


def _shorten(wide: NDArray[np.float64], axes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what vectors have along the axes, and the length of what is left."""
    short = np.empty((len(wide), axes.shape[1] + 1))
    np.matmul(wide, axes, out=short[:, :-1])
    rest = np.einsum("ij,ij->i", wide, wide) - np.einsum("ij,ij->i", short[:, :-1], short[:, :-1])
    # The difference of two sums in float64 may be below what is left.
    short[:, -1] = np.sqrt(np.maximum(rest, 0) + _REST_SLACK)
    return short


_REST_SLACK = 1e-12


def _lengths(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
