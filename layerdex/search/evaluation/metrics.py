"""How good predicted labels are, and how far chance could have moved that.

The figures themselves are scikit-learn's. The intervals are percentile bootstraps over documents
(Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993, ch. 13), and two layers are
compared on the same resamples (the paired bootstrap: Koehn, EMNLP 2004).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]
"""Label codes, (n,); -1 stands for no label."""

METRICS = ("accuracy", "macro_f1", "weighted_f1")

_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % confidence interval."""

    low: float
    high: float

    @property
    def includes_zero(self) -> bool:
        """Whether no difference is within the interval."""
        return self.low <= 0 <= self.high


@dataclass(frozen=True, slots=True)
class Scores:
    """Figures from 0 to 1; F1 averages go over labels that are true or predicted somewhere."""

    accuracy: float
    macro_f1: float
    weighted_f1: float


def score(true: Codes, predicted: Codes) -> Scores:
    """Return scikit-learn's figures for predictions of n documents; no label is a wrong one."""
    from sklearn.metrics import precision_recall_fscore_support

    occurring = np.setdiff1d(np.union1d(true, predicted), [-1])
    _, _, f1, support = precision_recall_fscore_support(
        true, predicted, labels=occurring, average=None, zero_division=0
    )
    return Scores(
        accuracy=float(np.mean(true == predicted)),
        macro_f1=float(np.mean(f1)),
        weighted_f1=float(np.average(f1, weights=support)),
    )


def resample(
    true: Codes, predictions: Sequence[Codes], *, n_resamples: int, seed: int = 0
) -> NDArray[np.float64]:
    """Return figures on resamples, (n_predictions, len(METRICS), n_resamples).

    Resample i draws the same documents for every prediction, so that differences are paired.
    A label that a resample lacks does not count in its averages.
    """
    found = np.empty((len(predictions), len(METRICS), n_resamples))
    tallies = [_Tally(true, predicted) for predicted in predictions]
    for i, n_drawn in enumerate(draws(len(true), n_resamples, seed=seed)):
        for j, tally in enumerate(tallies):
            found[j, :, i] = tally.figures(n_drawn)
    return found


def interval(resampled: NDArray[np.float64]) -> Interval:
    """Return the percentile interval of one figure's resamples, (n_resamples,)."""
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(float(low), float(high))


def resample_means(
    values: NDArray[np.float64], *, n_resamples: int, seed: int = 0
) -> NDArray[np.float64]:
    """Return the means of n items' ``values`` (n, n_figures) as (n_figures, n_resamples).

    Resample i draws the same items as any other function here does for as many.
    """
    found = np.empty((values.shape[1], n_resamples))
    for i, n_drawn in enumerate(draws(len(values), n_resamples, seed=seed)):
        found[:, i] = n_drawn @ values / len(values)
    return found


def draws(n: int, n_resamples: int, *, seed: int = 0) -> Iterator[NDArray[np.float64]]:
    """Yield how often each of n items is drawn, (n,)."""
    random = np.random.default_rng(seed)
    for _ in range(n_resamples):
        yield np.bincount(random.integers(n, size=n), minlength=n).astype(np.float64)


class _Tally:
    """Scores one prediction under many weights: scikit-learn would take 100 times as long."""

    def __init__(self, true: Codes, predicted: Codes) -> None:
        self._n_labels = int(max(true.max(), predicted.max())) + 1
        self._true = true
        self._predicted = predicted + 1  # no label is counted first, and left out
        self._hits = np.where(true == predicted, true, self._n_labels)

    def figures(self, weights: NDArray[np.float64]) -> tuple[float, float, float]:
        """Return the figures in the order of `METRICS`; ``weights`` (n,) count documents."""
        n = self._n_labels
        support = np.bincount(self._true, weights, minlength=n)
        predicted = np.bincount(self._predicted, weights, minlength=n + 1)[1:]
        hits = np.bincount(self._hits, weights, minlength=n + 1)[:n]
        total = support + predicted
        occurs = total > 0
        f1 = np.divide(2 * hits, total, out=np.zeros(n), where=occurs)
        n_all = weights.sum()
        return hits.sum() / n_all, f1.sum() / occurs.sum(), (f1 * support).sum() / n_all
