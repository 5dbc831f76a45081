"""Curves of figures by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layerdex.search.plots.figures import color

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LAYER_INCHES = (7, 4)
"""Width and height of a figure of such curves."""

_LINES = ("o-", "s--", "^:")


@dataclass(frozen=True, slots=True)
class LayerCurve:
    """Values by layer, with the ``low`` and ``high`` of their 95 % intervals if there are any."""

    label: str
    layers: Sequence[int]
    values: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def draw_curve(axes: Axes, curve: LayerCurve, i: int, *, style: int | None = None) -> None:
    """Draw a curve in the i-th colour and, unless ``style`` says another, the i-th style."""
    line = _LINES[(i if style is None else style) % len(_LINES)]
    axes.plot(curve.layers, curve.values, line, color=color(i), label=curve.label)
    if curve.low:
        axes.fill_between(
            curve.layers, curve.low, curve.high, color=color(i), alpha=0.15, linewidth=0
        )


def draw_level(axes: Axes, value: float, i: int, *, label: str) -> None:
    """Draw a value that belongs to no single layer as a horizontal line in the i-th colour."""
    axes.axhline(value, color=color(i), linewidth=1, linestyle="-.", label=label)


def finish_layers(axes: Axes, layers: Sequence[int], best_layer: int | None) -> None:
    """Label the layers, mark the best one, and add the legend."""
    best = "" if best_layer is None else f"; best: {best_layer}"
    if best_layer is not None:
        axes.axvline(best_layer, color="grey", linewidth=1, linestyle=":", zorder=0)
    axes.set_xticks(layers)
    axes.set_xlabel(f"layer (0 is the embedding output{best})")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
