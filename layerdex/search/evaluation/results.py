"""The outcome of an evaluation: figures for each layer, the best layer and the frugal one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from layerdex.arguments import check_count, format_value
from layerdex.choices import TransformName, Weights
from layerdex.errors import OptionError
from layerdex.records import LayerName
from layerdex.search.evaluation.metrics import METRICS, Codes, Interval, interval, resample, score
from layerdex.search.knn.voting import vote

VotesByLayer = Mapping[LayerName, tuple[Codes, NDArray[np.float32]]]
"""For each layer the neighbours' label codes and similarities, both (n, k), nearest first."""


N_RESAMPLES = 1_000


@dataclass(frozen=True, slots=True)
class VotingOptions:
    """What to compare: numbers of neighbours and weightings, and how many resamples to draw.

    The first of each decides the best layer. Raises `OptionError` for a number below 1 (of
    resamples: 0, which leaves intervals out).
    """

    ks: tuple[int, ...]
    weights: tuple[Weights, ...] = (Weights.DISTANCE,)
    n_resamples: int = N_RESAMPLES

    def __post_init__(self) -> None:
        """Hold the numbers to their ranges."""
        if not self.ks or not self.weights:
            raise OptionError("give at least one k and one weighting")
        for k in self.ks:
            check_count("k", k)
        check_count("n_resamples", self.n_resamples, least=0)


class Method(StrEnum):
    """What was classified: each document by the others, fold by fold, or a test set."""

    LEAVE_ONE_OUT = "leave-one-out"
    FOLDS = "folds"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class LayerResult:
    """How well k neighbours at a layer predict labels; ``predicted`` (n,) are label codes.

    ``intervals`` has a 95 % interval for each of `scores.METRICS`, or is empty where no resamples
    were asked for.
    """

    layer: LayerName
    k: int
    weights: Weights
    accuracy: float
    macro_f1: float
    weighted_f1: float
    intervals: dict[str, Interval]
    predicted: Codes = field(repr=False)


@dataclass(frozen=True, slots=True)
class FrugalLayer:
    """The shallowest layer that is not measurably worse than the best.

    ``loss`` is the best layer's figure, such as macro-F1, less this one's, with the 95 % interval
    of the paired bootstrap. An index of this layer alone runs ``encoding_share`` of the encoder
    blocks up to the deepest layer compared, and keeps ``disk_share`` of the compared layers'
    vectors.
    """

    layer: int
    loss: float
    loss_interval: Interval
    encoding_share: float
    disk_share: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Results for each layer, k and weighting; ``true`` (n,) are codes into ``label_names``.

    ``best_layer`` has the highest macro-F1 at the first k and weighting; a tie goes to the
    shallower layer. ``frugal`` is None without resamples. ``label_field`` says what was predicted,
    ``transform`` by which vectors.
    """

    method: Method
    n: int
    results: tuple[LayerResult, ...]
    best_layer: int
    frugal: FrugalLayer | None
    true: Codes = field(repr=False)
    label_names: tuple[str, ...]
    label_field: str = "label"
    n_folds: int | None = None
    transform: TransformName = TransformName.NONE

    @property
    def layers(self) -> tuple[LayerName, ...]:
        """The layers that were compared, and fused ones."""
        return tuple(dict.fromkeys(one.layer for one in self.results))

    @property
    def ks(self) -> tuple[int, ...]:
        """The numbers of neighbours that were tried, in the order asked for."""
        return tuple(dict.fromkeys(one.k for one in self.results))

    @property
    def weightings(self) -> tuple[Weights, ...]:
        """The weightings that were tried, in the order asked for."""
        return tuple(dict.fromkeys(one.weights for one in self.results))

    @property
    def best(self) -> LayerResult:
        """The best layer's result."""
        return self.result(self.best_layer, self.ks[0])

    def result(self, layer: LayerName, k: int, weights: Weights | None = None) -> LayerResult:
        """Return the result for a layer and k, by default with the first weighting.

        Raises `OptionError` if they were not evaluated.
        """
        weights = self.weightings[0] if weights is None else weights
        for one in self.results:
            if (one.layer, one.k, one.weights) == (layer, k, weights):
                return one
        raise OptionError(
            f"layer {format_value(layer)} was not evaluated with k = {format_value(k)}"
        )

    def report(self, layer: LayerName, k: int) -> str:
        """Return scikit-learn's classification report for a layer and k."""
        from sklearn.metrics import classification_report

        names = np.array([*self.label_names, "(none)"])
        predicted = names[self.result(layer, k).predicted]
        text: str = classification_report(
            names[self.true], predicted, labels=sorted(set(names[self.true])), zero_division=0
        )
        return text


