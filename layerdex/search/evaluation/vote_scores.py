"""The labels that neighbours vote for, and their scores, at each target, k and weighting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerdex.arguments import check_count
from layerdex.choices import Weights
from layerdex.errors import OptionError
from layerdex.records import LayerName, OnProgress
from layerdex.search.evaluation.best_layer import intervals_of, make_evaluation
from layerdex.search.evaluation.evaluation import (
    Classification,
    Evaluation,
    LayerScores,
    Subject,
)
from layerdex.search.evaluation.metrics import LABEL_METRICS, Codes, resample, score
from layerdex.search.knn.voting import vote
from layerdex.search.targets import SearchTarget

N_RESAMPLES = 1_000


@dataclass(frozen=True, slots=True)
class VotingOptions:
    """Numbers of neighbours and weightings to compare, and how many resamples to draw.

    The first of each decides the best layer. Raises `OptionError` without a k or weighting, for a
    k below 1, and for ``n_resamples`` below 0; with 0 there are no intervals.
    """

    ks: tuple[int, ...]
    weights: tuple[Weights, ...] = (Weights.DISTANCE,)
    n_resamples: int = N_RESAMPLES

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not self.ks or not self.weights:
            raise OptionError("give at least one k and one weighting")
        for k in self.ks:
            check_count("k", k)
        check_count("n_resamples", self.n_resamples, least=0)


@dataclass(frozen=True, slots=True)
class NeighborVotes:
    """Label codes and similarities of the neighbours of n texts, both (n, k), nearest first."""

    target: SearchTarget
    labels: Codes
    similarities: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PredictedLabels:
    """The label codes (n,) that k neighbours at a target vote for, `NO_LABEL` where none votes."""

    target: SearchTarget
    k: int
    weights: Weights
    codes: Codes


def count_votes(votes: Sequence[NeighborVotes], options: VotingOptions) -> list[PredictedLabels]:
    """Let the neighbours vote, at each target with each k and weighting."""
    return [
        PredictedLabels(
            each.target, k, how, vote(each.labels[:, :k], each.similarities[:, :k], how).labels
        )
        for each in votes
        for k in options.ks
        for how in options.weights
    ]


def score_predictions(
    predictions: Sequence[PredictedLabels],
    classification: Classification,
    *,
    n_resamples: int,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Score predicted labels against the true ones, and compare the targets.

    Figures of a sample are estimates for all documents that it was drawn from. Resamples of few
    documents per label have a lower macro-F1 than the sample, on average, and are moved so that
    they do not: else intervals miss the figure of all documents far more often than they say.
    """
    true, sample = classification.true, classification.sample
    weights = None if sample is None else sample.weights
    values = [score(true, each.codes, weights) for each in predictions]
    resampled = resample(
        true,
        [each.codes for each in predictions],
        n_resamples=n_resamples,
        draws=None if sample is None else sample.draw_weights(n_resamples),
        on_progress=on_progress,
    )
    if sample is not None and n_resamples:
        estimates = np.array([[each[name] for name in LABEL_METRICS] for each in values])
        resampled += (estimates - resampled.mean(axis=2))[:, :, None]
        np.clip(resampled, 0, 1, out=resampled)
    scores = [
        LayerScores(
            target=each.target,
            values=of_values,
            intervals=intervals_of(LABEL_METRICS, of_prediction),
            k=each.k,
            weights=each.weights,
            predicted=each.codes,
        )
        for each, of_values, of_prediction in zip(predictions, values, resampled, strict=True)
    ]
    first: dict[LayerName, NDArray[np.float64]] = {}
    for each, of_prediction in zip(predictions, resampled, strict=True):
        if each.target.name not in first:
            first[each.target.name] = of_prediction.copy()  # the others can then be freed
    return make_evaluation(
        Subject.LABELS,
        scores,
        first,
        metrics=LABEL_METRICS,
        n=len(true) if sample is None else sample.n,
        classification=classification,
    )


def score_classifier(
    target: SearchTarget, predicted: Codes, classification: Classification, *, n_resamples: int
) -> Evaluation:
    """Score labels that another classifier than neighbours predicted at a layer.

    There is no k, no weighting and no frugal layer.
    """
    true = classification.true
    [resampled] = resample(true, [predicted], n_resamples=n_resamples)
    scores = LayerScores(
        target=target,
        values=score(true, predicted),
        intervals=intervals_of(LABEL_METRICS, resampled),
        predicted=predicted,
    )
    return Evaluation(
        subject=Subject.LABELS,
        n=len(true),
        metrics=LABEL_METRICS,
        scores=(scores,),
        best_layer=target.layers[0],
        frugal=None,
        resampled={target.name: resampled},
        classification=classification,
    )
