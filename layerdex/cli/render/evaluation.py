"""Scores of layers: one table, or one per metric where labels are predicted with many k."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from layerdex.cli.render.metrics import describe_range, describe_signed
from layerdex.cli.render.tables import make_table, print_table
from layerdex.cli.render.text import counted, describe_field, escape
from layerdex.wording import METRIC_NAMES

if TYPE_CHECKING:
    from layerdex.choices import Weights
    from layerdex.records import LayerName
    from layerdex.search.evaluation.evaluation import Evaluation, FrugalLayer

Note = Callable[[str], None]

_LABEL_METRICS = ("accuracy", "macro_f1")
_N_KS_IN_ONE_TABLE = 2  # with both metrics, more do not fit 80 columns
_N_KS_SIDE_BY_SIDE = 7  # of one metric
_NOUNS = {
    "labels": ("document", "documents"),
    "queries": ("query", "queries"),
    "pairs": ("pair", "pairs"),
}
_N_FEW = 10
"""In simulations, intervals of samples with 2 to 4 wrong documents held the figure of all in 87 %,
those with 10 in 94 to 96 %."""

_MISSING = {"queries": "a judgement", "pairs": "a text or a judgement"}


@dataclass(frozen=True, slots=True)
class _Column:
    """A metric of each layer at a k, or at the only k; or its 95 % interval."""

    header: str
    metric: str
    k: int | None = None
    is_interval: bool = False

    def cell(self, evaluation: Evaluation, layer: LayerName, weights: Weights | None) -> str:
        scores = evaluation.at(layer, self.k, weights)
        if self.is_interval:
            return describe_range(scores.intervals[self.metric])
        return f"{scores.values[self.metric]:.4f}"


def print_evaluation(evaluation: Evaluation, *, note: Note) -> None:
    """Print the scores of each layer, then the best layer and the frugal one."""
    for weights in evaluation.weightings or (None,):
        title = _title(evaluation, weights)
        for prefix, suffix, columns in _tables(evaluation):
            _print_table(evaluation, weights, columns, title=f"{prefix}{title}{suffix}")
    best, main = evaluation.best, evaluation.metrics[0]
    value = f"{METRIC_NAMES[main]} {best.values[main]:.4f}"
    if evaluation.classification is not None:
        value += f", accuracy {best.values['accuracy']:.4f}"
    if best.k is not None:
        value += f" at k = {best.k}"
    which = "Layer of the head" if _is_head(evaluation) else "Best layer"
    click.echo(f"{which}: {best.layer} ({value})")
    if evaluation.frugal is not None:
        _print_frugal(evaluation, evaluation.frugal)
    note_left_out(evaluation, note)
    _note_single(evaluation, note)
    _note_sample(evaluation, note)


def print_report(evaluation: Evaluation) -> None:
    """Print scikit-learn's report for the best layer."""
    best = evaluation.best
    at_k = "" if best.k is None else f", k = {best.k}"
    click.echo(f"\nLayer {best.layer}{at_k}\n")
    click.echo(escape(evaluation.report(evaluation.best_layer), keep="\n"))


def _is_head(evaluation: Evaluation) -> bool:
    return evaluation.classification is not None and evaluation.best.k is None


def count_labels(evaluation: Evaluation) -> int:
    """Return how many labels the documents have; 0 if no labels were predicted."""
    classification = evaluation.classification
    return 0 if classification is None else int((classification.n_of_label > 0).sum())


def note_left_out(evaluation: Evaluation, note: Note) -> None:
    """Say which queries, pairs and hits do not count, and which judgements cannot be met."""
    if n := evaluation.n_left_out:
        subject = evaluation.subject
        note(f"{counted(n, *_NOUNS[subject])} without {_MISSING[subject]} left out")
    if (retrieval := evaluation.retrieval) is None:
        return
    if n := retrieval.n_without_relevant:
        note(f"{counted(n, 'query', 'queries')} without a relevant document: counted as 0")
    if n := retrieval.n_own_left_out:
        note(
            f"{counted(n, 'query has', 'queries have')} a document with the query's own id, which "
            "is left out of the hits as in BEIR: --rules trec keeps it"
        )
    if n := retrieval.n_not_searched:
        note(
            f"{n:,} of {counted(retrieval.n_judged, 'judged document')} not searched (not in the "
            "index, or left out): counted as not found"
        )


def _title(evaluation: Evaluation, weights: Weights | None) -> str:
    transform = evaluation.best.target.transform_note
    classification = evaluation.classification
    if classification is None:
        return evaluation.counted + transform
    n_folds = "" if classification.n_folds is None else f"{classification.n_folds} "
    title = f"{n_folds}{classification.method}, {evaluation.counted}, "
    title += counted(count_labels(evaluation), "label")
    title += describe_field(classification.label_field) + transform
    return title + (f", {weights}" if len(evaluation.weightings) > 1 else "")


