"""`Comparison`: two indexes of the same documents, by their evaluations of the same questions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from layerdex.errors import OptionError
from layerdex.search.evaluation.best_layer import intervals_of
from layerdex.search.evaluation.evaluation import Evaluation, LayerScores
from layerdex.search.evaluation.metrics import Interval
from layerdex.search.plots.figures import axes_or_new, figure_of
from layerdex.search.plots.layer_curves import LAYER_INCHES, draw_curve, finish_layers
from layerdex.search.targets import SearchTarget
from layerdex.storage.snapshot import DocumentTable
from layerdex.tabular import LAYER, NUMBER, Brief, Row, Table, Tabular
from layerdex.wording import METRIC_NAMES, counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

THRESHOLD = "threshold"
"""The one metric whose difference says nothing: a similarity to decide by, not a quality."""


@dataclass(frozen=True, slots=True, repr=False)
class Difference(Brief):
    """The values of the second index's target minus those of the first's, by metric.

    ``intervals`` are 95 % intervals of the paired bootstrap, empty without resamples.
    """

    first: SearchTarget
    second: SearchTarget
    values: dict[str, float]
    intervals: dict[str, Interval]


@dataclass(frozen=True, slots=True, repr=False)
class Comparison(Tabular):
    """Two indexes of the same documents, evaluated on the same questions.

    ``differences`` has each target that both have, ``best`` the best layers of either. Of the
    documents, ``n_documents`` are in both. Left out are ``n_only`` that are in the first or in
    the second alone, and ``n_changed`` whose texts or labels differ.
    """

    first: Evaluation
    second: Evaluation
    differences: tuple[Difference, ...]
    best: Difference
    n_documents: int
    n_only: tuple[int, int]
    n_changed: int

    def plot(self, axes: Axes | None = None) -> Figure:
        """Draw the deciding metric of both by layer with 95 % bands, and return the figure.

        Without ``axes`` to draw into, the figure is a new one.
        """
        axes = axes_or_new(axes, *LAYER_INCHES)
        metric = self.first.metrics[0]
        layers: set[int] = set()
        for i, (name, side) in enumerate({"first": self.first, "second": self.second}.items()):
            curve = side.curve(metric, label=f"{name} (best: {side.best_layer})")
            draw_curve(axes, curve, i)
            layers.update(curve.layers)
        finish_layers(axes, sorted(layers), None)
        axes.set_ylabel(f"{METRIC_NAMES[metric]}, {self.first.counted}")
        return figure_of(axes)

    def _summary(self) -> str:
        metric = self.first.metrics[0]
        sides = ", ".join(
            f"{name} {side.best.values[metric]:.4f} at layer {side.best_layer}"
            for name, side in (("first", self.first), ("second", self.second))
        )
        shared = counted(self.n_documents, "shared document")
        return f"{shared}; {METRIC_NAMES[metric]}: {sides} ({self.best.values[metric]:+.4f})"

    def _table(self) -> Table:
        figures = {
            f"{metric}_{what}": NUMBER
            for metric in self.best.values
            for what in ("first", "second", "difference", "low", "high")
        }
        return Table({"layer": LAYER, **figures}, len(self.differences), self._rows())

    def _rows(self) -> Iterator[Row]:
        for difference in self.differences:
            layer = difference.first.name
            row: dict[str, Any] = {"layer": layer}
            for metric, value in difference.values.items():
                row[f"{metric}_first"] = self.first.at(layer).values[metric]
                row[f"{metric}_second"] = self.second.at(layer).values[metric]
                row[f"{metric}_difference"] = value
                if metric in difference.intervals:
                    row[f"{metric}_low"] = difference.intervals[metric].low
                    row[f"{metric}_high"] = difference.intervals[metric].high
            yield row


@dataclass(frozen=True, slots=True)
class SharedDocuments:
    """The documents that two indexes share, in each, and how many were left out."""

    first: DocumentTable
    second: DocumentTable
    n_only: tuple[int, int] = (0, 0)
    n_changed: int = 0


def match_documents(
    first: DocumentTable, second: DocumentTable, *, by_label: bool
) -> SharedDocuments:
    """Match documents by id; those in only one index, and changed ones, are left out.

    A document is changed if its text differs or, with ``by_label``, its label. Raises
    `OptionError` if nothing is shared.
    """
    in_second = {document_id: i for i, document_id in enumerate(second.ids)}
    shared = [(i, in_second[each]) for i, each in enumerate(first.ids) if each in in_second]
    same = [
        (i, j)
        for i, j in shared
        if first.content_hashes[i] == second.content_hashes[j]
        and not (by_label and first.labels[i] != second.labels[j])
    ]
    if not same:
        raise OptionError("the two indexes have no document in common (they are matched by id)")
    n_shared = len(shared)
    return SharedDocuments(
        first.take([i for i, _ in same]),
        second.take(sorted(j for _, j in same)),
        (len(first.ids) - n_shared, len(second.ids) - n_shared),
        n_shared - len(same),
    )


def compare_evaluations(
    first: Evaluation,
    second: Evaluation,
    *,
    n_documents: int,
    n_only: tuple[int, int] = (0, 0),
    n_changed: int = 0,
) -> Comparison:
    """Return the differences of two evaluations of the same questions, in the same order.

    Resamples are paired by position, and labels are compared at the first k and weighting. Raises
    `OptionError` if the evaluations share no layer, or have other metrics or numbers of questions.
    """
    for what, values in (
        ("metrics", (first.metrics, second.metrics)),
        (f"numbers of {first.subject}", (first.n, second.n)),
    ):
        if values[0] != values[1]:
            raise OptionError(f"the evaluations have different {what}: {values[0]} and {values[1]}")
    shared = [layer for layer in first.layers if layer in second.layers]
    if not shared:
        raise OptionError("the two indexes have no layer in common")
    return Comparison(
        first=first,
        second=second,
        differences=tuple(
            _difference(first, second, first.at(layer), second.at(layer)) for layer in shared
        ),
        best=_difference(first, second, first.best, second.best),
        n_documents=n_documents,
        n_only=n_only,
        n_changed=n_changed,
    )


def _difference(
    first: Evaluation, second: Evaluation, of_first: LayerScores, of_second: LayerScores
) -> Difference:
    values = {name: of_second.values[name] - of_first.values[name] for name in first.metrics}
    resampled = second.resampled[of_second.layer] - first.resampled[of_first.layer]
    intervals = intervals_of(first.metrics, resampled)
    values.pop(THRESHOLD, None)
    intervals.pop(THRESHOLD, None)
    return Difference(of_first.target, of_second.target, values, intervals)
