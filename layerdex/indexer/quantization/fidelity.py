"""How near vectors in int8 are to those in float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerdex.errors import ModelError
from layerdex.records import EncodedVectors, Quantization, Vectors

LEAST_MEAN_COSINE = 0.995
"""Below it, at any layer, a model is not used in int8 unless it is forced."""

N_NEIGHBORS = 10


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Figures by layer, as `Quantization` keeps them."""

    mean_cosines: tuple[float, ...]
    lowest_cosines: tuple[float, ...]
    overlaps: tuple[float, ...]


def measure_fidelity(exact: EncodedVectors, quantized: EncodedVectors) -> Fidelity:
    """Compare unit vectors of the same n > 10 texts, both (n_layers, n, width) float32.

    The overlap is the share of the 10 nearest other texts that are the same.
    """
    cosines = np.einsum("lnw,lnw->ln", exact, quantized)
    overlaps = [
        _overlap(_neighbors(one), _neighbors(other))
        for one, other in zip(exact, quantized, strict=True)
    ]
    return Fidelity(
        _rounded(cosines.mean(axis=1)), _rounded(cosines.min(axis=1)), _rounded(overlaps)
    )


def check_fidelity(quantization: Quantization, *, name: str) -> None:
    """Raise `ModelError` for a model whose vectors in int8 are too far from those in float32."""
    if min(quantization.mean_cosines) < LEAST_MEAN_COSINE:
        raise ModelError(
            f"the model {name!r} is too far from float32 in int8: {quantization.describe()}"
            f"; the mean cosine must be {LEAST_MEAN_COSINE} at every layer. Leave out --dtype "
            "int8, calibrate by texts of your own (--calibrate), or take it as it is with --force"
        )


def _neighbors(vectors: Vectors) -> NDArray[np.int64]:
    similarities = vectors @ vectors.T
    np.fill_diagonal(similarities, -np.inf)
    return np.argpartition(-similarities, N_NEIGHBORS, axis=1)[:, :N_NEIGHBORS]


def _overlap(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    return float((one[:, :, np.newaxis] == other[:, np.newaxis, :]).any(axis=2).mean())


def _rounded(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(round(float(value), 6) for value in values)
