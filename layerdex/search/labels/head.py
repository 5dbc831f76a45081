"""A head: a linear classifier on the vectors of one layer, with calibrated probabilities."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerdex.records import Vectors
from layerdex.search.evaluation.metrics import Codes

GRID = (1.0, 10.0, 100.0)
"""Inverse strengths of regularisation that are tried, scikit-learn's C, ascending."""

_TEMPERATURES = (0.05, 20.0)
_MAX_STEPS = 1_000


@dataclass(frozen=True, slots=True)
class Head:
    """Weights (n_labels, width) float32 and biases (n_labels,) float32 for a layer's vectors.

    Logits are divided by ``temperature`` before the softmax (temperature scaling: Guo and others,
    ICML 2017).
    """

    layer: int
    label_names: tuple[str, ...]
    temperature: float
    weights: Vectors = field(repr=False)
    biases: NDArray[np.float32] = field(repr=False)

    def probabilities(self, vectors: Vectors) -> NDArray[np.float64]:
        """Return calibrated probabilities (n, n_labels) for unit vectors (n, width)."""
        return softmax(vectors @ self.weights.T + self.biases, self.temperature)


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The outcome of cross-validation at one layer: the best C, and what it says of each fold.

    ``logits`` (n, n_labels) are of documents that the classifier was not fitted on.
    ``log_loss`` is theirs at ``temperature``, in nats.
    """

    c: float
    temperature: float
    log_loss: float
    logits: NDArray[np.float64] = field(repr=False)


def softmax(logits: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    """Return probabilities, (n, n_labels)."""
    from scipy.special import softmax as scipy_softmax

    found: NDArray[np.float64] = scipy_softmax(logits.astype(np.float64) / temperature, axis=1)
    return found


def cross_validate(
    vectors: Vectors, codes: Codes, folds: NDArray[np.int64], n_labels: int
) -> HeldOut:
    """Choose C by the log loss on held-out folds, each C at its own best temperature.

    ``vectors`` (n, width), ``codes`` and ``folds`` (n,). A label that a fold's classifier never saw
    gets its lowest logit. Where the other folds have one label alone, there is nothing to fit, and
    that label is predicted, as neighbours do: with the odds of n + 1 to 1 that Laplace's rule of
    succession gives the label of n documents against one that none of them has.
    """
    logits = np.zeros((len(GRID), len(codes), n_labels))
    for fold in np.unique(folds):
        held_out = folds == fold
        others = codes[~held_out]
        labels = np.unique(others)
        if len(labels) == 1:
            logits[:, held_out, labels[0]] = np.log(len(others) + 1)
            continue
        for i, c in enumerate(GRID):
            # Not from the weights at the C before: there the gradient may already be small enough.
            weights, biases = _fit(c, vectors[~held_out], others)
            seen = vectors[held_out] @ weights.T + biases
            of_all = np.repeat(seen.min(axis=1, keepdims=True), n_labels, axis=1)
            of_all[:, labels] = seen
            logits[i][held_out] = of_all
    tried = [HeldOut(c, *calibrate(one, codes), one) for c, one in zip(GRID, logits, strict=True)]
    return min(tried, key=lambda one: one.log_loss)  # a tie goes to the stronger regularisation


def calibrate(logits: NDArray[np.float64], codes: Codes) -> tuple[float, float]:
    """Return the temperature with the lowest log loss, and that loss."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    at = np.arange(len(codes))

    def loss(log_temperature: float) -> float:
        return -float(log_softmax(logits / np.exp(log_temperature), axis=1)[at, codes].mean())

    found = minimize_scalar(loss, bounds=tuple(np.log(_TEMPERATURES)), method="bounded")
    return float(np.exp(found.x)), float(found.fun)


def fit_head(
    vectors: Vectors, codes: Codes, names: Sequence[str], *, layer: int, chosen: HeldOut
) -> Head:
    """Fit the head on all documents, at the C and temperature that held-out folds chose."""
    weights, biases = _fit(chosen.c, vectors, codes)
    return Head(layer, tuple(names), chosen.temperature, weights, biases)


def _fit(c: float, vectors: Vectors, codes: Codes) -> tuple[Vectors, NDArray[np.float32]]:
    """Return weights and biases for each of two or more labels, ascending, as C-ordered arrays."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the folds judge what was reached
        model = LogisticRegression(C=c, max_iter=_MAX_STEPS).fit(vectors, codes)
    weights, biases = model.coef_, model.intercept_
    if len(weights) == 1:  # one row for two labels: the odds of the second
        weights = np.concatenate([np.zeros_like(weights), weights])
        biases = np.concatenate([np.zeros_like(biases), biases])
    # What scikit-learn gives is in Fortran's order, which safetensors would write as it lies.
    return np.ascontiguousarray(weights, np.float32), np.ascontiguousarray(biases, np.float32)
