"""Cosine similarity, and when two similarities count as equal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from layerdex.records import Vectors

SIMILARITY_STEP = 1e-5
"""Similarities in the same step of this count as equal, and equal ones are ordered by row."""

_DECIMALS = 5  # similarities are shown to the step within which they count as equal


def cosine(queries: Vectors, vectors: Vectors) -> NDArray[np.float32]:
    """Return similarities (n_queries, n) of unit vectors, clipped to [-1, 1]."""
    similarities: NDArray[np.float32] = np.clip(queries @ vectors.T, -1, 1)
    return similarities


def cosine_of_one(query: NDArray[np.float32], vectors: Vectors) -> NDArray[np.float64]:
    """Return similarities (n,) of a unit vector (width,), summed in float64, within [-1, 1]."""
    products = np.einsum("ij,j->i", vectors, query.astype(np.float64))
    similarities: NDArray[np.float64] = np.clip(products, -1, 1)
    return similarities


def to_steps(similarities: NDArray[np.floating] | float) -> NDArray[np.float64]:
    """Return the step of `SIMILARITY_STEP` that each similarity falls into."""
    steps: NDArray[np.float64] = np.rint(np.asarray(similarities, np.float64) / SIMILARITY_STEP)
    return steps


def floor_of(steps: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Return similarities that all those in a step or above it reach, and very few others.

    Half a step is rounded to an even one, and not exact in float64: `to_steps` decides.
    """
    floors: NDArray[np.float64] = (np.asarray(steps, np.float64) - 0.5) * SIMILARITY_STEP - 1e-12
    return floors


def round_similarity(similarity: float) -> float:
    """Round a similarity to the step within which similarities count as equal."""
    return round(float(similarity), _DECIMALS)
