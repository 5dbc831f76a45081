"""``layerdex transform``."""

from __future__ import annotations

from pathlib import Path

import click

from layerdex.cli.context import Context, OutputForm, pass_context
from layerdex.cli.options import (
    json_option,
    lock_timeout_option,
    path_argument,
    verbosity_options,
)
from layerdex.cli.render.transforms import print_fit


@click.command("transform", short_help="Fit centring and whitening per layer.")
@path_argument
@click.option(
    "--shrinkage",
    type=float,
    metavar="S",
    help="How far variances shrink towards their mean, from 0.001 to 1. [default: chosen by "
    "labels, else 0.5]",
)
@click.option("--remove", is_flag=True, help="Remove the stored transforms instead.")
@json_option
@lock_timeout_option
@verbosity_options
@pass_context
def command(
    context: Context, path: Path, shrinkage: float | None, remove: bool, lock_timeout_s: float
) -> None:
    """Fit transforms of each layer of INDEX, and store them for --transform of other commands.

    Vectors of middle layers lie in a narrow cone. 'center' subtracts the documents' mean, and
    'whiten' also makes the variances of all directions more even. What helps differs between
    layers and tasks: 'evaluate --transform' measures it.

    If documents have labels, each layer's shrinkage is the best of five in cross-validation, and
    the macro-F1 without a transform, centred and whitened is shown. As the best of five, the
    last is slightly too high. Transforms do not change when documents do: 'index' and 'delete' warn
    when more than a tenth of the documents have changed since.

    \b
    layerdex transform my-index
    layerdex search my-index "battery died" --layer 4 --transform whiten
    layerdex evaluate my-index --transform whiten
    """
    from layerdex.index.json import to_json

    if remove and (shrinkage is not None or context.form is OutputForm.JSON):
        raise click.UsageError("--remove cannot be used with --shrinkage or --json")
    index = context.open_index(path)
    if remove:
        index.remove_transforms(lock_timeout_s=lock_timeout_s)
        context.note(f"Removed the transforms of {path}")
        return
    with context.progress("Fitting layers") as on_progress:
        fit = index.fit_transforms(
            shrinkage=shrinkage, lock_timeout_s=lock_timeout_s, on_progress=on_progress
        )
    context.print(table=lambda: print_fit(fit), document=lambda: to_json(fit))
    context.note(f"Stored the transforms in {path}")
