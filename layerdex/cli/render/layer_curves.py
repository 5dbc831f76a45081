"""Curves of figures by layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from layerdex.cli.render.evaluation import describe_n
from layerdex.cli.render.figures import color, new_figure, save_figure
from layerdex.cli.render.metrics import METRIC_NAMES
from layerdex.cli.render.text import describe_transform

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from layerdex.search.evaluation.comparison import Comparison
    from layerdex.search.evaluation.evaluation import Evaluation
    from layerdex.search.evaluation.metrics import Interval

_LABEL_METRICS = ("accuracy", "macro_f1")
_LINES = ("o-", "s--", "^:")
_THRESHOLD = "threshold"  # a similarity, not a score that is better when higher
_INCHES = (7, 4)


def plot_evaluation(evaluation: Evaluation, path: Path) -> None:
    """Draw scores by layer, a line per metric and k with its 95 % band (png, svg or pdf)."""
    figure = new_figure(*_INCHES)
    draw_evaluation(figure.add_subplot(), evaluation)
    save_figure(figure, path)


def plot_comparison(comparison: Comparison, path: Path) -> None:
    """Draw the deciding metric of both indexes by layer, each with its 95 % band."""
    figure = new_figure(*_INCHES)
    axes = figure.add_subplot()
    metric = comparison.first.metrics[0]
    sides = {"first": comparison.first, "second": comparison.second}
    for i, (name, side) in enumerate(sides.items()):
        draw_metric(axes, side, metric, label=f"{name} (best: {side.best_layer})", style=i, i=i)
    layers = sorted({*_single(comparison.first), *_single(comparison.second)})
    finish_layers(axes, layers, None)
    axes.set_ylabel(f"{METRIC_NAMES[metric]}, {describe_n(comparison.first)}")
    save_figure(figure, path)


def draw_evaluation(axes: Axes, evaluation: Evaluation) -> None:
    """Draw each metric into a part of a figure: of labels a line per k, each k in one colour."""
    classification = evaluation.classification
    metrics = _LABEL_METRICS if classification else evaluation.metrics
    metrics = tuple(name for name in metrics if name != _THRESHOLD)
    for i, k in enumerate(evaluation.ks or (None,)):
        for style, metric in enumerate(metrics):
            at_k = "" if k is None else f", k = {k}"
            draw_metric(
                axes,
                evaluation,
                metric,
                k=k,
                label=METRIC_NAMES[metric] + at_k,
                style=style,
                i=style if k is None else i,
            )
    main = evaluation.metrics[0]
    for i, name in enumerate(layer for layer in evaluation.layers if isinstance(layer, str)):
        value = evaluation.at(name).values[main]
        label = f"{METRIC_NAMES[main]}, {name}"
        axes.axhline(value, color=color(i + 3), linewidth=1, linestyle="-.", label=label)
    finish_layers(axes, _single(evaluation), evaluation.best_layer)
    method = f"{classification.method}, " if classification else ""
    axes.set_ylabel(method + describe_n(evaluation) + describe_transform(evaluation.best.target))


def draw_metric(
    axes: Axes,
    evaluation: Evaluation,
    metric: str,
    *,
    label: str,
    style: int,
    i: int,
    k: int | None = None,
) -> None:
    """Draw one metric by layer in the i-th colour, with its 95 % band."""
    layers = _single(evaluation)
    scores = [evaluation.at(layer, k) for layer in layers]
    values = [of_layer.values[metric] for of_layer in scores]
    intervals = [of_layer.intervals[metric] for of_layer in scores if of_layer.intervals]
    line = _LINES[style % len(_LINES)]
    draw_curve(axes, layers, values, intervals, label=label, line=line, i=i)


def draw_curve(
    axes: Axes,
    layers: Sequence[int],
    values: Sequence[float],
    intervals: Sequence[Interval],
    *,
    label: str,
    line: str,
    i: int,
) -> None:
    """Draw values by layer in the i-th colour, with a band of their intervals if there are any."""
    axes.plot(layers, values, line, color=color(i), label=label)
    if intervals:
        low = [interval.low for interval in intervals]
        high = [interval.high for interval in intervals]
        axes.fill_between(layers, low, high, color=color(i), alpha=0.15, linewidth=0)


def finish_layers(axes: Axes, layers: Sequence[int], best_layer: int | None) -> None:
    """Label the layers, mark the best one, and add the legend."""
    best = "" if best_layer is None else f"; best: {best_layer}"
    if best_layer is not None:
        axes.axvline(best_layer, color="grey", linewidth=1, linestyle=":", zorder=0)
    axes.set_xticks(layers)
    axes.set_xlabel(f"layer (0 is the embedding output{best})")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)


def _single(evaluation: Evaluation) -> list[int]:
    """Return the layers that are no fusion."""
    return sorted(layer for layer in evaluation.layers if isinstance(layer, int))
