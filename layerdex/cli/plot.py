"""Pictures of results by layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from layerdex.cli.measurement_output import NAMES, describe_n
from layerdex.cli.options import transform_title
from layerdex.cli.pictures import color, new_figure, save_figure

_LINES = (("accuracy", "accuracy", "o-"), ("macro_f1", "macro-F1", "s--"))
_STYLES = ("o-", "s--", "^:")
_THRESHOLD = "threshold"  # a similarity, not something to be high
_INCHES = (7, 4)


def plot_evaluation(evaluation: Any, path: Path) -> None:
    """Draw accuracy and macro-F1 by layer, a line per k with its 95 % band (png, svg or pdf)."""
    figure = new_figure(*_INCHES)
    draw_evaluation(figure.add_subplot(), evaluation)
    save_figure(figure, path)


def plot_measurement(measurement: Any, path: Path) -> None:
    """Draw each metric by layer with its 95 % band (png, svg or pdf)."""
    figure = new_figure(*_INCHES)
    axes = figure.add_subplot()
    metrics = [name for name in measurement.metrics if name != _THRESHOLD]
    for i, metric in enumerate(metrics):
        draw_metric(axes, measurement, metric, label=NAMES[metric], style=i)
    main = metrics[0]
    for i, one in enumerate(one for one in measurement.scores if isinstance(one.layer, str)):
        _draw_level(axes, one.values[main], label=f"{NAMES[main]}, {one.layer}", i=i)
    finish_layers(axes, _single(measurement), measurement.best_layer)
    transform = measurement.best.target.transform.value
    axes.set_ylabel(describe_n(measurement) + transform_title(transform))
    save_figure(figure, path)


def plot_comparison(comparison: Any, path: Path) -> None:
    """Draw the deciding metric of both indexes by layer, each with its 95 % band."""
    figure = new_figure(*_INCHES)
    axes = figure.add_subplot()
    main = comparison.first.metrics[0]
    sides = {"first": comparison.first, "second": comparison.second}
    for i, (name, side) in enumerate(sides.items()):
        draw_metric(axes, side, main, label=f"{name} (best: {side.best_layer})", style=i)
    layers = sorted({*_single(comparison.first), *_single(comparison.second)})
    finish_layers(axes, layers, None)
    axes.set_ylabel(f"{NAMES[main]}, {describe_n(comparison.first)}")
    save_figure(figure, path)


def draw_evaluation(axes: Any, evaluation: Any) -> None:
    """Draw what `plot_evaluation` does into a part of a figure."""
    layers = sorted(layer for layer in evaluation.layers if isinstance(layer, int))
    for i, k in enumerate(evaluation.ks):
        results = [evaluation.at(layer, k) for layer in layers]
        for metric, name, line in _LINES:
            values = [one.values[metric] for one in results]
            intervals = [one.intervals[metric] for one in results if one.intervals]
            label = f"{name}, k = {k}"
            draw_curve(axes, layers, values, intervals, label=label, line=line, i=i)
    for i, name in enumerate(layer for layer in evaluation.layers if isinstance(layer, str)):
        macro_f1 = evaluation.at(name).values["macro_f1"]
        _draw_level(axes, macro_f1, label=f"macro-F1, {name}", i=i)
    finish_layers(axes, layers, evaluation.best_layer)
    vectors = transform_title(evaluation.best.target.transform.value)
    method = evaluation.classification.method.value
    axes.set_ylabel(f"{method}, {evaluation.n:,} documents{vectors}")


def draw_metric(axes: Any, measurement: Any, metric: str, *, label: str, style: int) -> None:
    """Draw one metric of a measurement by layer, with its 95 % band."""
    layers = _single(measurement)
    results = [measurement.at(layer) for layer in layers]
    values = [one.values[metric] for one in results]
    intervals = [one.intervals[metric] for one in results if one.intervals]
    line = _STYLES[style % len(_STYLES)]
    draw_curve(axes, layers, values, intervals, label=label, line=line, i=style)


def draw_curve(
    axes: Any,
    layers: Sequence[int],
    values: Sequence[float],
    intervals: Sequence[Any],
    *,
    label: str,
    line: str,
    i: int,
) -> None:
    """Draw values by layer in the i-th colour, and the band of their intervals if there are any."""
    axes.plot(layers, values, line, color=color(i), label=label)
    if intervals:
        low, high = [one.low for one in intervals], [one.high for one in intervals]
        axes.fill_between(layers, low, high, color=color(i), alpha=0.15, linewidth=0)


def finish_layers(axes: Any, layers: Sequence[int], best_layer: int | None) -> None:
    """Name the layers below, mark the best one, and add the legend."""
    best = "" if best_layer is None else f"; best: {best_layer}"
    if best_layer is not None:
        axes.axvline(best_layer, color="grey", linewidth=1, linestyle=":", zorder=0)
    axes.set_xticks(layers)
    axes.set_xlabel(f"layer (0 is the embedding output{best})")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)


def _draw_level(axes: Any, value: float, *, label: str, i: int) -> None:
    axes.axhline(value, color=color(i + 3), linewidth=1, linestyle="-.", label=label)


def _single(measurement: Any) -> list[int]:
    return sorted(one.layer for one in measurement.scores if isinstance(one.layer, int))
