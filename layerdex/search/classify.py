"""What is this? The label that a text's nearest labelled neighbours vote for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerdex.records import Weights

NO_LABEL = -1

EXACT_DISTANCE = 1e-6
"""A neighbour nearer than this counts as the text itself: only such neighbours then vote."""

_CELLS = 4_000_000


@dataclass(frozen=True, slots=True)
class Votes:
    """The outcome for n texts.

    ``labels`` (n,) are codes, `NO_LABEL` where nobody voted; ``confidences`` (n,) float64 are the
    winners' shares of the vote.
    """

    labels: NDArray[np.int64]
    confidences: NDArray[np.float64]


def vote(labels: NDArray[np.int64], similarities: NDArray[np.float32], weights: Weights) -> Votes:
    """Let neighbours vote.

    ``labels`` (n, k) are the neighbours' label codes, nearest first, `NO_LABEL` where there is
    none; ``similarities`` (n, k) are theirs. With `Weights.DISTANCE` a vote counts 1 / distance,
    as in scikit-learn's ``KNeighborsClassifier``, whose rule for zero distances holds below
    `EXACT_DISTANCE`. A tie goes to the label of the nearest neighbour among the tied.
    """
    size = max(1, _CELLS // max(1, labels.shape[1] ** 2))
    parts = [
        _vote(labels[start : start + size], similarities[start : start + size], weights)
        for start in range(0, len(labels), size)
    ]
    if not parts:
        return Votes(np.empty(0, np.int64), np.empty(0))
    return Votes(
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.confidences for part in parts]),
    )


def _vote(labels: NDArray[np.int64], similarities: NDArray[np.float32], weights: Weights) -> Votes:
    present = labels != NO_LABEL
    weight = np.where(present, 1.0, 0.0)
    if weights is Weights.DISTANCE:
        distances = 1.0 - similarities.astype(np.float64)
        exact = present & (distances < EXACT_DISTANCE)
        inverse = 1.0 / np.maximum(distances, EXACT_DISTANCE)
        weight = np.where(exact.any(axis=1, keepdims=True), exact, weight * inverse)
    agrees = labels[:, :, None] == labels[:, None, :]  # (n, k, k)
    share = np.einsum("nij,nj->ni", agrees, weight)
    share[~present] = -1.0
    # Sums in another order differ in the last bits; that is still a tie.
    is_winner = share >= share.max(axis=1, keepdims=True) * (1 - 1e-12)
    nearest = is_winner.argmax(axis=1)[:, None]
    total = weight.sum(axis=1)
    confidences = np.take_along_axis(share, nearest, axis=1)[:, 0] / np.where(total > 0, total, 1)
    winners = np.take_along_axis(labels, nearest, axis=1)[:, 0]
    return Votes(winners, np.where(winners == NO_LABEL, 0.0, confidences))
