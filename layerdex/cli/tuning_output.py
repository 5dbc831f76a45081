"""A training as users see it: tables, JSON, and a picture."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from layerdex.cli.output import counted, escape, make_table, print_table

_SMOOTHED = 20  # steps; single ones jump


def to_json(tuning: Any) -> dict[str, Any]:
    """Return a training as the JSON document that users get."""
    trained = tuning.trained
    return {
        "adapter": str(tuning.adapter),
        "layer": tuning.layer,
        "n_training": tuning.n_training,
        "n_held_out": tuning.n_held_out,
        "n_left_out": tuning.n_left_out,
        "n_trained_parameters": trained.n_trained,
        "n_parameters": trained.n_parameters,
        "share": trained.share,
        "epochs": [asdict(epoch) for epoch in trained.epochs],
        "best_epoch": trained.best_epoch,
        "measured_on": "test" if tuning.is_test else "held-out",
        "n_measured": tuning.after.n,
        "layers": [
            {"layer": layer, "before": _figures(before), "after": _figures(after)}
            for layer, before, after in _pairs(tuning)
        ],
    }


def _pairs(tuning: Any) -> list[tuple[int, Any, Any]]:
    return [
        (before.layer, before, after)
        for before, after in zip(tuning.before.scores, tuning.after.scores, strict=True)
    ]


def _figures(result: Any) -> dict[str, Any]:
    interval = result.intervals["accuracy"]
    return {
        "accuracy": result.values["accuracy"],
        "accuracy_interval": [interval.low, interval.high],
        "macro_f1": result.values["macro_f1"],
    }


def print_tuning(tuning: Any, index: Any) -> None:
    """Print what was trained, each epoch, each layer before and after, and what to do with it."""
    trained = tuning.trained
    click.echo(
        f"Trained {trained.n_trained:,} of {counted(trained.n_parameters, 'parameter')} "
        f"({trained.share:.2%}) for layer {tuning.layer}, on "
        f"{counted(tuning.n_training, 'document')}"
    )
    if tuning.n_left_out:
        left_out = counted(tuning.n_left_out, "document")
        click.echo(f"Not trained on: {left_out} whose text is in the test set")
    title = (
        f"Epochs, and the accuracy after each on {counted(tuning.n_held_out, 'document')} held out"
    )
    table = make_table(">epoch", ">training loss", ">held-out accuracy", "", title=title)
    for epoch in trained.epochs:
        is_kept = epoch.number == trained.best_epoch
        cells = (str(epoch.number), f"{epoch.loss:.4f}", f"{epoch.accuracy:.4f}")
        table.add_row(*cells, "kept" if is_kept else "", style="bold" if is_kept else None)
    print_table(table)
    _print_layers(tuning)
    click.echo(
        f"The adapter is in {escape(str(tuning.adapter))}; make an index with it:\n"
        f"  {_next(tuning, index)}"
    )


def _print_layers(tuning: Any) -> None:
    what = (
        f"{counted(tuning.after.n, 'test document')}"
        if tuning.is_test
        else f"the {tuning.after.n:,} held-out documents, which chose the epoch"
    )
    title = f"{tuning.after.ks[0]} neighbours classify {what}"
    headers = (">accuracy before", ">after (95 %)", ">macro-F1 before", ">after")
    table = make_table(">layer", *headers, title=title)
    for layer, before, after in _pairs(tuning):
        interval = after.intervals["accuracy"]
        table.add_row(
            str(layer),
            f"{before.values['accuracy']:.4f}",
            f"{after.values['accuracy']:.4f} ({interval.low:.3f}-{interval.high:.3f})",
            f"{before.values['macro_f1']:.4f}",
            f"{after.values['macro_f1']:.4f}",
            style="bold" if layer == tuning.layer else None,
        )
    print_table(table)


def _next(tuning: Any, index: Any) -> str:
    """Return the command that makes an index like the one given, but with the adapter."""
    from layerdex.choices import LongText, StoredPrecision

    settings, store = index.encoder.settings, index.store  # the model's place is where it lies now
    words = ["layerdex", "index", "NEW-INDEX", "SOURCE"]
    if settings.model != "minilm":
        words += ["--model", settings.model]
    if settings.revision is not None:
        words += ["--revision", settings.revision]
    words += ["--adapter", str(tuning.adapter), "--layers", f"0-{tuning.layer}"]
    words += ["--pooling", settings.pooling.value]
    if settings.template != "{text}":
        words += ["--template", settings.template]
    if store.query_template is not None:
        words += ["--query-template", store.query_template]
    words += ["--max-length", str(settings.max_length)]
    if settings.long is not LongText.TRUNCATE:
        words += ["--long", settings.long.value]
    if store.precision is not StoredPrecision.FLOAT16:
        words += ["--precision", store.precision.value]
    return escape(shlex.join(words))


def plot_losses(tuning: Any, path: Path) -> None:
    """Draw the loss by step and, after each epoch, the accuracy on what was held out."""
    import matplotlib as mpl
    import numpy as np

    mpl.use("agg")
    from matplotlib.figure import Figure

    trained = tuning.trained
    losses = np.array(trained.losses)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    at = np.arange(1, len(losses) + 1) * len(trained.epochs) / len(losses)
    axes.plot(at, losses, color="C0", alpha=0.25, linewidth=0.8)
    n_smoothed = min(_SMOOTHED, max(len(losses) // 5, 1))
    mean = np.convolve(losses, np.full(n_smoothed, 1 / n_smoothed), mode="valid")
    label = f"training loss, mean of {n_smoothed} steps"
    lines = axes.plot(at[n_smoothed - 1 :], mean, color="C0", label=label)
    axes.set_xlabel(f"epoch (kept: {trained.best_epoch})")
    axes.set_ylabel("training loss")
    beside = axes.twinx()
    numbers = [epoch.number for epoch in trained.epochs]
    accuracies = [epoch.accuracy for epoch in trained.epochs]
    lines += beside.plot(numbers, accuracies, "s--", color="C1", label="held-out accuracy")
    beside.set_ylabel(f"accuracy on {tuning.n_held_out:,} held-out documents")
    axes.axvline(trained.best_epoch, color="grey", linewidth=1, linestyle=":", zorder=0)
    axes.grid(alpha=0.3)
    # Above, as curves may lie anywhere within.
    axes.legend(
        handles=lines, frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0)
    )
    from layerdex.storage.files import atomic_write

    with atomic_write(path) as written:
        figure.savefig(written, dpi=150, format=path.suffix.lower().removeprefix("."))
