"""Empty figures and their colours."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Distinguishable by colour-blind people too (Okabe and Ito, *Color Universal Design*, 2008).
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


def color(i: int) -> str:
    """Return the i-th colour; after the last comes the first."""
    return _COLORS[i % len(_COLORS)]


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, its size in inches; it needs no display, and notebooks show it."""
    _import_matplotlib()
    from layerdex.search.plots.shown_figure import ShownFigure

    return ShownFigure(figsize=(width, height), layout="constrained")


def axes_or_new(axes: Axes | None, width: float, height: float) -> Axes:
    """Return the axes to draw into: those given, or those of a new figure."""
    return new_figure(width, height).add_subplot() if axes is None else axes


def figure_of(axes: Axes) -> Figure:
    """Return the figure that axes are in, also where they are in a part of it."""
    figure = axes.get_figure(root=True)
    if figure is None:
        raise ValueError("axes without a figure cannot be drawn into")
    return figure


def _import_matplotlib() -> None:
    """Import matplotlib with the backend of MPLBACKEND, or without where there is none such.

    A shell inherits the backend of the notebook that it was started from; figures need none.
    """
    if "matplotlib" in sys.modules:
        return
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib as mpl
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        try:
            mpl.rcParams["backend"] = backend
        except ValueError:
            return
