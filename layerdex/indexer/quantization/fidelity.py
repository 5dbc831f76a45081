"""How near vectors in int8 are to those in float32."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerdex.errors import ModelError
from layerdex.records import EncodedVectors, Quantization, Vectors

logger = logging.getLogger(__name__)

LEAST_MEAN_COSINE = 0.995
"""Below it, at any layer, a model is not used in int8 unless it is forced."""

N_NEIGHBORS = 10
_EQUAL = 1e-6
_MAX_LOSS = 0.001


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Figures by layer, as `Quantization` keeps them."""

    mean_cosines: tuple[float, ...]
    lowest_cosines: tuple[float, ...]
    overlaps: tuple[float, ...]


def measure_fidelity(exact: EncodedVectors, quantized: EncodedVectors) -> Fidelity:
    """Compare unit vectors of the same n > 10 texts, both (n_layers, n, width) float32.

    The overlap is the share of the 10 nearest other texts that are among them in float32.
    """
    cosines = np.einsum("lnw,lnw->ln", exact, quantized)
    overlaps = [_overlap(one, other) for one, other in zip(exact, quantized, strict=True)]
    return Fidelity(
        _rounded(cosines.mean(axis=1)), _rounded(cosines.min(axis=1)), _rounded(overlaps)
    )


def check_fidelity(quantization: Quantization, *, name: str, force: bool) -> None:
    """Raise `ModelError` for a model whose vectors in int8 are too far from those in float32.

    With ``force`` only for one whose vectors are not finite; else it is logged.
    """
    if all(mean >= LEAST_MEAN_COSINE for mean in quantization.mean_cosines):  # and none is NaN
        return
    too_far = f"the model {name!r} is too far from float32 in int8"
    bound = f"the mean cosine should be {LEAST_MEAN_COSINE} at every layer"
    if not np.isfinite(quantization.mean_cosines).all():
        raise ModelError(f"{too_far}, and gives no finite vectors: leave out --dtype int8")
    if not force:
        raise ModelError(
            f"{too_far}: {quantization.describe()}; {bound}. Leave out --dtype int8, calibrate by "
            "other texts (many and varied ones, with --calibrate), or take it as it is with "
            "--force-int8"
        )
    logger.warning("%s, as was forced: %s", too_far, bound)


def check_requantized(made: Quantization, stored: Quantization, *, name: str) -> None:
    """Raise `ModelError` if a model is farther from float32 than when the index was made."""
    pairs = zip(made.mean_cosines, stored.mean_cosines, strict=True)
    # Another CPU rounds otherwise, and other texts may check: twice as far is another model.
    if not all(1 - now <= 2 * (1 - then) + _MAX_LOSS for now, then in pairs):
        raise ModelError(
            f"the model {name!r}, quantised to int8 again on this machine, is not as near to "
            f"float32 as when the index was made: now {made.describe()}; then {stored.describe()}. "
            "Make a new index, or ask this one on the machine that made it"
        )


def _overlap(exact: Vectors, quantized: Vectors) -> float:
    similarities, others = (_similarities(vectors) for vectors in (exact, quantized))
    tenth = np.partition(similarities, -N_NEIGHBORS, axis=1)[:, -N_NEIGHBORS, np.newaxis]
    found = np.argpartition(-others, N_NEIGHBORS, axis=1)[:, :N_NEIGHBORS]
    # As near as the tenth is a neighbour too: at layer 0 all [CLS] vectors are equal.
    return float((np.take_along_axis(similarities, found, axis=1) >= tenth - _EQUAL).mean())


def _similarities(vectors: Vectors) -> Vectors:
    similarities: Vectors = vectors @ vectors.T
    np.fill_diagonal(similarities, -np.inf)
    return similarities


def _rounded(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(round(float(value), 6) for value in values)
