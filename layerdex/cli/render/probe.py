"""Linear classifiers by layer, beside neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from layerdex.cli.render.evaluation import count_labels
from layerdex.cli.render.metrics import describe_signed
from layerdex.cli.render.tables import make_table, print_table
from layerdex.cli.render.text import counted, describe_field

if TYPE_CHECKING:
    from layerdex.search.labels.probe import Probe

_COLUMNS = (">accuracy", ">macro-F1", ">log loss", ">C", ">kNN acc.", ">macro-F1")


def print_probe(probe: Probe) -> None:
    """Print a row per layer, and how the best head differs from the best neighbours."""
    neighbors = probe.neighbors
    [k] = neighbors.ks
    n_labels = counted(count_labels(neighbors), "label")
    title = f"{probe.n_folds} folds, {counted(probe.n, 'document')}, {n_labels}"
    title += f"{describe_field(probe.label_field)}; k = {k}"
    table = make_table(">layer", *_COLUMNS, "", title=title)
    for head in probe.scores:
        knn = neighbors.at(head.layer, k).values
        is_best = head.layer == probe.best_layer
        table.add_row(
            str(head.layer),
            f"{head.accuracy:.4f}",
            f"{head.macro_f1:.4f}",
            f"{head.log_loss:.4f}",
            f"{head.c:g}",
            f"{knn['accuracy']:.4f}",
            f"{knn['macro_f1']:.4f}",
            "best" if is_best else "",
            style="bold" if is_best else None,
        )
    print_table(table)
    click.echo(
        f"Best layer: {probe.best_layer}; macro-F1 {probe.gain:+.4f} compared with neighbours at "
        f"layer {neighbors.best_layer},\n  their best (95 % {describe_signed(probe.gain_interval)})"
    )
