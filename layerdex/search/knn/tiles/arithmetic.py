"""Products of codes in float32, bfloat16 or int8, whichever this CPU computes fastest.

A product is compared without being converted: as float32, as the bits of a bfloat16, or as int32.
"""

from __future__ import annotations

import time
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from layerdex.cpu import cpu_has_bfloat16, cpu_has_int8
from layerdex.limits import TORCH, check_limits

UNIT_ROUNDOFF = 2.0**-24
"""Of float32: the relative error of one rounding."""

_LARGEST = 127
_BFLOAT16_ROUNDOFF = 2.0**-8
_TRIED = (512, 2_048, 128)


class Arithmetic(Protocol):
    """How codes are stored and multiplied."""

    name: str
    dtype: np.dtype[Any]
    is_exact: bool
    """Whether codes are float32 vectors as they are."""

    def score_ns(self, m: int) -> float:
        """Return about how long one thread takes for a product of m components, and a look at it.

        Only the proportions matter, to the full product in float64 too (`PAIR_NS`).
        """
        ...

    def encode(self, vectors: NDArray[np.float64]) -> NDArray[Any]:
        """Round vectors (n, m) to codes (n, m)."""
        ...

    def decode(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """Return the vectors that codes stand for, exactly."""
        ...

    def multiply(
        self, rows: NDArray[Any], columns: NDArray[Any], buffer: NDArray[np.int32]
    ) -> NDArray[Any]:
        """Return the raw products (n_rows, n_columns), kept in ``buffer``."""
        ...

    def limits(self, bounds: NDArray[np.float64]) -> NDArray[Any]:
        """Return for each bound the raw product that every product >= the bound reaches."""
        ...

    def roundoff(self, m: int) -> float:
        """Return the error of a sum of m products, relative to the lengths of both vectors."""
        ...


class Float32:
    """NumPy's products, of codes in float32."""

    name = "float32"
    dtype = np.dtype(np.float32)
    is_exact = True

    def score_ns(self, m: int) -> float:
        """See `Arithmetic`."""
        return 0.15 + 0.0245 * m

    def encode(self, vectors: NDArray[np.float64]) -> NDArray[Any]:
        """See `Arithmetic`."""
        return vectors.astype(np.float32)

    def decode(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """See `Arithmetic`."""
        return codes.astype(np.float64)

    def multiply(
        self, rows: NDArray[Any], columns: NDArray[Any], buffer: NDArray[np.int32]
    ) -> NDArray[Any]:
        """See `Arithmetic`."""
        raw = _shaped(buffer, rows, columns).view(np.float32)
        return np.matmul(rows, columns.T, out=raw)

    def limits(self, bounds: NDArray[np.float64]) -> NDArray[Any]:
        """See `Arithmetic`."""
        return _round_down(bounds)

    def roundoff(self, m: int) -> float:
        """See `Arithmetic`. In any order of summation (Higham 2002, 3.1)."""
        return 1.01 * m * UNIT_ROUNDOFF


class BFloat16:
    """PyTorch's products, of codes in bfloat16, summed in float32 and rounded to bfloat16."""

    name = "bfloat16"
    dtype = np.dtype(np.int16)
    is_exact = False

    def score_ns(self, m: int) -> float:
        """See `Arithmetic`."""
        return 0.2 + 0.008 * m

    def encode(self, vectors: NDArray[np.float64]) -> NDArray[Any]:
        """See `Arithmetic`."""
        import torch

        rounded = torch.from_numpy(vectors.astype(np.float32)).bfloat16()
        codes: NDArray[Any] = rounded.view(torch.int16).numpy()
        return codes

    def decode(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """See `Arithmetic`."""
        bits = codes.view(np.uint16).astype(np.uint32) << np.uint32(16)
        return bits.view(np.float32).astype(np.float64)

    def multiply(
        self, rows: NDArray[Any], columns: NDArray[Any], buffer: NDArray[np.int32]
    ) -> NDArray[Any]:
        """See `Arithmetic`."""
        import torch

        raw = buffer.view(np.int16)[: len(rows) * len(columns)].reshape(len(rows), len(columns))
        left, right, out = (
            torch.from_numpy(array).view(torch.bfloat16) for array in (rows, columns, raw)
        )
        torch.mm(left, right.T, out=out)
        return raw

    def limits(self, bounds: NDArray[np.float64]) -> NDArray[Any]:
        """See `Arithmetic`. As integers, the bits of numbers above zero are in their order."""
        bits = _round_down(bounds * (1 - _BFLOAT16_ROUNDOFF)).view(np.int32) >> 16
        return np.where(bounds > 0, bits, np.iinfo(np.int16).min).astype(np.int16)

    def roundoff(self, m: int) -> float:
        """See `Arithmetic`. Processors may sum in pairs, and round toward zero."""
        return 2.02 * m * UNIT_ROUNDOFF


class Int8:
    """PyTorch's products of whole numbers, which are exact; a component is a multiple of a step."""

    name = "int8"
    dtype = np.dtype(np.int8)
    is_exact = False

    def __init__(self, step: float) -> None:
        self._step = step

    def score_ns(self, m: int) -> float:
        """See `Arithmetic`."""
        return 0.25 + 0.0026 * m

    def encode(self, vectors: NDArray[np.float64]) -> NDArray[Any]:
        """See `Arithmetic`."""
        whole: NDArray[Any] = np.clip(np.rint(vectors / self._step), -_LARGEST, _LARGEST)
        return whole.astype(np.int8)

    def decode(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """See `Arithmetic`."""
        return codes * self._step

    def multiply(
        self, rows: NDArray[Any], columns: NDArray[Any], buffer: NDArray[np.int32]
    ) -> NDArray[Any]:
        """See `Arithmetic`."""
        import torch

        raw = _shaped(buffer, rows, columns)
        left, right, out = (torch.from_numpy(array) for array in (rows, columns, raw))
        torch._int_mm(left, right.T, out=out)
        return raw

    def limits(self, bounds: NDArray[np.float64]) -> NDArray[Any]:
        """See `Arithmetic`."""
        whole = np.floor(bounds / self._step**2)
        return np.clip(whole, -(2.0**31), 2.0**31 - 1).astype(np.int32)

    def roundoff(self, m: int) -> float:  # noqa: ARG002
        """See `Arithmetic`."""
        return 0.0


def int8_for(sample: NDArray[np.float64]) -> Int8:
    """Return int8 with the step for vectors like a sample's (n, m): a few are clipped."""
    largest = float(np.quantile(np.abs(sample), 0.9999)) * 1.05
    return Int8(max(largest, 1e-30) / _LARGEST)


@cache
def fastest_arithmetic() -> str:
    """Return the name of the arithmetic that multiplies one tile fastest here.

    int8 and bfloat16 are tried where the CPU has instructions for them, and int8 only if sums of
    the largest products are right: without these instructions they may saturate.
    """
    tried: list[Arithmetic] = [Float32()]
    if not (cpu_has_bfloat16() or cpu_has_int8()):
        return tried[0].name
    check_limits(TORCH)
    tried += [BFloat16()] * cpu_has_bfloat16()
    tried += [Int8(1 / _LARGEST)] * (cpu_has_int8() and _int8_is_exact())
    return min(tried, key=_seconds).name


def _int8_is_exact() -> bool:
    """Return whether products of whole numbers are right, the largest ones too."""
    generator = np.random.default_rng(0)
    n_rows, n_columns, m = 64, 96, 1_024
    rows = generator.integers(-_LARGEST, _LARGEST, (n_rows, m), endpoint=True, dtype=np.int8)
    columns = generator.integers(-_LARGEST, _LARGEST, (n_columns, m), endpoint=True, dtype=np.int8)
    rows[0], columns[0], columns[1] = _LARGEST, _LARGEST, -_LARGEST
    buffer = np.empty(n_rows * n_columns, np.int32)
    try:
        raw = Int8(1.0).multiply(rows, columns, buffer)
    except (RuntimeError, AttributeError):  # a private function of PyTorch
        return False
    return bool(np.array_equal(raw, rows.astype(np.int32) @ columns.astype(np.int32).T))


def _seconds(arithmetic: Arithmetic) -> float:
    n_rows, n_columns, m = _TRIED
    vectors = np.random.default_rng(0).standard_normal((n_rows + n_columns, m)) / m**0.5
    codes = arithmetic.encode(np.clip(vectors, -1, 1))
    buffer = np.empty(n_rows * n_columns, np.int32)

    def once() -> float:
        start = time.perf_counter()
        arithmetic.multiply(codes[:n_rows], codes[n_rows:], buffer).max(axis=1)
        return time.perf_counter() - start

    once()
    return min(once() for _ in range(3))


def _shaped(
    buffer: NDArray[np.int32], rows: NDArray[Any], columns: NDArray[Any]
) -> NDArray[np.int32]:
    return buffer[: len(rows) * len(columns)].reshape(len(rows), len(columns))


def _round_down(bounds: NDArray[np.float64]) -> NDArray[np.float32]:
    nearest = bounds.astype(np.float32)
    return np.where(nearest > bounds, np.nextafter(nearest, np.float32(-np.inf)), nearest)
