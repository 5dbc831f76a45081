"""An evaluation as users see it: tables, and JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from layerdex.cli.options import transform_json, transform_title
from layerdex.cli.output import counted, escape, make_table, note, one_line, print_table

_METRICS = {"accuracy": "accuracy", "macro-F1": "macro_f1"}
_N_KS_BESIDE = 2  # more do not fit 80 columns


def to_json(evaluation: Any, *, report: bool = False) -> dict[str, Any]:
    """Return an evaluation as the JSON document that users get."""
    best, frugal = evaluation.best, evaluation.frugal
    classification = evaluation.classification
    found = {
        "method": classification.method.value,
        "n": evaluation.n,
        "label_field": classification.label_field,
        "layers": [_result_json(one) for one in evaluation.scores],
        "best_layer": evaluation.best_layer,
        "frugal_layer": None if frugal is None else asdict(frugal),
    }
    if classification.n_folds is not None:
        found["n_folds"] = classification.n_folds
    found |= transform_json(best.target.transform.value)
    if report:
        found["report"] = evaluation.report(best.layer, best.k)
    return found


def _result_json(result: Any) -> dict[str, Any]:
    metrics = ("accuracy", "macro_f1", "weighted_f1")
    found = {name: getattr(result, name) for name in ("layer", "k", "weights")}
    found |= {name: result.values[name] for name in metrics}
    for name in metrics:
        if name in result.intervals:
            interval = result.intervals[name]
            found[f"{name}_interval"] = [interval.low, interval.high]
    return found


def print_report(evaluation: Any) -> None:
    """Print scikit-learn's report for the best layer."""
    best = evaluation.best
    click.echo(f"\nLayer {best.layer}, k = {best.k}\n")
    click.echo(escape(evaluation.report(best.layer, best.k), keep="\n"))


def print_evaluation(evaluation: Any) -> None:
    """Print a row a layer, in a table per metric where there are many k, and name the best."""
    for weights in evaluation.weightings:
        _print_tables(evaluation, weights)
    best = evaluation.best
    click.echo(
        f"Best layer: {best.layer} (macro-F1 {best.values['macro_f1']:.4f}, "
        f"accuracy {best.values['accuracy']:.4f} at k = {best.k})"
    )
    if evaluation.frugal is not None:
        click.echo(_describe_frugal(evaluation.frugal, evaluation.best_layer))
    if evaluation.classification.method != "test" and (n_single := sum(_counts(evaluation) == 1)):
        note(
            f"{counted(n_single, 'label')} with a single document, which no other can vote for: "
            "leave such out with --min-per-label 2"
        )


def _counts(evaluation: Any) -> Any:
    import numpy as np

    return np.bincount(evaluation.classification.true)


def _describe_frugal(frugal: Any, best_layer: int) -> str:
    if best_layer == 0:
        return "Frugal layer: the same; none is shallower"
    if frugal.layer == best_layer:
        return "Frugal layer: the same; every shallower one is measurably worse"
    low, high = frugal.loss_interval.low, frugal.loss_interval.high
    return (
        f"Frugal layer: {frugal.layer} (macro-F1 {frugal.loss:.4f} lower, 95 % {low:.4f} to "
        f"{high:.4f}),\n  alone it takes {frugal.encoding_share:.0%} of the encoder blocks and "
        f"{frugal.disk_share:.0%} of the disk"
    )


def _print_tables(evaluation: Any, weights: Any) -> None:
    ks = evaluation.ks
    classification = evaluation.classification
    n_labels = len(set(classification.true.tolist()))
    documents, labels = counted(evaluation.n, "document"), counted(n_labels, "label")
    method = classification.method.value
    if classification.n_folds is not None:
        method = f"{classification.n_folds} {method}"
    title = f"{method}, {documents}, {labels}"
    if classification.label_field != "label":
        title += f" of {one_line(classification.label_field, 30)}"
    title += transform_title(evaluation.best.target.transform.value)
    if len(evaluation.weightings) > 1:
        title += f", {weights.value}"
    if len(ks) == 1:
        _print_intervals(evaluation, weights, title)
    elif len(ks) <= _N_KS_BESIDE:
        columns = [(f"{name} k={k}", k, name) for k in ks for name in _METRICS]
        _print_results(evaluation, weights, columns, title)
    else:
        for name in _METRICS:
            columns = [(f"k={k}", k, name) for k in ks]
            _print_results(evaluation, weights, columns, f"{name}, {title}")


def _print_intervals(evaluation: Any, weights: Any, title: str) -> None:
    """Print each layer's figures with their intervals, for one k."""
    [k] = evaluation.ks
    has_intervals = bool(evaluation.best.intervals)
    beside = (">95 %",) if has_intervals else ()
    headers = (">accuracy", *beside, ">macro-F1", *beside)
    table = make_table(">layer", *headers, "", title=f"{title}, k = {k}")
    for layer in evaluation.layers:
        result = evaluation.at(layer, k, weights)
        cells = []
        for name in ("accuracy", "macro_f1"):
            cells.append(f"{result.values[name]:.4f}")
            if has_intervals:
                interval = result.intervals[name]
                cells.append(f"{interval.low:.3f}-{interval.high:.3f}")
        is_best = layer == evaluation.best_layer
        remark = "best" if is_best else ""
        if evaluation.frugal is not None and layer == evaluation.frugal.layer and not is_best:
            remark = "frugal"
        table.add_row(str(layer), *cells, remark, style="bold" if is_best else None)
    print_table(table)


def _print_results(
    evaluation: Any, weights: Any, columns: list[tuple[str, int, str]], title: str
) -> None:
    table = make_table(">layer", *(f">{header}" for header, _, _ in columns), "", title=title)
    for layer in evaluation.layers:
        figures = (
            evaluation.at(layer, k, weights).values[_METRICS[name]] for _, k, name in columns
        )
        is_best = layer == evaluation.best_layer
        cells = (*(f"{figure:.4f}" for figure in figures), "best" if is_best else "")
        table.add_row(str(layer), *cells, style="bold" if is_best else None)
    print_table(table)
