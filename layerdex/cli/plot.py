"""Pictures of results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from layerdex.errors import OptionError

_LINES = (("accuracy", "accuracy", "o-"), ("macro_f1", "macro-F1", "s--"))
_FORMATS = (".png", ".svg", ".pdf")


def check_picture(path: Path) -> None:
    """Raise `OptionError` for a picture that could not be drawn, before any work is done."""
    if path.suffix.lower() not in _FORMATS:
        raise OptionError(f"cannot draw {path}: end the name in .png, .svg or .pdf")
    if not path.absolute().parent.is_dir():
        raise OptionError(f"cannot draw {path}: there is no folder {path.absolute().parent}")


def plot_evaluation(evaluation: Any, path: Path) -> None:
    """Draw accuracy and macro-F1 by layer, a line per k with its 95 % band (png, svg or pdf)."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib.figure import Figure

    from layerdex.storage.files import whole_file

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
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
    axes.axvline(evaluation.best_layer, color="grey", linewidth=1, linestyle=":", zorder=0)
    axes.set_xticks(layers)
    axes.set_xlabel(f"layer (0 is the embedding output; best: {evaluation.best_layer})")
    axes.set_ylabel(f"{evaluation.method.value}, {evaluation.n:,} documents")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    with whole_file(path) as written:
        figure.savefig(written, dpi=150, format=path.suffix.lower().removeprefix("."))
