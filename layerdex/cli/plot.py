"""Pictures of results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from layerdex.cli.measurement_output import NAMES, describe_n
from layerdex.errors import OptionError

_LINES = (("accuracy", "accuracy", "o-"), ("macro_f1", "macro-F1", "s--"))
_STYLES = ("o-", "s--", "^:")
_THRESHOLD = "threshold"  # a similarity, not something to be high
_FORMATS = (".png", ".svg", ".pdf")


def check_picture(path: Path) -> None:
    """Raise `OptionError` for a picture that could not be drawn, before any work is done."""
    if path.suffix.lower() not in _FORMATS:
        raise OptionError(f"cannot draw {path}: end the name in .png, .svg or .pdf")
    if not path.absolute().parent.is_dir():
        raise OptionError(f"cannot draw {path}: there is no folder {path.absolute().parent}")


def plot_evaluation(evaluation: Any, path: Path) -> None:
    """Draw accuracy and macro-F1 by layer, a line per k with its 95 % band (png, svg or pdf)."""
    figure, axes = _new_figure()
    layers = sorted(layer for layer in evaluation.layers if isinstance(layer, int))
    for i, k in enumerate(evaluation.ks):
        results = [evaluation.result(layer, k) for layer in layers]
        for metric, name, line in _LINES:
            values = [getattr(result, metric) for result in results]
            label = f"{name}, k = {k}"
            axes.plot(layers, values, line, color=f"C{i}", label=label)
            if results[0].intervals:
                low = [result.intervals[metric].low for result in results]
                high = [result.intervals[metric].high for result in results]
                axes.fill_between(layers, low, high, color=f"C{i}", alpha=0.12, linewidth=0)
    for i, name in enumerate(layer for layer in evaluation.layers if isinstance(layer, str)):
        macro_f1 = evaluation.result(name, evaluation.ks[0]).macro_f1
        label = f"macro-F1, {name}"
        axes.axhline(macro_f1, color=f"C{i + 5}", linewidth=1, linestyle="-.", label=label)
    _finish(axes, layers, evaluation.best_layer)
    axes.set_ylabel(f"{evaluation.method.value}, {evaluation.n:,} documents")
    _save(figure, path)


def plot_measurement(measurement: Any, path: Path) -> None:
    """Draw each metric by layer with its 95 % band (png, svg or pdf)."""
    figure, axes = _new_figure()
    layers = _single(measurement)
    metrics = [name for name in measurement.metrics if name != _THRESHOLD]
    for i, metric in enumerate(metrics):
        _draw(axes, measurement, metric, label=NAMES[metric], style=i)
    main = metrics[0]
    for i, one in enumerate(one for one in measurement.results if isinstance(one.layer, str)):
        label = f"{NAMES[main]}, {one.layer}"
        value = one.values[main]
        axes.axhline(value, color=f"C{i + 5}", linewidth=1, linestyle="-.", label=label)
    _finish(axes, layers, measurement.best_layer)
    axes.set_ylabel(describe_n(measurement))
    _save(figure, path)


def plot_comparison(comparison: Any, path: Path) -> None:
    """Draw the deciding metric of both indexes by layer, each with its 95 % band."""
    figure, axes = _new_figure()
    main = comparison.first.metrics[0]
    sides = {"first": comparison.first, "second": comparison.second}
    for i, (name, side) in enumerate(sides.items()):
        _draw(axes, side, main, label=f"{name} (best: {side.best_layer})", style=i)
    layers = sorted({*_single(comparison.first), *_single(comparison.second)})
    _finish(axes, layers, None)
    axes.set_ylabel(f"{NAMES[main]}, {describe_n(comparison.first)}")
    _save(figure, path)


def _single(measurement: Any) -> list[int]:
    return sorted(one.layer for one in measurement.results if isinstance(one.layer, int))


def _draw(axes: Any, measurement: Any, metric: str, *, label: str, style: int) -> None:
    layers = _single(measurement)
    results = [measurement.at(layer) for layer in layers]
    values = [one.values[metric] for one in results]
    line = _STYLES[style % len(_STYLES)]
    axes.plot(layers, values, line, color=f"C{style}", label=label)
    if results[0].intervals:
        low = [one.intervals[metric].low for one in results]
        high = [one.intervals[metric].high for one in results]
        axes.fill_between(layers, low, high, color=f"C{style}", alpha=0.12, linewidth=0)


def _new_figure() -> tuple[Any, Any]:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    return figure, figure.add_subplot()


def _finish(axes: Any, layers: list[int], best_layer: int | None) -> None:
    best = "" if best_layer is None else f"; best: {best_layer}"
    if best_layer is not None:
        axes.axvline(best_layer, color="grey", linewidth=1, linestyle=":", zorder=0)
    axes.set_xticks(layers)
    axes.set_xlabel(f"layer (0 is the embedding output{best})")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)


def _save(figure: Any, path: Path) -> None:
    from layerdex.storage.files import whole_file

    with whole_file(path) as written:
        figure.savefig(written, dpi=150, format=path.suffix.lower().removeprefix("."))
