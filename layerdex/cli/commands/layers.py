"""``layerdex layers``."""

from __future__ import annotations

from pathlib import Path

import click

from layerdex.cli.context import Context, pass_context
from layerdex.cli.files import check_outputs, force_option
from layerdex.cli.options import (
    TargetOptions,
    json_option,
    path_argument,
    plot_path,
    search_device_option,
    target_options,
    verbosity_options,
)
from layerdex.cli.render.figures import check_picture, save_figure
from layerdex.cli.render.geometry import print_geometry


@click.command("layers", short_help="Describe every layer without labels.")
@path_argument
@target_options("Layers to describe, such as 0,4-6.", layers=True)
@click.option("-k", type=int, default=10, show_default=True, help="Number of neighbours compared.")
@click.option(
    "--sample",
    "n_sampled",
    type=int,
    default=10_000,
    show_default=True,
    metavar="N",
    help="Maximum number of documents, drawn at random.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed.")
@click.option(
    "--plot",
    type=plot_path,
    help="Draw the agreement of layers as a heat map (png, svg or pdf).",
)
@force_option
@json_option
@search_device_option
@verbosity_options
@pass_context
def command(
    context: Context,
    path: Path,
    target: TargetOptions,
    k: int,
    n_sampled: int,
    seed: int,
    plot: Path | None,
) -> None:
    """Describe the layers of INDEX without labels; each text counts once.

    \b
    rank        number of directions that vectors spread over (effective rank)
    anisotropy  mean similarity of two unrelated documents; near 1, all
                vectors point the same way
    hubness     skewness of how often a document is among the k nearest of
                others; if high, a few documents are everyone's neighbours
    dimension   intrinsic dimension from the two nearest neighbours (TwoNN)
    p50 … p99.9 similarity that this percentage of random pairs is below
    agreement   share of the k neighbours that two layers have in common

    None of these says which layer is best for a task: that takes labels (layerdex evaluate).

    \b
    layerdex layers my-index --plot agreement.png
    """
    from layerdex.index.json import to_json

    if plot is not None:
        check_picture(plot)
        check_outputs(path, plot)
    index = context.open_index(path)
    with context.progress("Describing") as on_progress:
        geometry = target.bind(index).describe_layers(
            k=k, n_sampled=n_sampled, seed=seed, on_progress=on_progress
        )
    context.print(table=lambda: print_geometry(geometry), document=lambda: to_json(geometry))
    if plot is not None:
        save_figure(geometry.plot(), plot)
        context.note(f"Heat map written to {plot}")
