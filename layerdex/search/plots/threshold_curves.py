"""Similarities of nearest neighbours, and near duplicates by threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from layerdex.search.plots.figures import color, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_thresholds(
    histogram: tuple[NDArray[np.float64], NDArray[np.int64]],
    percentiles: Mapping[str, float],
    removals: Sequence[tuple[float, int]],
    *,
    n_texts: int,
    similarity: str,
) -> Figure:
    """Draw a histogram (bounds, counts) above and the removals at each threshold below.

    ``similarity`` is what the thresholds are of.
    """
    figure = new_figure(7, 5.5)
    above, below = figure.subplots(2, 1, sharex=True)
    _draw_histogram(above, histogram, percentiles)
    above.set_ylabel(f"of {n_texts:,} texts")
    below.plot([at for at, _ in removals], [n for _, n in removals], "o-")
    below.set_ylabel("near duplicates removed")
    below.set_xlabel(f"threshold ({similarity})")
    below.set_ylim(bottom=0)
    for axes in (above, below):
        axes.grid(alpha=0.3)
    return figure


def _draw_histogram(
    axes: Axes,
    histogram: tuple[NDArray[np.float64], NDArray[np.int64]],
    percentiles: Mapping[str, float],
) -> None:
    bounds, counts = histogram
    axes.stairs(counts, bounds, fill=True, alpha=0.6, label="nearest neighbours")
    for i, (name, similarity) in enumerate(percentiles.items()):
        axes.axvline(similarity, color=color(1), linewidth=1, alpha=0.3 + 0.15 * i, linestyle=":")
        axes.text(
            similarity,
            0.98 - 0.08 * (i % 2),
            name,
            rotation=90,
            ha="right",
            va="top",
            fontsize=7,
            color=color(1),
            transform=axes.get_xaxis_transform(),
        )
    axes.set_title("similarity to the nearest text; dotted: percentiles of random pairs", size=9)
