"""``layerdex transform``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layerdex.cli.options import (
    index_argument,
    json_option,
    lock_timeout_option,
    verbosity_options,
)
from layerdex.cli.output import counted, make_table, note, print_json, print_table, progress

if TYPE_CHECKING:
    from layerdex.search.transforms.fit import TransformFit


@click.command("transform", short_help="Fit centring and whitening per layer.")
@index_argument
@click.option(
    "--shrinkage",
    type=float,
    metavar="S",
    help="How far variances are drawn to their mean, 0.001 to 1. [default: by labels, else 0.5]",
)
@click.option("--remove", is_flag=True, help="Forget the transforms instead.")
@json_option
@lock_timeout_option
@verbosity_options
def command(
    index: Path, shrinkage: float | None, remove: bool, as_json: bool, lock_timeout_s: float
) -> None:
    """Fit transforms of each layer of INDEX, and keep them for --transform in other commands.

    Vectors of middle layers lie in a narrow cone. 'center' takes the documents' mean off, and
    'whiten' also evens out how far they spread in each direction. What helps differs between
    layers and tasks: 'evaluate --transform' measures it.

    Where documents have labels, each layer's shrinkage is the best of five on folds, and the
    folds' macro-F1 is shown without a transform, centred and whitened: the latter, as the best of
    five, flatters a little. When more than a tenth of the documents have come or gone, the run
    of 'index' or 'delete' that changes them fits anew with the same shrinkages.

    \b
    layerdex transform my-index
    layerdex search my-index "battery died" --layer 4 --transform whiten
    layerdex evaluate my-index --transform whiten
    """
    from layerdex.index import Index

    if remove and (shrinkage is not None or as_json):
        raise click.UsageError("--remove goes alone")
    target = Index.open(index)
    if remove:
        target.remove_transforms(lock_timeout_s=lock_timeout_s)
        note(f"{index} keeps no transforms")
        return
    with progress("Fitting layers") as on_progress:
        fit = target.fit_transforms(
            shrinkage=shrinkage, lock_timeout_s=lock_timeout_s, on_progress=on_progress
        )
    if as_json:
        print_json(_to_json(fit))
    else:
        _print(fit)
    note(f"The transforms are kept with {index}")


def _to_json(fit: TransformFit) -> dict[str, Any]:
    layers = [
        {
            "layer": one.layer,
            "shrinkage": one.shrinkage,
            "macro_f1": {how.value: value for how, value in one.macro_f1.items()} or None,
        }
        for one in fit.layers
    ]
    best = (
        None
        if fit.best is None
        else {"layer": fit.best.name, "transform": fit.best.transform.value}
    )
    figures = {"n": fit.n, "n_fitted": fit.n_fitted, "n_judged": fit.n_judged}
    return {**figures, "layers": layers, "best": best}


def _print(fit: TransformFit) -> None:
    title = f"fitted on {counted(fit.n_fitted, 'text')} of {counted(fit.n, 'document')}"
    if fit.n_judged:
        title += f"; macro-F1 on 3 folds of {fit.n_judged:,}"
    names = [how.value for how in fit.layers[0].macro_f1]
    table = make_table(">layer", ">shrinkage", *(f">{name}" for name in names), title=title)
    for one in fit.layers:
        figures = (f"{value:.4f}" for value in one.macro_f1.values())
        table.add_row(str(one.layer), f"{one.shrinkage:g}", *figures)
    print_table(table)
    if fit.best is not None:
        click.echo(f"Best on folds: layer {fit.best.name}, --transform {fit.best.transform.value}")
