"""The training loss by step, and the held-out accuracy by epoch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from layerdex.cli.render.figures import new_figure, save_figure

if TYPE_CHECKING:
    from layerdex.index.training import Tuning

_N_SMOOTHED = 20  # steps in a mean, as the loss of single steps jumps


def plot_losses(tuning: Tuning, path: Path) -> None:
    """Draw the loss, its moving mean, and the accuracy (png, svg or pdf)."""
    import numpy as np

    trained = tuning.trained
    losses = np.array(trained.losses)
    figure = new_figure(7, 4)
    axes = figure.add_subplot()
    steps = np.arange(1, len(losses) + 1) * len(trained.epochs) / len(losses)
    axes.plot(steps, losses, color="C0", alpha=0.25, linewidth=0.8)
    n_smoothed = min(_N_SMOOTHED, max(len(losses) // 5, 1))
    mean = np.convolve(losses, np.full(n_smoothed, 1 / n_smoothed), mode="valid")
    label = f"training loss, mean of {n_smoothed} steps"
    lines = axes.plot(steps[n_smoothed - 1 :], mean, color="C0", label=label)
    axes.set_xlabel(f"epoch (kept: {trained.best_epoch})")
    axes.set_ylabel("training loss")
    right = axes.twinx()
    numbers = [epoch.number for epoch in trained.epochs]
    accuracies = [epoch.accuracy for epoch in trained.epochs]
    lines += right.plot(numbers, accuracies, "s--", color="C1", label="held-out accuracy")
    right.set_ylabel(f"accuracy on {tuning.n_held_out:,} held-out documents")
    axes.axvline(trained.best_epoch, color="grey", linewidth=1, linestyle=":", zorder=0)
    axes.grid(alpha=0.3)
    # Above the figure, as curves may lie anywhere within.
    axes.legend(
        handles=lines, frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0)
    )
    save_figure(figure, path)
