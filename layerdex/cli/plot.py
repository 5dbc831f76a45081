"""Pictures of results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from layerdex.errors import OptionError

_FORMATS = (".png", ".svg", ".pdf")


def check_picture(path: Path) -> None:
    """Raise `OptionError` for a picture that could not be drawn, before any work is done."""
    if path.suffix.lower() not in _FORMATS:
        raise OptionError(f"cannot draw {path}: end the name in .png, .svg or .pdf")
    if not path.absolute().parent.is_dir():
        raise OptionError(f"cannot draw {path}: there is no folder {path.absolute().parent}")


def plot_evaluation(evaluation: Any, path: Path) -> None:
    """Draw accuracy and macro-F1 against the layer, a line per k, into a png, svg or pdf."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib.figure import Figure

    from layerdex.storage.files import whole_file

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    layers = sorted({result.layer for result in evaluation.results})
    ks = list(dict.fromkeys(result.k for result in evaluation.results))
    for i, k in enumerate(ks):
        results = [evaluation.result(layer, k) for layer in layers]
        color = f"C{i}"
        accuracy = [result.accuracy for result in results]
        macro_f1 = [result.macro_f1 for result in results]
        axes.plot(layers, accuracy, "o-", color=color, label=f"accuracy, k = {k}")
        axes.plot(layers, macro_f1, "s--", color=color, label=f"macro-F1, k = {k}")
    axes.axvline(evaluation.best_layer, color="grey", linewidth=1, linestyle=":", zorder=0)
    axes.set_xticks(layers)
    axes.set_xlabel(f"layer (0 is the embedding output; best: {evaluation.best_layer})")
    axes.set_ylabel(f"{evaluation.method.value}, {evaluation.n:,} documents")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    with whole_file(path) as written:
        figure.savefig(written, dpi=150, format=path.suffix.lower().removeprefix("."))
