"""The agreement of layers as a heat map."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from layerdex.cli.render.figures import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from layerdex.search.evaluation.geometry import Geometry

_CELL_INCHES = 0.55
_N_READABLE = 13  # layers whose shares fit into their cells


def plot_agreement(geometry: Geometry, path: Path) -> None:
    """Draw the share of neighbours that two layers have in common (png, svg or pdf)."""
    inches = max(4.0, 1.5 + _CELL_INCHES * min(len(geometry.layers), _N_READABLE))
    figure = new_figure(inches + 0.8, inches)
    draw_agreement(figure.add_subplot(), geometry)
    save_figure(figure, path)


def draw_agreement(axes: Axes, geometry: Geometry) -> None:
    """Draw the heat map into a part of a figure."""
    layers = [shape.layer for shape in geometry.layers]
    image = axes.imshow(geometry.agreement, vmin=0, vmax=1, cmap="viridis", origin="lower")
    if len(layers) <= _N_READABLE:
        for i in range(len(layers)):
            for j in range(len(layers)):
                share = geometry.agreement[i, j]
                color = "black" if share > 0.6 else "white"
                text = f"{share:.2f}"
                axes.text(j, i, text, ha="center", va="center", fontsize=8, color=color)
    axes.set_xticks(range(len(layers)), list(map(str, layers)))
    axes.set_yticks(range(len(layers)), list(map(str, layers)))
    axes.set_xlabel("layer (0 is the embedding output)")
    axes.set_ylabel("layer")
    label = f"mean overlap@{geometry.k} of neighbours, {geometry.n_texts:,} texts"
    axes.figure.colorbar(image, ax=axes, label=label)
