"""`Evaluation`: how well each target answers, which layer is best, and which is frugal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from layerdex.arguments import format_value
from layerdex.choices import RetrievalRules, Weights
from layerdex.errors import OptionError
from layerdex.records import LayerName
from layerdex.search.evaluation.label_sample import LabelSample
from layerdex.search.evaluation.metrics import Codes, Interval
from layerdex.search.plots.figures import axes_or_new, figure_of
from layerdex.search.plots.layer_curves import (
    LAYER_INCHES,
    LayerCurve,
    draw_curve,
    draw_level,
    finish_layers,
)
from layerdex.search.targets import SearchTarget
from layerdex.tabular import LAYER, NUMBER, TEXT, WHOLE_OR_NONE, Brief, Row, Table, Tabular
from layerdex.wording import METRIC_NAMES, counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LABEL_METRICS = ("accuracy", "macro_f1")
_THRESHOLD = "threshold"  # a similarity, not a score that is better when higher
_NOUNS = {
    "labels": ("document", "documents"),
    "queries": ("query", "queries"),
    "pairs": ("pair", "pairs"),
}

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


@dataclass(frozen=True, slots=True, repr=False)
class Classification(Brief):
    """How labels were predicted, and the true ones: ``true`` (n,) are codes into ``label_names``.

    ``n_folds`` is None unless ``method`` is `Method.FOLDS`. Where only a ``sample`` was classified,
    ``true`` is (n_sampled,).
    """

    method: Method
    label_names: tuple[str, ...]
    true: Codes = field(repr=False)
    n_folds: int | None = None
    label_field: str = "label"
    sample: LabelSample | None = field(default=None, repr=False)

    @property
    def n_of_label(self) -> NDArray[np.int64]:
        """How many documents there are of each label, (n_labels,)."""
        if self.sample is not None:
            return self.sample.n_of_label
        return np.bincount(self.true, minlength=len(self.label_names))


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


@dataclass(frozen=True, slots=True, repr=False)
class LayerScores(Brief):
    """The scores of one target, by metric.

    ``intervals`` are 95 % confidence intervals, empty without resamples. ``k``, ``weights`` and
    ``predicted``, label codes in the order of `Classification.true`, belong to the classification
    by neighbours and are None for other subjects.
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


@dataclass(frozen=True, slots=True, repr=False)
class Evaluation(Tabular):
    """Scores of each target, from ``n`` documents, queries or pairs, or estimates for n documents.

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

    @property
    def counted(self) -> str:
        """How many documents, queries or pairs were evaluated, in words."""
        sample = None if self.classification is None else self.classification.sample
        drawn = "" if sample is None else f"{len(sample):,} of "
        return drawn + counted(self.n, *_NOUNS[self.subject])

    def report(self, layer: LayerName, k: int | None = None) -> str:
        """Return scikit-learn's classification report for a layer.

        Raises `OptionError` unless labels were predicted there, of all documents.
        """
        from sklearn.metrics import classification_report

        classification, predicted = self._predictions(layer, k, None)
        if classification.sample is not None:
            raise OptionError("a report needs all documents: a sample has too few of most labels")
        names = np.array([*classification.label_names, "(none)"])
        true = names[classification.true]
        report: str = classification_report(
            true, names[predicted], labels=sorted(set(true)), zero_division=0
        )
        return report

    def label_codes(
        self, layer: LayerName, k: int | None = None, weights: Weights | None = None
    ) -> tuple[Codes, Codes]:
        """Return the true and the predicted label codes at a layer; see `Classification`, `at`.

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

    def curve(self, metric: str, k: int | None = None, *, label: str | None = None) -> LayerCurve:
        """Return a metric by layer, without fusions, by default at the first k."""
        layers = sorted(layer for layer in self.layers if isinstance(layer, int))
        scores = [self.at(layer, k) for layer in layers]
        intervals = [of_layer.intervals[metric] for of_layer in scores if of_layer.intervals]
        return LayerCurve(
            METRIC_NAMES[metric] if label is None else label,
            layers,
            [of_layer.values[metric] for of_layer in scores],
            [interval.low for interval in intervals],
            [interval.high for interval in intervals],
        )

    def plot(self, axes: Axes | None = None) -> Figure:
        """Draw scores by layer, a line per metric and k with its 95 % band, and return the figure.

        Without ``axes`` to draw into, the figure is a new one.
        """
        axes = axes_or_new(axes, *LAYER_INCHES)
        self._draw_curves(axes)
        main = self.metrics[0]
        for i, name in enumerate(layer for layer in self.layers if isinstance(layer, str)):
            label = f"{METRIC_NAMES[main]}, {name}"
            draw_level(axes, self.at(name).values[main], i + 3, label=label)
        finish_layers(axes, self.curve(main).layers, self.best_layer)
        method = f"{self.classification.method}, " if self.classification else ""
        axes.set_ylabel(method + self.counted + self.best.target.transform_note)
        return figure_of(axes)

    def _draw_curves(self, axes: Axes) -> None:
        """Draw each metric: of labels a line per k, each k in one colour."""
        names = _LABEL_METRICS if self.classification else self.metrics
        for i, k in enumerate(self.ks or (None,)):
            for style, metric in enumerate(name for name in names if name != _THRESHOLD):
                at_k = "" if k is None else f", k = {k}"
                curve = self.curve(metric, k, label=METRIC_NAMES[metric] + at_k)
                draw_curve(axes, curve, style if k is None else i, style=style)

    def _summary(self) -> str:
        main = self.metrics[0]
        method = f", {self.classification.method}" if self.classification else ""
        frugal = "" if self.frugal is None else f", frugal layer {self.frugal.layer}"
        best = f"{METRIC_NAMES[main]} {self.best.values[main]:.4f}"
        return f"{self.counted}{method}; best layer {self.best_layer} ({best}){frugal}"

    def _table(self) -> Table:
        figures = {
            name: NUMBER
            for metric in self.metrics
            for name in (metric, f"{metric}_low", f"{metric}_high")
        }
        dtypes = {"layer": LAYER, "transform": TEXT, "k": WHOLE_OR_NONE, "weights": TEXT}
        return Table({**dtypes, **figures}, len(self.scores), self._rows())

    def _rows(self) -> Iterator[Row]:
        for scores in self.scores:
            row: dict[str, Any] = {
                "layer": scores.layer,
                "transform": scores.target.transform.value,
                "k": scores.k,
                "weights": None if scores.weights is None else scores.weights.value,
            }
            for metric, value in scores.values.items():
                row[metric] = value
                if metric in scores.intervals:
                    row[f"{metric}_low"] = scores.intervals[metric].low
                    row[f"{metric}_high"] = scores.intervals[metric].high
            yield row
