"""What is this? The label that a text's nearest labelled neighbours vote for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerdex.choices import Weights
from layerdex.records import Rows
from layerdex.search.knn.neighbors import Neighbors

NO_LABEL = -1

EXACT_DISTANCE = 1e-6
"""A neighbour nearer than this counts as the text itself: only such neighbours then vote."""


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
    none; ``similarities`` (n, k) are theirs. With `Weights.DISTANCE` a vote counts
    1 / (1 - similarity), as in scikit-learn's ``KNeighborsClassifier``, whose rule for zero
    distances holds below `EXACT_DISTANCE`. A tie goes to the label of the nearest neighbour among
    the tied.
    """
    present = labels != NO_LABEL
    weight = _weigh(labels, similarities, weights)
    share = _shares(labels, weight)
    share[~present] = -1.0
    # Sums in another order differ in the last bits; that is still a tie.
    is_winner = share >= share.max(axis=1, keepdims=True) * (1 - 1e-12)
    nearest = is_winner.argmax(axis=1)[:, None]
    total = weight.sum(axis=1)
    confidences = np.take_along_axis(share, nearest, axis=1)[:, 0] / np.where(total > 0, total, 1)
    winners = np.take_along_axis(labels, nearest, axis=1)[:, 0]
    return Votes(winners, np.where(winners == NO_LABEL, 0.0, confidences))


def vote_shares(
    labels: NDArray[np.int64],
    similarities: NDArray[np.float32],
    weights: Weights,
    *,
    n_labels: int,
) -> NDArray[np.float64]:
    """Return each label's share of the vote that `vote` counts, (n, n_labels), rows summing to 1.

    A row of zeros is a text on which nobody voted.
    """
    weight = _weigh(labels, similarities, weights)
    shares = np.zeros((len(labels), n_labels + 1))  # the last column is for no label
    np.add.at(shares, (np.arange(len(labels))[:, None], labels), weight)
    total = weight.sum(axis=1, keepdims=True)
    return shares[:, :n_labels] / np.where(total > 0, total, 1)


def encode_labels(labels: Sequence[str | None]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the distinct labels in alphabetical order, and each label's code, (n,)."""
    names = tuple(sorted({label for label in labels if label is not None}))
    code = {name: i for i, name in enumerate(names)}
    return names, np.array([NO_LABEL if x is None else code[x] for x in labels], dtype=np.int64)


def labels_of(found: Neighbors, rows: Rows, codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the label codes of neighbours (n, k), where ``codes`` are those of ``rows``."""
    at = np.searchsorted(rows, np.maximum(found.rows, rows[0]))
    return np.where(found.rows < 0, NO_LABEL, codes[at])


def _weigh(
    labels: NDArray[np.int64], similarities: NDArray[np.float32], weights: Weights
) -> NDArray[np.float64]:
    """Return what each neighbour's vote counts, (n, k)."""
    present = labels != NO_LABEL
    weight = np.where(present, 1.0, 0.0)
    if weights is Weights.UNIFORM:
        return weight
    distances = 1.0 - similarities.astype(np.float64)
    exact = present & (distances < EXACT_DISTANCE)
    inverse = 1.0 / np.maximum(distances, EXACT_DISTANCE)
    return np.where(exact.any(axis=1, keepdims=True), exact, weight * inverse)


def _shares(labels: NDArray[np.int64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return, at each neighbour, the sum of the weights of all with its label, (n, k)."""
    keys = np.arange(len(labels))[:, None] * (labels.max(initial=0) + 2) + labels + 1
    _, ballot = np.unique(keys, return_inverse=True)
    sums = np.bincount(ballot.ravel(), weights=weight.ravel()).astype(np.float64)
    return sums[ballot.reshape(labels.shape)]
