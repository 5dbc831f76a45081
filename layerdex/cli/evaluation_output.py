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
    found = {
        "method": evaluation.method.value,
        "n": evaluation.n,
        "label_field": evaluation.label_field,
        "layers": [_result_json(one) for one in evaluation.results],
        "best_layer": evaluation.best_layer,
        "frugal_layer": None if frugal is None else asdict(frugal),
    }
    if evaluation.n_folds is not None:
        found["n_folds"] = evaluation.n_folds
    found |= transform_json(evaluation.transform.value)
    if report:
        found["report"] = evaluation.report(best.layer, best.k)
    return found


def _result_json(result: Any) -> dict[str, Any]:
    figures = ("layer", "k", "weights", "accuracy", "macro_f1", "weighted_f1")
    found = {name: getattr(result, name) for name in figures}
    for name, interval in result.intervals.items():
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
        f"Best layer: {best.layer} (macro-F1 {best.macro_f1:.4f}, "
        f"accuracy {best.accuracy:.4f} at k = {best.k})"
    )
    if evaluation.frugal is not None:
        click.echo(_describe_frugal(evaluation.frugal, evaluation.best_layer))
    if evaluation.method != "test" and (n_single := sum(_counts(evaluation) == 1)):
        note(
            f"{counted(n_single, 'label')} with a single document, which no other can vote for: "
            "leave such out with --min-per-label 2"
        )


def _counts(evaluation: Any) -> Any:
    import numpy as np

    return np.bincount(evaluation.true)


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
    n_labels = len(set(evaluation.true.tolist()))
    documents, labels = counted(evaluation.n, "document"), counted(n_labels, "label")
    method = evaluation.method.value
    if evaluation.n_folds is not None:
        method = f"{evaluation.n_folds} {method}"
    title = f"{method}, {documents}, {labels}"
    if evaluation.label_field != "label":
        title += f" of {one_line(evaluation.label_field, 30)}"
    title += transform_title(evaluation.transform.value)
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
        result = evaluation.result(layer, k, weights)
        cells = []
        for name in ("accuracy", "macro_f1"):
            cells.append(f"{getattr(result, name):.4f}")
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
            getattr(evaluation.result(layer, k, weights), _METRICS[name]) for _, k, name in columns
        )
        is_best = layer == evaluation.best_layer
        cells = (*(f"{figure:.4f}" for figure in figures), "best" if is_best else "")
        table.add_row(str(layer), *cells, style="bold" if is_best else None)
    print_table(table)


def print_proposal(proposal: Any) -> None:
    """Print how layers were chosen to be fused, and what that gains on held-out documents."""
    n_chosen_by = proposal.n - proposal.n_held_out
    title = f"layers taken one by one, on folds of {counted(n_chosen_by, 'document')}"
    table = make_table("layers", ">macro-F1", title=title)
    for step in proposal.steps:
        table.add_row(",".join(map(str, step.layers)), f"{step.macro_f1:.4f}")
    print_table(table)
    single, held_out = proposal.single, counted(proposal.n_held_out, "held-out document")
    if len(proposal.layers) == 1:
        click.echo(f"No other layer helps layer {single}: nothing to fuse")
        return
    low, high = proposal.gain_interval.low, proposal.gain_interval.high
    layers = ",".join(map(str, proposal.layers))
    click.echo(
        f"On {held_out}, macro-F1 (accuracy):\n"
        f"  layers {layers} fused  {proposal.fused.macro_f1:.4f} ({proposal.fused.accuracy:.4f})\n"
        f"  layer {single} alone  {proposal.alone.macro_f1:.4f} ({proposal.alone.accuracy:.4f})\n"
        f"  difference {proposal.gain:+.4f}, 95 % {low:+.4f} to {high:+.4f}: "
        + ("measurably better" if low > 0 else "worse" if high < 0 else "may be chance")
    )
