"""``layerdex layers``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layerdex.cli.options import index_argument, json_option, verbosity_options, where_option
from layerdex.cli.output import (
    check_outputs,
    counted,
    make_table,
    n_beside,
    note,
    print_json,
    print_table,
    progress,
)
from layerdex.cli.pictures import check_picture

if TYPE_CHECKING:
    from layerdex.search.evaluation.geometry import Geometry, LayerShape

_SHOWN_PERCENTILES = ("p50", "p99", "p99.9")
_LAYER_COLUMN, _PAIR_COLUMN, _FIGURE_COLUMN = 9, 6, 11


@click.command("layers", short_help="Describe every layer without labels.")
@index_argument
@click.option(
    "--layers", default="all", show_default=True, help="Layers to describe, such as 0,4-6."
)
@click.option("-k", type=int, default=10, show_default=True, help="Neighbours that are compared.")
@where_option
@click.option(
    "--sample",
    "n_sampled",
    type=int,
    default=10_000,
    show_default=True,
    metavar="N",
    help="Describe at most so many documents, drawn at random.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random draw.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw how far layers agree, as a heat map (png, svg or pdf).",
)
@json_option
@verbosity_options
def command(
    index: Path,
    layers: str,
    k: int,
    where: tuple[str, ...],
    n_sampled: int,
    seed: int,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Describe the layers of INDEX without labels; each text counts once.

    \b
    rank        directions that vectors spread over (effective rank)
    anisotropy  mean similarity of two documents that have nothing to do
                with each other; near 1, all point the same way
    hubness     skewness of how often one is among the k nearest of others;
                high, a few documents are everyone's neighbours
    dimension   intrinsic dimension from the two nearest (TwoNN)
    p50 … p99.9 similarity that so many % of random pairs are below
    agreement   share of the k neighbours that two layers have in common

    None of these says which layer is best for a task: that takes labels (layerdex evaluate).

    \b
    layerdex layers my-index --plot agreement.png
    """
    from layerdex.index import Index

    if plot is not None:
        check_picture(plot)
        check_outputs(index, plot)
    target = Index.open(index)
    with progress("Describing") as on_progress:
        found = target.describe_layers(
            layers=layers, where=where, k=k, n_sampled=n_sampled, seed=seed, on_progress=on_progress
        )
    if as_json:
        print_json(_to_json(found))
    else:
        _print_shapes(found)
        if len(found.layers) > 1:
            _print_agreement(found)
    if plot is not None:
        from layerdex.cli.geometry_plot import plot_agreement

        plot_agreement(found, plot)
        note(f"Heat map written to {plot}")


def _print_shapes(found: Geometry) -> None:
    """Print the figures, in as many tables as it takes."""
    title = f"{counted(found.n_texts, 'text')} of {counted(found.n, 'document')}, k = {found.k}"
    columns = ("rank", "anisotropy", "hubness", "dimension", *_SHOWN_PERCENTILES)
    n = n_beside(_FIGURE_COLUMN)
    for start in range(0, len(columns), n):
        shown = slice(start, start + n)
        headers = (">layer", *(f">{name}" for name in columns[shown]))
        table = make_table(*headers, title=None if start else title)
        for shape in found.layers:
            table.add_row(str(shape.layer), *_cells(shape)[shown])
        print_table(table)


def _cells(shape: LayerShape) -> list[str]:
    dimension = shape.intrinsic_dimension
    return [
        f"{shape.effective_rank:.1f}",
        f"{shape.anisotropy:.3f}",
        f"{shape.hubness:.2f}",
        "" if dimension is None else f"{dimension:.1f}",
        *(f"{shape.percentiles[name]:.3f}" for name in _SHOWN_PERCENTILES),
    ]


def _print_agreement(found: Geometry) -> None:
    """Print the matrix, in as many tables as it takes."""
    layers = [shape.layer for shape in found.layers]
    n = (n_beside(1) - _LAYER_COLUMN) // _PAIR_COLUMN
    title = f"Share of the {counted(found.k, 'neighbour')} that two layers have in common"
    for start in range(0, len(layers), n):
        shown = layers[start : start + n]
        headers = (">layer", *(f">{layer}" for layer in shown))
        table = make_table(*headers, title=None if start else title)
        for i, layer in enumerate(layers):
            row = found.agreement[i, start : start + n].tolist()
            table.add_row(str(layer), *(f"{share:.2f}" for share in row))
        print_table(table)


def _to_json(found: Geometry) -> dict[str, Any]:
    sizes = {name: getattr(found, name) for name in ("n", "n_texts", "n_paired", "k", "seed")}
    return {
        **sizes,
        "layers": [asdict(shape) for shape in found.layers],
        "agreement": found.agreement.tolist(),
    }
