"""``layerdex probe``."""

from __future__ import annotations

from pathlib import Path

import click

from layerdex.cli.context import Context, pass_context
from layerdex.cli.options import (
    TargetOptions,
    json_option,
    lock_timeout_option,
    min_per_label_option,
    path_argument,
    target_options,
    verbosity_options,
)
from layerdex.cli.render.probe import print_probe


@click.command("probe", short_help="Train a linear classifier per layer.")
@path_argument
@target_options("Layers to train on, such as 0,4-6.", layers=True)
@click.option(
    "-k", type=int, default=10, show_default=True, help="Number of neighbours to compare with."
)
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    default=3,
    show_default=True,
    metavar="N",
    help="Number of cross-validation folds.",
)
@click.option(
    "--by",
    metavar="FIELD",
    default="label",
    show_default=True,
    help="Predict this metadata field instead of the label.",
)
@min_per_label_option
@click.option(
    "--save", is_flag=True, help="Store the best layer's head, for 'classify --with head'."
)
@json_option
@lock_timeout_option
@verbosity_options
@pass_context
def command(
    context: Context,
    path: Path,
    target: TargetOptions,
    k: int,
    folds: int,
    by: str,
    min_per_label: int,
    save: bool,
    lock_timeout_s: float,
) -> None:
    """Train a linear classifier (a head) on the stored vectors of each layer of INDEX.

    A head is a multinomial logistic regression. Its regularisation and the temperature that
    calibrates its probabilities are chosen by cross-validation, and its figures are measured on the
    same folds as those of neighbours. The best layer has the highest macro-F1. Its head is fitted
    on all documents and does not change when documents are added: run probe again to update it.

    \b
    layerdex probe my-index --save
    layerdex classify my-index --with head "where is my card?"
    """
    from layerdex.index.json import to_json

    index = context.open_index(path)
    with context.progress("Fitting") as on_progress:
        probe = target.bind(index).probe(
            k=k,
            folds=folds,
            by=by,
            min_per_label=min_per_label,
            on_progress=on_progress,
        )
    context.print(table=lambda: print_probe(probe), document=lambda: to_json(probe))
    if save:
        index.save_head(probe, lock_timeout_s=lock_timeout_s)
        predicts = "the label" if probe.label_field == "label" else f"{probe.label_field!r}"
        context.note(
            f"Stored the head of layer {probe.best_layer} in {path}; it predicts {predicts} and "
            "replaces any head stored before"
        )
