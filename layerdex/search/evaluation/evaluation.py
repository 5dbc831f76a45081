"""`Evaluation`: how well each target answers, which layer is best, and which is frugal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from layerdex.arguments import format_value
from layerdex.choices import RetrievalRules, Weights
from layerdex.errors import OptionError
from layerdex.records import LayerName
from layerdex.search.evaluation.metrics import Codes, Interval, interval
from layerdex.search.targets import SearchTarget

Resampled = Mapping[LayerName, NDArray[np.float64]]
"""Metrics on resamples, (n_metrics, n_resamples), by the names of targets.

Resample i draws the same documents, queries or pairs for every target.
"""


class Subject(StrEnum):
    """What an evaluation scores: predicted labels, judged queries, or judged pairs of texts."""

    LABELS = "labels"
    QUERIES = "queries"
    PAIRS = "pairs"


class Method(StrEnum):
    """What was classified: each document by the others, fold by fold, or a test set."""

    LEAVE_ONE_OUT = "leave-one-out"
    FOLDS = "folds"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Classification:
    """How labels were predicted, and the true ones: ``true`` (n,) are codes into ``label_names``.

    ``n_folds`` is None unless ``method`` is `Method.FOLDS`.
    """

    method: Method
    label_names: tuple[str, ...]
    true: Codes = field(repr=False)
    n_folds: int | None = None
    label_field: str = "label"


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What the figures of judged queries count.

    ``n_own_left_out`` queries have a document with their own id, which is left out of their hits.
    Of the ``n_judged`` documents, ``n_not_searched`` are not among those searched and count as not
    found. ``n_without_relevant`` queries have no relevant document, and count 0.
    """

    rules: RetrievalRules
    n_own_left_out: int
    n_judged: int
    n_not_searched: int
    n_without_relevant: int


@dataclass(frozen=True, slots=True)
class LayerScores:
    """The scores of one target, by metric.

    ``intervals`` are 95 % confidence intervals, empty without resamples. ``k``, ``weights`` and
    ``predicted``, (n,) label codes, belong to the classification by neighbours and are None for
    other subjects.
    """

    target: SearchTarget
    values: dict[str, float]
    intervals: dict[str, Interval]
    k: int | None = None
    weights: Weights | None = None
    predicted: Codes | None = field(default=None, repr=False)

    @property
    def layer(self) -> LayerName:
        """The name of the target: a layer, or several fused, such as ``mean(3-4)``."""
        return self.target.name


