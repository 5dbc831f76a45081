"""How well each layer's similarity agrees with what people said of pairs of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerdex.arguments import check_count
from layerdex.errors import NoLabelsError, OptionError
from layerdex.records import LayerName, OnProgress, Vectors
from layerdex.search.evaluation.best_layer import intervals_of, make_evaluation
from layerdex.search.evaluation.evaluation import (
    Evaluation,
    LayerScores,
    Subject,
)
from layerdex.search.evaluation.metrics import draw_counts
from layerdex.search.knn.vector_space import VectorSpace

SCORED_PAIR_METRICS = ("spearman",)
LABELLED_PAIR_METRICS = ("average_precision", "f1", "threshold")

_DECIMALS = 12

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PairJudgements:
    """What people said of n pairs, (n,): a score each, or 0 and 1 where ``are_labels``.

    Raises `OptionError` for a value that is not finite, `NoLabelsError` if all are equal.
    """

    values: Values
    are_labels: bool

    def __post_init__(self) -> None:
        """Check the values."""
        if not np.isfinite(self.values).all():
            raise OptionError("a pair's score must be a finite number")
        if len(np.unique(self.values)) < 2:
            what = "label" if self.are_labels else "score"
            raise NoLabelsError(
                f"all {len(self.values):,} pairs have the same {what}: at least two must differ"
            )


def evaluate_pairs(
    vectors: tuple[Mapping[int, Vectors], Mapping[int, Vectors]],
    judged: PairJudgements,
    *,
    spaces: Sequence[VectorSpace],
    n_resamples: int,
    n_left_out: int = 0,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Compare the similarities of n pairs with their judgements, at each space.

    Similarities are rounded to 12 decimals, so that those of equal texts are equal.
    ``vectors`` are those of either side by layer, (n, width). Scores give Spearman's rank
    correlation (SciPy's). Labels give average precision (scikit-learn's), and the similarity
    threshold with the best F1, with that F1. The threshold is chosen on the same pairs, which
    flatters it a little, and again on each resample. The intervals come from resampling pairs.
    ``n_left_out`` is passed on.
    """
    check_count("n_resamples", n_resamples, least=0)
    metrics = LABELLED_PAIR_METRICS if judged.are_labels else SCORED_PAIR_METRICS
    measure = _measure_labels if judged.are_labels else _measure_scores
    scores: list[LayerScores] = []
    resampled: dict[LayerName, Values] = {}
    for space in spaces:
        left, right = (space.queries(side) for side in vectors)
        values, of_space = measure(_cosines(left, right), judged.values, n_resamples)
        resampled[space.name] = of_space
        by_name = dict(zip(metrics, values, strict=True))
        scores.append(LayerScores(space.target, by_name, intervals_of(metrics, of_space)))
        if on_progress is not None:
            on_progress(len(scores), len(spaces))
    return make_evaluation(
        Subject.PAIRS,
        scores,
        resampled,
        metrics=metrics,
        n=len(judged.values),
        n_left_out=n_left_out,
    )


def _cosines(left: Vectors, right: Vectors) -> Values:
    wide, other = left.astype(np.float64), right.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1) * np.linalg.norm(other, axis=1)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise OptionError("the vector of a text is zero or not finite")
    similarities = np.einsum("ij,ij->i", wide, other) / lengths
    # Those of equal texts differ by 1e-16, and would be ranked by it.
    return np.asarray(np.clip(np.round(similarities, _DECIMALS), -1, 1))


def _measure_scores(
    similarities: Values, scores: Values, n_resamples: int
) -> tuple[list[float], Values]:
    """Return the values of the metrics, and those on resamples, (n_metrics, n_resamples)."""
    from scipy.stats import spearmanr

    if np.ptp(similarities) == 0:
        raise NoLabelsError("all pairs have the same similarity: nothing can be correlated")
    correlation = float(spearmanr(similarities, scores).statistic)
    tally = _RankTally(similarities, scores)
    resamples = [tally.spearman(n_drawn) for n_drawn in draw_counts(len(scores), n_resamples)]
    return [correlation], np.array([resamples], dtype=np.float64)


class _RankTally:
    """Spearman's correlation of drawn pairs, 10 times as fast as SciPy.

    The rank of a value that is drawn several times is the mean of the ranks that its copies take,
    so sorting once is enough.
    """

    def __init__(self, left: Values, right: Values) -> None:
        self._sides = [np.unique(values, return_inverse=True)[1] for values in (left, right)]

    def spearman(self, n_drawn: Values) -> float:
        """Return the correlation, 0 if one side is constant; ``n_drawn`` (n,) counts pairs."""
        left, right = (self._ranks(order, n_drawn) for order in self._sides)
        n = n_drawn.sum()
        left -= n_drawn @ left / n
        right -= n_drawn @ right / n
        spread = np.sqrt((n_drawn @ left**2) * (n_drawn @ right**2))
        return float(n_drawn @ (left * right) / spread) if spread else 0.0

    @staticmethod
    def _ranks(order: NDArray[np.int64], n_drawn: Values) -> Values:
        n_equal = np.bincount(order, n_drawn)
        n_below = np.cumsum(n_equal) - n_equal
        return np.asarray((n_below + (n_equal + 1) / 2)[order])


def _measure_labels(
    similarities: Values, labels: Values, n_resamples: int
) -> tuple[list[float], Values]:
    """Return the values of the metrics, and those on resamples, (n_metrics, n_resamples)."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    precision, recall, thresholds = precision_recall_curve(labels, similarities)
    # The curve's last point is for no pair at all.
    precision, recall = precision[:-1], recall[:-1]
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    # Of equal values the highest threshold, as in the tally.
    best = len(f1) - 1 - int(np.argmax(f1[::-1]))
    average = average_precision_score(labels, similarities)
    tally = _ThresholdTally(similarities, labels)
    resamples = [tally.metrics(n_drawn) for n_drawn in draw_counts(len(labels), n_resamples)]
    return (
        [float(average), float(f1[best]), float(thresholds[best])],
        np.array(resamples, dtype=np.float64).reshape(-1, len(LABELLED_PAIR_METRICS)).T,
    )


class _ThresholdTally:
    """Average precision and the best threshold of drawn pairs, 10 times as fast as scikit-learn."""

    def __init__(self, similarities: Values, labels: Values) -> None:
        self._order = np.argsort(-similarities, kind="stable")
        self._sorted = similarities[self._order]
        self._is_positive = labels[self._order] == 1
        self._ends = np.append(np.flatnonzero(np.diff(self._sorted)), len(labels) - 1)

    def metrics(self, n_drawn: Values) -> tuple[float, float, float]:
        """Return the values of `LABELLED_PAIR_METRICS`; ``n_drawn`` (n,) counts pairs."""
        weights = n_drawn[self._order]
        n_taken = np.cumsum(weights)[self._ends]
        n_hits = np.cumsum(weights * self._is_positive)[self._ends]
        n_positive = n_hits[-1]
        if not n_positive:
            return 0.0, 0.0, float(self._sorted[0])  # as scikit-learn has it
        precision = np.divide(n_hits, n_taken, out=np.zeros_like(n_hits), where=n_taken > 0)
        average = np.diff(n_hits, prepend=0) @ precision / n_positive
        f1 = 2 * n_hits / (n_taken + n_positive)
        best = int(np.argmax(f1))
        return float(average), float(f1[best]), float(self._sorted[self._ends[best]])