def summarize(
    method: Method,
    votes: VotesByLayer,
    true: Codes,
    names: tuple[str, ...],
    choices: VotingOptions,
    *,
    n_folds: int | None = None,
) -> Evaluation:
    """Let the neighbours vote, for each layer, k and weighting, and compare the layers.

    The best and the frugal layer are single ones, whatever fused ones are among ``votes``.
    """
    asked = [(layer, k, how) for layer in votes for k in choices.ks for how in choices.weights]
    predictions = []
    for layer, k, how in asked:
        labels, similarities = votes[layer]
        predictions.append(vote(labels[:, :k], similarities[:, :k], how).labels)
    resampled = resample(true, predictions, n_resamples=choices.n_resamples)
    results = tuple(
        _result(*one, true, predicted, of_one)
        for one, predicted, of_one in zip(asked, predictions, resampled, strict=True)
    )
    first = (choices.ks[0], choices.weights[0])
    single = {
        layer: i for i, (layer, *how) in enumerate(asked) if (*how,) == first and _is_one(layer)
    }
    best = max(sorted(single), key=lambda layer: results[single[layer]].macro_f1)
    macro_f1 = resampled[:, METRICS.index("macro_f1")]
    return Evaluation(
        method=method,
        n=len(true),
        results=results,
        best_layer=best,
        frugal=find_frugal(
            best,
            {layer: macro_f1[i] for layer, i in single.items()},
            {layer: results[i].macro_f1 for layer, i in single.items()},
        ),
        true=true,
        label_names=names,
        n_folds=n_folds,
    )


def _is_one(layer: LayerName) -> TypeGuard[int]:
    return isinstance(layer, int)


def _result(
    layer: LayerName,
    k: int,
    weights: Weights,
    true: Codes,
    predicted: Codes,
    resampled: NDArray[np.float64],
) -> LayerResult:
    figures = score(true, predicted)
    has_intervals = bool(resampled.shape[1])
    return LayerResult(
        layer=layer,
        k=k,
        weights=weights,
        accuracy=figures.accuracy,
        macro_f1=figures.macro_f1,
        weighted_f1=figures.weighted_f1,
        intervals=dict(zip(METRICS, map(interval, resampled), strict=True))
        if has_intervals
        else {},
        predicted=predicted,
    )


def find_frugal(
    best: int, resampled: Mapping[int, NDArray[np.float64]], measured: Mapping[int, float]
) -> FrugalLayer | None:
    """Return the shallowest layer whose difference to the best may be chance.

    ``measured`` is the figure that chose the best layer, ``resampled`` (n_resamples,) the same on
    paired resamples; without any, there is no answer.
    """
    if not len(resampled[best]):
        return None
    losses = {layer: interval(resampled[best] - one) for layer, one in resampled.items()}
    frugal = min(layer for layer, loss in losses.items() if loss.includes_zero)
    return FrugalLayer(
        layer=frugal,
        loss=measured[best] - measured[frugal],
        loss_interval=losses[frugal],
        encoding_share=frugal / max(losses) if max(losses) else 1.0,
        disk_share=1 / len(losses),
    )
