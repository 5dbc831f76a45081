"""How good predicted labels are, and how far chance could have moved that.

The metrics are scikit-learn's. The intervals are percentile bootstraps over documents (Efron and
Tibshirani, *An Introduction to the Bootstrap*, 1993, ch. 13), and two layers are compared on the
same resamples (the paired bootstrap: Koehn, EMNLP 2004).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerdex.records import OnProgress

Codes = NDArray[np.int64]
"""Label codes, (n,); -1 stands for no label."""

LABEL_METRICS = ("macro_f1", "accuracy", "weighted_f1")
"""All from 0 to 1. F1 averages go over labels that are true or predicted somewhere."""

_CONFIDENCE = 0.95
# Of few documents and labels many resamples are scored at once: one by one, NumPy's calls would
# take longer than its sums.
_ITEMS_AT_ONCE = 16_384


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % confidence interval."""

    low: float
    high: float

    @property
    def includes_zero(self) -> bool:
        """Whether zero, which is no difference, lies within the interval."""
        return self.low <= 0 <= self.high


def score(
    true: Codes, predicted: Codes, weights: NDArray[np.float64] | None = None
) -> dict[str, float]:
    """Return scikit-learn's values of `LABEL_METRICS` for n documents; no label is a wrong one.

    ``weights`` (n,) say how many documents each stands for, where they are a sample.
    """
    from sklearn.metrics import precision_recall_fscore_support

    occurring = np.setdiff1d(np.union1d(true, predicted), [-1])
    _, _, f1, support = precision_recall_fscore_support(
        true, predicted, labels=occurring, average=None, zero_division=0, sample_weight=weights
    )
    return {
        "macro_f1": float(np.mean(f1)),
        "accuracy": float(np.average(true == predicted, weights=weights)),
        "weighted_f1": float(np.average(f1, weights=support)),
    }


def resample(
    true: Codes,
    predictions: Sequence[Codes],
    *,
    n_resamples: int,
    seed: int = 0,
    draws: Iterable[NDArray[np.float64]] | None = None,
    on_progress: OnProgress | None = None,
) -> NDArray[np.float64]:
    """Return metrics on resamples, (n_predictions, len(LABEL_METRICS), n_resamples).

    Resample i draws the same documents for every prediction, so that differences are paired.
    Labels that a resample lacks do not count in its averages. ``draws`` has the weights (n,) of the
    documents in each resample, in place of how often `draw_counts` draws them.
    """
    resampled = np.empty((len(predictions), len(LABEL_METRICS), n_resamples))
    tallies = [_Tally(true, predicted) for predicted in predictions]
    draws = iter(draw_counts(len(true), n_resamples, seed=seed) if draws is None else draws)
    sizes = [len(true), *(tally.n_labels for tally in tallies)]
    n_at_once = max(1, _ITEMS_AT_ONCE // max(sizes))
    for start in range(0, n_resamples, n_at_once):
        n_drawn = np.stack(list(islice(draws, n_at_once)))
        for j, tally in enumerate(tallies):
            resampled[j, :, start : start + len(n_drawn)] = tally.metrics(n_drawn)
        if on_progress is not None:
            on_progress(start + len(n_drawn), n_resamples)
    return resampled


def resample_ns(n: int, n_predictions: int, n_resamples: int) -> float:
    """Return about how long `resample` takes, in nanoseconds, for the proportions of progress."""
    return n * n_resamples * (4.0 + 6.0 * n_predictions)


def interval(resampled: NDArray[np.float64]) -> Interval:
    """Return the percentile interval of a metric's values on resamples, (n_resamples,)."""
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(float(low), float(high))


def resample_means(
    values: NDArray[np.float64], *, n_resamples: int, seed: int = 0
) -> NDArray[np.float64]:
    """Return the means of n items' ``values`` (n, n_metrics) as (n_metrics, n_resamples).

    Resample i draws the same items as every other function here does for the same n.
    """
    means = np.empty((values.shape[1], n_resamples))
    for i, n_drawn in enumerate(draw_counts(len(values), n_resamples, seed=seed)):
        means[:, i] = n_drawn @ values / len(values)
    return means


def draw_counts(n: int, n_resamples: int, *, seed: int = 0) -> Iterator[NDArray[np.float64]]:
    """Yield, for each resample, how often each of n items is drawn, (n,)."""
    random = np.random.default_rng(seed)
    for _ in range(n_resamples):
        yield np.bincount(random.integers(n, size=n), minlength=n).astype(np.float64)


class _Tally:
    """Scores a prediction under many weights; scikit-learn would take 100 times as long."""

    def __init__(self, true: Codes, predicted: Codes) -> None:
        self.n_labels = int(max(true.max(), predicted.max())) + 1
        self._true = true
        self._predicted = predicted + 1  # no label is counted first, and left out
        self._hits = np.where(true == predicted, true, self.n_labels)

    def metrics(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the values of `LABEL_METRICS` as (3, n_resamples).

        ``weights`` (n_resamples, n) count documents.
        """
        n = self.n_labels
        support = _count(self._true, weights, n)
        predicted = _count(self._predicted, weights, n + 1)[:, 1:]
        hits = _count(self._hits, weights, n + 1)[:, :n]
        total = support + predicted
        occurs = total > 0
        f1 = np.divide(2 * hits, total, out=np.zeros_like(total), where=occurs)
        n_all = weights.sum(axis=1)
        return np.stack(
            [
                f1.sum(axis=1) / occurs.sum(axis=1),
                hits.sum(axis=1) / n_all,
                (f1 * support).sum(axis=1) / n_all,
            ]
        )


def _count(codes: Codes, weights: NDArray[np.float64], n_codes: int) -> NDArray[np.float64]:
    """Return the weight of each code in each resample, (n_resamples, n_codes)."""
    n_resamples = len(weights)
    if n_resamples > 1:  # a resample's codes follow those of the one before
        codes = (codes + n_codes * np.arange(n_resamples)[:, np.newaxis]).ravel()
    counts: NDArray[Any] = np.bincount(codes, weights.ravel(), minlength=n_codes * n_resamples)
    return counts.reshape(n_resamples, n_codes)
