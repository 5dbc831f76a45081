"""Fitted transforms by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from layerdex.cli.render.tables import make_table, print_table
from layerdex.cli.render.text import counted

if TYPE_CHECKING:
    from layerdex.search.transforms.fit import TransformFit


def print_fit(fit: TransformFit) -> None:
    """Print the shrinkage of each layer, and its macro-F1 by transform."""
    title = f"fitted on {counted(fit.n_fitted, 'text')} of {counted(fit.n, 'document')}"
    if fit.n_judged:
        title += f"; macro-F1 on 3 folds of {fit.n_judged:,}"
    names = [name.value for name in fit.layers[0].macro_f1]
    table = make_table(">layer", ">shrinkage", *(f">{name}" for name in names), title=title)
    for layer in fit.layers:
        figures = (f"{value:.4f}" for value in layer.macro_f1.values())
        table.add_row(str(layer.layer), f"{layer.shrinkage:g}", *figures)
    print_table(table)
    if fit.best is not None:
        click.echo(f"Best on folds: layer {fit.best.name}, --transform {fit.best.transform}")
