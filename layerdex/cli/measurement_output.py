"""Measurements and comparisons as users see them: tables, and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click

from layerdex.cli.options import transform_json, transform_title
from layerdex.cli.output import counted, make_table, note, print_table

NAMES = {
    "ndcg@10": "nDCG@10",
    "recall@100": "recall@100",
    "mrr@10": "MRR@10",
    "spearman": "Spearman",
    "average_precision": "avg. precision",
    "f1": "F1",
    "threshold": "threshold",
    "macro_f1": "macro-F1",
    "weighted_f1": "weighted F1",
    "accuracy": "accuracy",
}
"""How tables and figures call metrics."""

_NOUNS = {"queries": ("query", "queries"), "pairs": ("pair", "pairs")}


def measurement_json(measurement: Any) -> dict[str, Any]:
    """Return a measurement as the JSON document that users get."""
    frugal = measurement.frugal
    return {
        "subject": measurement.subject.value,
        "n": measurement.n,
        "n_left_out": measurement.n_left_out,
        "metrics": list(measurement.metrics),
        "layers": [
            {"layer": one.layer, **_with_intervals(one.values, one.intervals)}
            for one in measurement.scores
        ],
        "best_layer": measurement.best_layer,
        "frugal_layer": None if frugal is None else asdict(frugal),
        **transform_json(measurement.best.target.transform.value),
    }


def comparison_json(comparison: Any) -> dict[str, Any]:
    """Return a comparison as the JSON document that users get."""
    return {
        "n_documents": comparison.n_documents,
        "n_only_first": comparison.n_only[0],
        "n_only_second": comparison.n_only[1],
        "n_changed": comparison.n_changed,
        "first": measurement_json(comparison.first),
        "second": measurement_json(comparison.second),
        "differences": [_difference_json(one) for one in comparison.differences],
        "best": _difference_json(comparison.best),
    }


def _difference_json(difference: Any) -> dict[str, Any]:
    return {
        "first_layer": difference.first.name,
        "second_layer": difference.second.name,
        **_with_intervals(difference.values, difference.intervals),
    }


def _with_intervals(values: Mapping[str, float], intervals: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = dict(values)
    for name, interval in intervals.items():
        found[f"{name}_interval"] = [interval.low, interval.high]
    return found


def describe_n(measurement: Any) -> str:
    """Say how many of what were asked."""
    if measurement.subject.value not in _NOUNS:
        return counted(measurement.n, "document")
    one, many = _NOUNS[measurement.subject.value]
    return f"{measurement.n:,} {one if measurement.n == 1 else many}"


def print_measurement(measurement: Any) -> None:
    """Print a row a layer, the deciding metric's interval beside it, and name the best layer."""
    main, *others = measurement.metrics
    beside = [">95 %"] if measurement.best.intervals else []
    headers = (f">{NAMES[main]}", *beside, *(f">{NAMES[name]}" for name in others))
    title = describe_n(measurement) + transform_title(measurement.best.target.transform.value)
    table = make_table(">layer", *headers, "", title=title)
    frugal = measurement.frugal
    for one in measurement.scores:
        cells = [f"{one.values[main]:.4f}", *(_range(one.intervals[main]) for _ in beside)]
        cells += [f"{one.values[name]:.4f}" for name in others]
        is_best = one.layer == measurement.best_layer
        is_frugal = frugal is not None and one.layer == frugal.layer
        remark = "best" if is_best else "frugal" if is_frugal else ""
        table.add_row(str(one.layer), *cells, remark, style="bold" if is_best else None)
    print_table(table)
    value = measurement.best.values[main]
    click.echo(f"Best layer: {measurement.best_layer} ({NAMES[main]} {value:.4f})")
    if frugal is not None:
        click.echo(_describe_frugal(frugal, measurement.best_layer, NAMES[main]))
    if measurement.n_left_out:
        note(f"{measurement.n_left_out:,} queries without a relevant document were left out")


def _describe_frugal(frugal: Any, best_layer: int, metric: str) -> str:
    if frugal.layer == best_layer:
        return "Frugal layer: the same; every shallower one is measurably worse"
    return (
        f"Frugal layer: {frugal.layer} ({metric} {frugal.loss:.4f} lower, "
        f"95 % {_signed(frugal.loss_interval)})"
    )


def print_comparison(comparison: Any) -> None:
    """Print both indexes' deciding metric layer by layer, with differences, and the best layers."""
    first, second = comparison.first, comparison.second
    main = first.metrics[0]
    has_intervals = bool(comparison.best.intervals)
    beside = (">95 %", "") if has_intervals else ()
    table = make_table(
        ">layer",
        ">first",
        ">second",
        ">difference",
        *beside,
        title=f"{NAMES[main]}, {describe_n(first)}, second less first",
    )
    for one in comparison.differences:
        cells = [_cell(first, one.first.name, main), _cell(second, one.second.name, main)]
        table.add_row(str(one.first.name), *cells, *_difference_cells(one, main))
    print_table(table)
    best = comparison.best
    value, *judged = _difference_cells(best, main)
    click.echo(
        f"Best layers: {first.best_layer} of the first ({_cell(first, first.best_layer, main)}), "
        f"{second.best_layer} of the second ({_cell(second, second.best_layer, main)})\n"
        f"  difference {value}" + (f", 95 % {judged[0]}: {judged[1]}" if judged else "")
    )
    _note_left_out(comparison)


def _note_left_out(comparison: Any) -> None:
    left_out = zip(comparison.n_only, ("first", "second"), strict=True)
    parts = [f"{n:,} only in the {which}" for n, which in left_out if n]
    if comparison.n_changed:
        parts.append(f"{comparison.n_changed:,} of another text or label")
    if parts:
        shared = counted(comparison.n_documents, "document")
        note(f"{shared} compared; left out: {', '.join(parts)}")
    if n := comparison.first.n_left_out:
        note(f"{n:,} queries without a relevant document were left out")


def _cell(measurement: Any, layer: int | str, metric: str) -> str:
    return f"{measurement.at(layer).values[metric]:.4f}"


def _difference_cells(difference: Any, metric: str) -> list[str]:
    cells = [f"{difference.values[metric]:+.4f}"]
    if metric in difference.intervals:
        interval = difference.intervals[metric]
        is_chance = interval.low <= 0 <= interval.high
        verdict = "better" if interval.low > 0 else "worse"
        cells += [_signed(interval), "may be chance" if is_chance else verdict]
    return cells


def _range(interval: Any) -> str:
    low, high = f"{interval.low:.3f}", f"{interval.high:.3f}"
    return f"{low} to {high}" if interval.low < 0 else f"{low}-{high}"


def _signed(interval: Any) -> str:
    return f"{interval.low:+.4f} to {interval.high:+.4f}"
