"""Similarities of nearest neighbours, and near duplicates by threshold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from layerdex.cli.render.figures import color, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from layerdex.search.dedup.threshold_sweep import ThresholdSweep


def plot_thresholds(sweep: ThresholdSweep, path: Path) -> None:
    """Draw a histogram above and the number of removals below (png, svg or pdf)."""
    figure = new_figure(7, 5.5)
    above, below = figure.subplots(2, 1, sharex=True)
    _draw_histogram(above, sweep)
    thresholds = [step.threshold for step in sweep.steps]
    below.plot(thresholds, [step.n_near for step in sweep.steps], "o-")
    below.set_ylabel("near duplicates removed")
    below.set_xlabel(f"threshold (similarity at layer {sweep.layer})")
    below.set_ylim(bottom=0)
    for axes in (above, below):
        axes.grid(alpha=0.3)
    save_figure(figure, path)


def _draw_histogram(axes: Axes, sweep: ThresholdSweep) -> None:
    bounds, counts = sweep.histogram()
    axes.stairs(counts, bounds, fill=True, alpha=0.6, label="nearest neighbours")
    for i, (name, similarity) in enumerate(sweep.percentiles.items()):
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
    axes.set_ylabel(f"of {sweep.n_texts:,} texts")
    axes.set_title("similarity to the nearest text; dotted: percentiles of random pairs", size=9)