@dataclass(frozen=True, slots=True)
class FrugalLayer:
    """The shallowest layer that is not measurably worse than the best.

    ``loss`` is the best layer's value of the deciding metric minus this layer's, with the 95 %
    interval of the paired bootstrap. An index of this layer alone runs ``encoding_share`` of the
    encoder blocks up to the deepest evaluated layer, and stores ``disk_share`` of the vectors of
    the evaluated layers.
    """

    layer: int
    loss: float
    loss_interval: Interval
    encoding_share: float
    disk_share: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of each target, from ``n`` documents, queries or pairs.

    ``scores`` has one entry for each target, and for labels for each k and weighting as well, in
    the order asked for. The first of ``metrics`` decides ``best_layer``, at the first k and
    weighting: a single layer, never a fusion; a tie goes to the shallower. ``frugal`` is None
    without resamples. ``n_left_out`` queries have no judgement, or pairs no text or
    judgement. ``classification`` is None unless the subject is labels, ``retrieval`` unless it is
    queries. ``resampled`` is of the first k and weighting.
    """

    subject: Subject
    n: int
    metrics: tuple[str, ...]
    scores: tuple[LayerScores, ...]
    best_layer: int
    frugal: FrugalLayer | None
    resampled: Resampled = field(repr=False, compare=False)
    n_left_out: int = 0
    classification: Classification | None = None
    retrieval: Retrieval | None = None

    @property
    def layers(self) -> tuple[LayerName, ...]:
        """The names of the targets."""
        return tuple(dict.fromkeys(scores.layer for scores in self.scores))

    @property
    def ks(self) -> tuple[int, ...]:
        """The numbers of neighbours, in the order asked for; empty unless labels are predicted."""
        return tuple(dict.fromkeys(scores.k for scores in self.scores if scores.k is not None))

    @property
    def weightings(self) -> tuple[Weights, ...]:
        """The weightings, in the order asked for; empty unless labels are predicted."""
        weightings = (scores.weights for scores in self.scores)
        return tuple(dict.fromkeys(weights for weights in weightings if weights is not None))

    @property
    def best(self) -> LayerScores:
        """The scores of the best layer, at the first k and weighting."""
        return self.at(self.best_layer)

    def at(
        self, layer: LayerName, k: int | None = None, weights: Weights | None = None
    ) -> LayerScores:
        """Return the scores of a layer, by default at the first k and weighting.

        ``layer`` is the name of a target. Raises `OptionError` if they were not evaluated.
        """
        for scores in self.scores:
            # The first that matches has the first k and weighting.
            if (
                scores.layer == layer
                and k in (None, scores.k)
                and weights in (None, scores.weights)
            ):
                return scores
        at_k = "" if k is None else f" with k = {format_value(k)}"
        raise OptionError(f"layer {format_value(layer)} was not evaluated{at_k}")

    def report(self, layer: LayerName, k: int | None = None) -> str:
        """Return scikit-learn's classification report for a layer.

        Raises `OptionError` unless labels were predicted there.
        """
        from sklearn.metrics import classification_report

        classification, predicted = self._predictions(layer, k, None)
        names = np.array([*classification.label_names, "(none)"])
        true = names[classification.true]
        report: str = classification_report(
            true, names[predicted], labels=sorted(set(true)), zero_division=0
        )
        return report

    def label_codes(
        self, layer: LayerName, k: int | None = None, weights: Weights | None = None
    ) -> tuple[Codes, Codes]:
        """Return the true and the predicted label codes at a layer, (n,) each; see `at`.

        Raises `OptionError` unless labels were predicted there.
        """
        classification, predicted = self._predictions(layer, k, weights)
        return classification.true, predicted

    def _predictions(
        self, layer: LayerName, k: int | None, weights: Weights | None
    ) -> tuple[Classification, Codes]:
        predicted = self.at(layer, k, weights).predicted
        if self.classification is None or predicted is None:
            raise OptionError(f"no labels were predicted: the evaluation is of {self.subject}")
        return self.classification, predicted


def make_evaluation(
    subject: Subject,
    scores: Sequence[LayerScores],
    resampled: Resampled,
    *,
    metrics: tuple[str, ...],
    n: int,
    n_left_out: int = 0,
    classification: Classification | None = None,
    retrieval: Retrieval | None = None,
) -> Evaluation:
    """Return the evaluation with its best and its frugal layer; see `Evaluation`."""
    decisive: dict[int, float] = {}
    for of_target in scores:
        if isinstance(of_target.layer, int):  # the first has the first k and weighting
            decisive.setdefault(of_target.layer, of_target.values[metrics[0]])
    best = max(sorted(decisive), key=decisive.__getitem__)
    return Evaluation(
        subject=subject,
        n=n,
        metrics=metrics,
        scores=tuple(scores),
        best_layer=best,
        frugal=_find_frugal(best, decisive, {layer: resampled[layer][0] for layer in decisive}),
        resampled=resampled,
        n_left_out=n_left_out,
        classification=classification,
        retrieval=retrieval,
    )


def intervals_of(metrics: Sequence[str], resampled: NDArray[np.float64]) -> dict[str, Interval]:
    """Return the interval of each metric from (n_metrics, n_resamples), or none without any."""
    if not resampled.shape[1]:
        return {}
    return dict(zip(metrics, map(interval, resampled), strict=True))


def _find_frugal(
    best: int, values: Mapping[int, float], resampled: Mapping[int, NDArray[np.float64]]
) -> FrugalLayer | None:
    """Return the shallowest layer whose difference to the best may be chance.

    ``resampled`` (n_resamples,) is the metric of ``values`` on paired resamples.
    """
    if not len(resampled[best]):
        return None
    losses = {layer: interval(resampled[best] - each) for layer, each in resampled.items()}
    frugal = min(layer for layer, loss in losses.items() if loss.includes_zero)
    return FrugalLayer(
        layer=frugal,
        loss=values[best] - values[frugal],
        loss_interval=losses[frugal],
        encoding_share=frugal / max(losses) if max(losses) else 1.0,
        disk_share=1 / len(losses),
    )