def _tables(evaluation: Evaluation) -> Iterator[tuple[str, str, list[_Column]]]:
    """Yield what stands before and after each table's title, and the columns after the layer."""
    ks = evaluation.ks
    if len(ks) <= 1:
        yield "", "".join(f", k = {k}" for k in ks), list(_columns_with_intervals(evaluation))
    elif len(ks) <= _N_KS_IN_ONE_TABLE:
        named = [(name, METRIC_NAMES[name]) for name in _LABEL_METRICS]
        yield "", "", [_Column(f"{title} k={k}", name, k) for k in ks for name, title in named]
    else:
        for name in _LABEL_METRICS:
            columns = [_Column(f"k={k}", name, k) for k in ks]
            for start in range(0, len(ks), _N_KS_SIDE_BY_SIDE):
                part = columns[start : start + _N_KS_SIDE_BY_SIDE]
                yield f"{METRIC_NAMES[name]}, ", "", part


def _columns_with_intervals(evaluation: Evaluation) -> Iterator[_Column]:
    """Yield every metric; those that decide, and both of labels, with their intervals."""
    shown = evaluation.metrics if evaluation.classification is None else _LABEL_METRICS
    for name in shown:
        yield _Column(METRIC_NAMES[name], name)
        is_judged = evaluation.classification is not None or name == evaluation.metrics[0]
        if is_judged and evaluation.best.intervals:
            yield _Column("95 %", name, is_interval=True)


def _print_table(
    evaluation: Evaluation, weights: Weights | None, columns: Sequence[_Column], *, title: str
) -> None:
    headers = (f">{column.header}" for column in columns)
    table = make_table(">layer", *headers, "", title=title)
    for layer in evaluation.layers:
        cells = (column.cell(evaluation, layer, weights) for column in columns)
        remark = "" if _is_head(evaluation) else _remark(layer, evaluation)
        table.add_row(str(layer), *cells, remark, style="bold" if remark == "best" else None)
    print_table(table)


def _remark(layer: LayerName, evaluation: Evaluation) -> str:
    if layer == evaluation.best_layer:
        return "best"
    # Among the columns of several k there is no room for it.
    is_frugal = evaluation.frugal is not None and layer == evaluation.frugal.layer
    return "frugal" if is_frugal and len(evaluation.ks) <= 1 else ""


def _print_frugal(evaluation: Evaluation, frugal: FrugalLayer) -> None:
    best_layer, metric = evaluation.best_layer, METRIC_NAMES[evaluation.metrics[0]]
    if best_layer == min(layer for layer in evaluation.layers if isinstance(layer, int)):
        click.echo("Frugal layer: the same; no shallower layer was compared")
    elif frugal.layer == best_layer:
        click.echo("Frugal layer: the same; every shallower layer is measurably worse")
    else:
        click.echo(
            f"Frugal layer: {frugal.layer} ({metric} {frugal.loss:.4f} lower, "
            f"95 % {describe_signed(frugal.loss_interval)});\n"
            f"  alone it runs {frugal.encoding_share:.0%} of the encoder "
            f"blocks and takes {frugal.disk_share:.0%} of the disk"
        )


def _note_single(evaluation: Evaluation, note: Note) -> None:
    """Say for how many documents, or labels with one document, no other document could vote."""
    import numpy as np

    classification = evaluation.classification
    if classification is None or classification.method == "test":
        return
    predicted = evaluation.best.predicted
    if predicted is not None and (n := int(np.sum(predicted < 0))):
        note(f"{counted(n, 'document')} counted as wrong: no document with another text can vote")
    if n := int(np.sum(classification.n_of_label == 1)):
        note(
            f"{counted(n, 'label')} with a single document, which no other can vote for: "
            "leave such labels out with --min-per-label 2"
        )


def _note_sample(evaluation: Evaluation, note: Note) -> None:
    """Say where the figures of a sample are less certain than their intervals say."""
    classification = evaluation.classification
    if classification is None or (sample := classification.sample) is None:
        return
    if n := sample.n_raised:
        least = sample.n_for_share
        left = f"--min-per-label {least} or " if (sample.n_of_label >= least).sum() > 1 else ""
        note(
            f"{counted(n, 'label')} with a share of the sample below two documents: macro-F1 can "
            f"be far off, and intervals are too narrow. Use {left}a larger --sample"
        )
    n_right = {
        scores.layer: int((scores.predicted == classification.true).sum())
        for scores in reversed(evaluation.scores)  # the first k counts
        if scores.predicted is not None and scores.intervals
    }
    unsure = [
        str(layer)
        for layer in evaluation.layers
        if layer in n_right and min(n_right[layer], len(sample) - n_right[layer]) < _N_FEW
    ]
    if unsure:
        which = f"layer{'s' * (len(unsure) > 1)} {', '.join(unsure)}"
        note(
            f"Fewer than {_N_FEW} documents of the sample are wrong, or right, at {which}: "
            "intervals there are too narrow. Use a larger --sample"
        )
