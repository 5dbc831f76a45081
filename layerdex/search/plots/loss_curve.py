"""The training loss by step, and the held-out accuracy by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from layerdex.search.plots.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_N_SMOOTHED = 20  # steps in a mean, as the loss of single steps jumps


def draw_losses(
    losses: Sequence[float],
    accuracies: Sequence[tuple[int, float]],
    *,
    best_epoch: int,
    n_held_out: int,
) -> Figure:
    """Draw the losses of all steps, their moving mean, and the accuracy after each epoch."""
    figure = new_figure(7, 4)
    axes = figure.add_subplot()
    steps = np.arange(1, len(losses) + 1) * len(accuracies) / len(losses)
    axes.plot(steps, losses, color="C0", alpha=0.25, linewidth=0.8)
    n_smoothed = min(_N_SMOOTHED, max(len(losses) // 5, 1))
    mean = np.convolve(losses, np.full(n_smoothed, 1 / n_smoothed), mode="valid")
    label = f"training loss, mean of {n_smoothed} steps"
    lines = axes.plot(steps[n_smoothed - 1 :], mean, color="C0", label=label)
    axes.set_xlabel(f"epoch (kept: {best_epoch})")
    axes.set_ylabel("training loss")
    right = axes.twinx()
    numbers, values = zip(*accuracies, strict=True)
    lines += right.plot(numbers, values, "s--", color="C1", label="held-out accuracy")
    right.set_ylabel(f"accuracy on {n_held_out:,} held-out documents")
    axes.axvline(best_epoch, color="grey", linewidth=1, linestyle=":", zorder=0)
    axes.grid(alpha=0.3)
    # Above the figure, as curves may lie anywhere within.
    axes.legend(
        handles=lines, frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0)
    )
    return figure
