"""Figures of each two layers as a heat map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from layerdex.search.plots.figures import axes_or_new, figure_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CELL_INCHES = 0.55
_N_READABLE = 13  # layers whose shares fit into their cells


def draw_heat_map(
    axes: Axes | None, shares: NDArray[np.float64], layers: Sequence[int], *, label: str
) -> Figure:
    """Draw (n_layers, n_layers) shares from 0 to 1 into axes, or into a new figure."""
    inches = max(4.0, 1.5 + _CELL_INCHES * min(len(layers), _N_READABLE))
    axes = axes_or_new(axes, inches + 0.8, inches)
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="viridis", origin="lower")
    if len(layers) <= _N_READABLE:
        for (i, j), share in np.ndenumerate(shares):
            color = "black" if share > 0.6 else "white"
            axes.text(j, i, f"{share:.2f}", ha="center", va="center", fontsize=8, color=color)
    axes.set_xticks(range(len(layers)), list(map(str, layers)))
    axes.set_yticks(range(len(layers)), list(map(str, layers)))
    axes.set_xlabel("layer (0 is the embedding output)")
    axes.set_ylabel("layer")
    axes.figure.colorbar(image, ax=axes, label=label)
    return figure_of(axes)
