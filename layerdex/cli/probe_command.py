"""``layerdex probe``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layerdex.cli.options import (
    index_argument,
    json_option,
    lock_timeout_option,
    min_per_label_option,
    verbosity_options,
    where_option,
)
from layerdex.cli.output import (
    counted,
    make_table,
    note,
    one_line,
    print_json,
    print_table,
    progress,
)

if TYPE_CHECKING:
    from layerdex.search.labels.probe import Probe


@click.command("probe", short_help="Train a linear classifier per layer.")
@index_argument
@click.option("--layers", default="all", show_default=True, help="Layers to try, such as 0,4-6.")
@click.option("-k", type=int, default=10, show_default=True, help="Neighbours to compare it with.")
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    default=3,
    show_default=True,
    metavar="N",
    help="Judge on each of N parts by the others.",
)
@click.option(
    "--by",
    metavar="FIELD",
    default="label",
    show_default=True,
    help="Predict this metadata field instead of the label.",
)
@where_option
@min_per_label_option
@click.option("--save", is_flag=True, help="Keep the best layer's, for 'classify --with head'.")
@json_option
@lock_timeout_option
@verbosity_options
def command(index: Path, save: bool, as_json: bool, lock_timeout_s: float, **options: Any) -> None:
    """Train a linear classifier (a head) on the stored vectors of each layer of INDEX.

    Heads are multinomial logistic regressions. Regularisation and the temperature that calibrates
    their probabilities are chosen on folds, and so are the figures, beside those of neighbours.
    The best layer has the highest macro-F1. Its head is fitted on all documents; it stays as it
    is when documents are added: probe again to learn from them.

    \b
    layerdex probe my-index --save
    layerdex classify my-index --with head "where is my card?"
    """
    from layerdex.index import Index

    target = Index.open(index)
    with progress("Fitting layers") as on_progress:
        probe = target.probe(on_progress=on_progress, **options)
    if as_json:
        print_json(_to_json(probe))
    else:
        _print(probe)
    if save:
        target.save_head(probe, lock_timeout_s=lock_timeout_s)
        predicts = "the label" if probe.label_field == "label" else f"{probe.label_field!r}"
        note(
            f"The head of layer {probe.best_layer}, which predicts {predicts}, "
            f"is kept with {index} in place of any before"
        )


def _to_json(probe: Probe) -> dict[str, Any]:
    figures = ("layer", "c", "temperature", "accuracy", "macro_f1", "log_loss")
    near, low, high = probe.neighbors, probe.gain_interval.low, probe.gain_interval.high
    results = []
    for one in probe.scores:
        beside = near.at(one.layer).values
        knn = {"knn_accuracy": beside["accuracy"], "knn_macro_f1": beside["macro_f1"]}
        results.append({**{name: getattr(one, name) for name in figures}, **knn})
    return {
        "n": probe.n,
        "n_folds": probe.n_folds,
        "label_field": probe.label_field,
        "k": near.ks[0],
        "layers": results,
        "best_layer": probe.best_layer,
        "knn_best_layer": near.best_layer,
        "gain": probe.gain,
        "gain_interval": [low, high],
    }


def _print(probe: Probe) -> None:
    near = probe.neighbors
    n_labels = counted(len(probe.head.label_names), "label")
    title = f"{probe.n_folds} folds, {counted(probe.n, 'document')}, {n_labels}"
    if probe.label_field != "label":
        title += f" of {one_line(probe.label_field, 30)}"
    title += f"; k = {near.ks[0]}"
    columns = (">accuracy", ">macro-F1", ">log loss", ">C", ">kNN acc.", ">macro-F1")
    table = make_table(">layer", *columns, "", title=title)
    for one in probe.scores:
        beside = near.at(one.layer).values
        table.add_row(
            str(one.layer),
            f"{one.accuracy:.4f}",
            f"{one.macro_f1:.4f}",
            f"{one.log_loss:.4f}",
            f"{one.c:g}",
            f"{beside['accuracy']:.4f}",
            f"{beside['macro_f1']:.4f}",
            "best" if one.layer == probe.best_layer else "",
            style="bold" if one.layer == probe.best_layer else None,
        )
    print_table(table)
    low, high = probe.gain_interval.low, probe.gain_interval.high
    click.echo(
        f"Best layer: {probe.best_layer}; macro-F1 {probe.gain:+.4f} to neighbours at their best, "
        f"layer {near.best_layer}\n  (95 % {low:+.4f} to {high:+.4f})"
    )
