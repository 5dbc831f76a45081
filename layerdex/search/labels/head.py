"""`Head`: a linear classifier on the vectors of a layer, with calibrated probabilities."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerdex.records import Vectors
from layerdex.search.evaluation.metrics import Codes
from layerdex.threads import single_threaded_blas

GRID = (1.0, 10.0, 100.0)
"""Inverse regularisation strengths to choose from, scikit-learn's C, ascending."""

_TEMPERATURES = (0.05, 20.0)
_MAX_STEPS = 1_000


@dataclass(frozen=True, slots=True)
class Head:
    """Weights (n_labels, width) and biases (n_labels,), float32, for the vectors of a layer.

    Logits are divided by ``temperature`` before the softmax (temperature scaling: Guo and others,
    ICML 2017). The labels are values of ``label_field``.
    """

    layer: int
    label_names: tuple[str, ...]
    temperature: float
    weights: Vectors = field(repr=False)
    biases: NDArray[np.float32] = field(repr=False)
    label_field: str = "label"

    def probabilities(self, vectors: Vectors) -> NDArray[np.float64]:
        """Return calibrated probabilities (n, n_labels) for unit vectors (n, width)."""
        return softmax(vectors @ self.weights.T + self.biases, self.temperature)


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """The best C at a layer, and the logits of held-out documents with it.

    ``logits`` (n, n_labels) of each document are those of a classifier that was not fitted on it.
    ``log_loss`` is theirs at ``temperature``, in nats.
    """

    c: float
    temperature: float
    log_loss: float
    logits: NDArray[np.float64] = field(repr=False)

    @property
    def predicted(self) -> Codes:
        """The predicted label codes, (n,)."""
        predicted: Codes = self.logits.argmax(axis=1).astype(np.int64)
        return predicted


def softmax(logits: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    """Return probabilities, (n, n_labels) float64, of logits (n, n_labels)."""
    from scipy.special import softmax as scipy_softmax

    scaled = logits.astype(np.float64) / temperature
    probabilities: NDArray[np.float64] = scipy_softmax(scaled, axis=1)
    return probabilities


def cross_validate(
    vectors: Vectors,
    codes: Codes,
    folds: NDArray[np.int64],
    n_labels: int,
    *,
    on_fit: Callable[[], None] = lambda: None,
) -> CrossValidation:
    """Choose C by the log loss on held-out folds, each C at its own best temperature.

    ``vectors`` (n, width), ``codes`` and ``folds`` (n,). ``on_fit`` is called after each fold and
    C. A label that a fold's classifier never saw gets its lowest logit. If the other folds have a
    single label, it is predicted, as neighbours do: with odds of n + 1 to 1, which Laplace's rule
    of succession gives the label of n documents against one that none of them has.
    """
    logits = np.zeros((len(GRID), len(codes), n_labels))
    for fold in np.unique(folds):
        held_out = folds == fold
        others = codes[~held_out]
        labels = np.unique(others)
        for i, c in enumerate(GRID):
            if len(labels) == 1:
                logits[i, held_out, labels[0]] = np.log(len(others) + 1)
            else:
                # Not from the weights at the C before: its gradient may already be small enough.
                weights, biases = _fit(c, vectors[~held_out], others)
                seen = vectors[held_out] @ weights.T + biases
                of_all = np.repeat(seen.min(axis=1, keepdims=True), n_labels, axis=1)
                of_all[:, labels] = seen
                logits[i][held_out] = of_all
            on_fit()
    tried = [
        CrossValidation(c, *calibrate(of_c, codes), of_c)
        for c, of_c in zip(GRID, logits, strict=True)
    ]
    return min(tried, key=lambda each: each.log_loss)  # a tie goes to the stronger regularisation


def calibrate(logits: NDArray[np.float64], codes: Codes) -> tuple[float, float]:
    """Return the temperature with the lowest log loss, and that loss.

    scikit-learn calibrates by temperature only within ``CalibratedClassifierCV``, which gives no
    held-out logits to choose C by, and fails for labels that a fold lacks.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    at = np.arange(len(codes))

    def loss(log_temperature: float) -> float:
        return -float(log_softmax(logits / np.exp(log_temperature), axis=1)[at, codes].mean())

    minimum = minimize_scalar(loss, bounds=tuple(np.log(_TEMPERATURES)), method="bounded")
    return float(np.exp(minimum.x)), float(minimum.fun)


def fit_head(
    vectors: Vectors,
    codes: Codes,
    names: Sequence[str],
    *,
    layer: int,
    validated: CrossValidation,
) -> Head:
    """Fit a head on all documents, with the C and temperature of a cross-validation."""
    weights, biases = _fit(validated.c, vectors, codes)
    return Head(layer, tuple(names), validated.temperature, weights, biases)


def _fit(c: float, vectors: Vectors, codes: Codes) -> tuple[Vectors, NDArray[np.float32]]:
    """Return weights (n_labels, width) and biases (n_labels,), C-ordered, labels ascending."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings(), single_threaded_blas():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the held-out folds judge the fit
        model = LogisticRegression(C=c, max_iter=_MAX_STEPS).fit(vectors, codes)
    weights, biases = model.coef_, model.intercept_
    if len(weights) == 1:  # one row for two labels: the odds of the second
        weights = np.concatenate([np.zeros_like(weights), weights])
        biases = np.concatenate([np.zeros_like(biases), biases])
    # scikit-learn's arrays are in Fortran order, which safetensors would write as they lie.
    return np.ascontiguousarray(weights, np.float32), np.ascontiguousarray(biases, np.float32)
