"""How well each layer's similarity agrees with what people said of pairs of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerdex.arguments import check_count
from layerdex.errors import NoLabelsError, OptionError
from layerdex.records import LayerName, OnProgress, Vectors
from layerdex.search.evaluation.measurement import (
    THRESHOLD,
    Measurement,
    Resampled,
    Subject,
    measure,
)
from layerdex.search.evaluation.metrics import draws
from layerdex.search.knn.vector_space import VectorSpace

SCORE_METRICS = ("spearman",)
LABEL_METRICS = ("average_precision", "f1", THRESHOLD)

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PairJudgements:
    """What people said of n pairs: a score each, or 0 and 1 where ``are_labels``.

    Raises `OptionError` for a value that is not finite, `NoLabelsError` where all are alike.
    """

    values: Values
    are_labels: bool

    def __post_init__(self) -> None:
        """Hold the values to what can be measured."""
        if not np.isfinite(self.values).all():
            raise OptionError("a pair's score is not a finite number")
        if len(np.unique(self.values)) < 2:
            what = "label" if self.are_labels else "score"
            raise NoLabelsError(
                f"{len(self.values):,} pairs, and not two that differ in their {what}: "
                "there is nothing to tell apart"
            )


def evaluate_pairs(
    vectors: tuple[Mapping[int, Vectors], Mapping[int, Vectors]],
    judged: PairJudgements,
    *,
    spaces: Sequence[VectorSpace],
    n_resamples: int,
    on_progress: OnProgress | None = None,
) -> Measurement:
    """Compare similarities with judgements of n pairs; ``vectors`` are (n, width) by layer.

    Scores give Spearman's rank correlation (SciPy's). Labels give average precision
    (scikit-learn's) and the similarity from which on a pair is best taken for a 1, with the F1 of
    that: of these same pairs, so a little more than on others. On each resample the threshold is
    chosen anew. The intervals come from resampling pairs.
    """
    check_count("n_resamples", n_resamples, least=0)
    figures = _of_labels if judged.are_labels else _of_scores
    measured: dict[LayerName, Resampled] = {}
    for space in spaces:
        one, other = (space.queries(of_side) for of_side in vectors)
        measured[space.name] = figures(_cosines(one, other), judged.values, n_resamples)
        if on_progress is not None:
            on_progress(len(measured), len(spaces))
    metrics = LABEL_METRICS if judged.are_labels else SCORE_METRICS
    return measure(Subject.PAIRS, measured, metrics=metrics, n=len(judged.values))


def _cosines(one: Vectors, other: Vectors) -> Values:
    wide, others = one.astype(np.float64), other.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1) * np.linalg.norm(others, axis=1)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise OptionError("the vector of a text is zero or not finite")
    return np.asarray(np.clip(np.einsum("ij,ij->i", wide, others) / lengths, -1, 1))


def _of_scores(similarities: Values, scores: Values, n_resamples: int) -> Resampled:
    from scipy.stats import spearmanr

    if np.ptp(similarities) == 0:
        raise NoLabelsError("all pairs have the same similarity: nothing can be correlated")
    measured = np.array([spearmanr(similarities, scores).statistic])
    tally = _RankTally(similarities, scores)
    resamples = np.array([[tally.spearman(n) for n in draws(len(scores), n_resamples)]])
    return Resampled(measured, resamples)


class _RankTally:
    """Spearman's correlation of drawn pairs; SciPy's takes ten times as long.

    The rank of a value that is drawn several times is the mean of the ranks that its copies take,
    so sorting once is enough.
    """

    def __init__(self, one: Values, other: Values) -> None:
        self._sides = [np.unique(values, return_inverse=True)[1] for values in (one, other)]

    def spearman(self, n_drawn: Values) -> float:
        """Return the correlation; ``n_drawn`` (n,) counts pairs. Where one side is constant, 0."""
        one, other = (self._ranks(spaces, n_drawn) for spaces in self._sides)
        n = n_drawn.sum()
        one -= n_drawn @ one / n
        other -= n_drawn @ other / n
        spread = np.sqrt((n_drawn @ one**2) * (n_drawn @ other**2))
        return float(n_drawn @ (one * other) / spread) if spread else 0.0

    @staticmethod
    def _ranks(spaces: NDArray[np.int64], n_drawn: Values) -> Values:
        n_equal = np.bincount(spaces, n_drawn)
        below = np.cumsum(n_equal) - n_equal
        return np.asarray((below + (n_equal + 1) / 2)[spaces])


def _of_labels(similarities: Values, labels: Values, n_resamples: int) -> Resampled:
    from sklearn.metrics import average_precision_score, precision_recall_curve

    precision, recall, thresholds = precision_recall_curve(labels, similarities)
    # The curve's last point is for no pair at all.
    precision, recall = precision[:-1], recall[:-1]
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    # Of equal ones the highest threshold, as in the tally.
    best = len(f1) - 1 - int(np.argmax(f1[::-1]))
    average = average_precision_score(labels, similarities)
    tally = _CutTally(similarities, labels)
    resamples = [tally.figures(n) for n in draws(len(labels), n_resamples)]
    return Resampled(
        np.array([average, f1[best], thresholds[best]]),
        np.array(resamples, dtype=np.float64).reshape(-1, len(LABEL_METRICS)).T,
    )


class _CutTally:
    """Average precision and the best cut of drawn pairs: scikit-learn takes ten times as long."""

    def __init__(self, similarities: Values, labels: Values) -> None:
        self._order = np.argsort(-similarities, kind="stable")
        self._sorted = similarities[self._order]
        self._is_one = labels[self._order] == 1
        self._ends = np.append(np.flatnonzero(np.diff(self._sorted)), len(labels) - 1)

    def figures(self, n_drawn: Values) -> tuple[float, float, float]:
        """Return the figures in the order of `LABEL_METRICS`; ``n_drawn`` (n,) counts pairs."""
        weights = n_drawn[self._order]
        n_taken = np.cumsum(weights)[self._ends]
        n_hits = np.cumsum(weights * self._is_one)[self._ends]
        n_ones = n_hits[-1]
        if not n_ones:
            return 0.0, 0.0, float(self._sorted[0])  # as scikit-learn has it
        precision = np.divide(n_hits, n_taken, out=np.zeros_like(n_hits), where=n_taken > 0)
        average = np.diff(n_hits, prepend=0) @ precision / n_ones
        f1 = 2 * n_hits / (n_taken + n_ones)
        best = int(np.argmax(f1))
        return float(average), float(f1[best]), float(self._sorted[self._ends[best]])
