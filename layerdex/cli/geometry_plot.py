"""Pictures of what is known without labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerdex.cli.pictures import color, new_figure, save_figure

if TYPE_CHECKING:
    from layerdex.search.dedup.threshold_sweep import ThresholdSweep
    from layerdex.search.evaluation.geometry import Geometry

_CELL_INCHES = 0.55
_N_READABLE = 13  # layers whose shares fit into their cells


def plot_agreement(found: Geometry, path: Path) -> None:
    """Draw the share of neighbours that two layers have in common (png, svg or pdf)."""
    layers = [shape.layer for shape in found.layers]
    inches = max(4.0, 1.5 + _CELL_INCHES * min(len(layers), _N_READABLE))
    figure = new_figure(inches + 0.8, inches)
    draw_agreement(figure.add_subplot(), found)
    save_figure(figure, path)


def draw_agreement(axes: Any, found: Geometry) -> None:
    """Draw what `plot_agreement` does into a part of a figure."""
    layers = [shape.layer for shape in found.layers]
    image = axes.imshow(found.agreement, vmin=0, vmax=1, cmap="viridis", origin="lower")
    if len(layers) <= _N_READABLE:
        for i in range(len(layers)):
            for j in range(len(layers)):
                share = found.agreement[i, j]
                color = "black" if share > 0.6 else "white"
                text = f"{share:.2f}"
                axes.text(j, i, text, ha="center", va="center", fontsize=8, color=color)
    axes.set_xticks(range(len(layers)), layers)
    axes.set_yticks(range(len(layers)), layers)
    axes.set_xlabel("layer (0 is the embedding output)")
    axes.set_ylabel("layer")
    label = f"mean overlap@{found.k} of neighbours, {found.n_texts:,} texts"
    axes.figure.colorbar(image, ax=axes, label=label)


def plot_thresholds(found: ThresholdSweep, path: Path) -> None:
    """Draw nearest neighbours' similarities, and near duplicates by threshold (png, svg, pdf)."""
    figure = new_figure(7, 5.5)
    above, below = figure.subplots(2, 1, sharex=True)
    bounds, counts = found.histogram()
    above.stairs(counts, bounds, fill=True, alpha=0.6, label="nearest neighbours")
    for i, (name, similarity) in enumerate(found.percentiles.items()):
        above.axvline(similarity, color=color(1), linewidth=1, alpha=0.3 + 0.15 * i, linestyle=":")
        above.text(
            similarity,
            0.98 - 0.08 * (i % 2),
            name,
            rotation=90,
            ha="right",
            va="top",
            fontsize=7,
            color=color(1),
            transform=above.get_xaxis_transform(),
        )
    above.set_ylabel(f"of {found.n_texts:,} texts")
    above.set_title("similarity to the nearest text; dotted: percentiles of random pairs", size=9)
    thresholds = [step.threshold for step in found.steps]
    below.plot(thresholds, [step.n_near for step in found.steps], "o-")
    below.set_ylabel("near duplicates removed")
    below.set_xlabel(f"threshold (similarity at layer {found.layer})")
    below.set_ylim(bottom=0)
    for axes in (above, below):
        axes.grid(alpha=0.3)
    save_figure(figure, path)
