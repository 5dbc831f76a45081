"""``layerdex tune``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from layerdex.cli.options import (
    device_options,
    field_options,
    index_argument,
    json_option,
    make_fields,
    verbosity_options,
    where_option,
)
from layerdex.cli.output import check_outputs, note, print_json, progress
from layerdex.cli.pictures import check_picture
from layerdex.cli.tuning_output import plot_losses, print_tuning, to_json


@click.command("tune", short_help="Adapt the encoder to the labels, with few parameters.")
@index_argument
@click.argument("adapter_", metavar="ADAPTER", type=click.Path(path_type=Path))
@click.option(
    "--layer",
    type=int,
    help="The layer to train for; those below it change too. [default: the saved best, else "
    "deepest]",
)
@click.option(
    "--loss",
    type=click.Choice(["head", "contrastive"]),
    default="head",
    show_default=True,
    help="What training improves: a classifier on top that is thrown away in the end, or how near "
    "texts of one label are to each other.",
)
@click.option(
    "--rank",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    metavar="N",
    help="Size of the adapter: the rank of its matrices.",
)
@click.option(
    "--epochs",
    "n_epochs",
    type=click.IntRange(min=1),
    default=6,
    show_default=True,
    metavar="N",
    help="Passes over the documents (epochs) at most.",
)
@click.option(
    "--patience",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    metavar="N",
    help="Stop after N epochs that classify the held-out documents no better.",
)
@click.option(
    "--batch",
    "batch_size",
    type=click.IntRange(min=2),
    default=64,
    show_default=True,
    metavar="N",
    help="Texts that one step of training learns from.",
)
@click.option(
    "--rate",
    "learning_rate",
    type=float,
    default=1e-3,
    show_default=True,
    metavar="RATE",
    help="Learning rate: how far a step goes.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Seed of all that is drawn at random.",
)
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    default=10,
    show_default=True,
    metavar="N",
    help="Hold one of N parts of the documents out of training, to choose the best epoch by.",
)
@click.option(
    "--by", default="label", metavar="FIELD", help="Learn this metadata field instead of the label."
)
@where_option
@click.option(
    "--min-per-label",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    metavar="N",
    help="Leave out labels with fewer documents than this.",
)
@click.option(
    "--test",
    metavar="FILE",
    help="Measure on this labelled file, read with the options up to --format; documents whose "
    "text is in it are not trained on.",
)
@field_options
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw the loss and the held-out accuracy (png, svg or pdf).",
)
@json_option
@click.option("--model", help="Folder of the index's model, if it has moved.")
@device_options
@verbosity_options
def command(
    index: Path,
    adapter_: Path,
    text_field: str,
    id_field: str | None,
    label_field: str | None,
    metadata_fields: tuple[str, ...],
    format_: str,
    plot: Path | None,
    as_json: bool,
    model: str | None,
    engine: str,
    device: str,
    dtype: str,
    layer: int | None,
    folds: int,
    by: str,
    where: tuple[str, ...],
    min_per_label: int,
    test: str | None,
    **plan: Any,
) -> None:
    """Train an ADAPTER (a new folder) on the labels of INDEX, which stays as it is.

    An adapter (LoRA) is a small addition to the encoder, a percent or two of its parameters, that
    brings texts of one label closer together. 'layerdex index --adapter' makes a new index with it.

    Some of the documents are held out of training: after each pass over the others (an epoch)
    these are classified by their neighbours (k = 10), and the best epoch is kept. At the end each
    layer is measured without the adapter and with it: on a --test FILE, or else on what was held
    out, which flatters a little. Needs the extra 'tune' (pip install 'layerdex[tune]'); a GPU
    helps, a CPU does for some thousand short texts.

    \b
    layerdex tune my-index my-adapter --layer 6 --test test.jsonl --plot loss.png
    layerdex index my-tuned-index my.jsonl --adapter my-adapter
    """
    from layerdex.choices import Loss
    from layerdex.index import Index
    from layerdex.indexer.training.plan import Plan

    if plot is not None:
        check_picture(plot)
    check_outputs(index, plot, adapter_)
    target = Index.open(index, model=model, engine=engine, device=device, dtype=dtype)
    with progress("Training") as on_progress:
        tuning = target.tune(
            adapter_,
            layer=layer,
            by=by,
            where=where,
            min_per_label=min_per_label,
            plan=Plan(**{**plan, "loss": Loss(plan["loss"])}),
            folds=folds,
            test=test,
            fields=make_fields(text_field, id_field, label_field, metadata_fields),
            format=format_,
            device=device,
            dtype=dtype,
            engine=engine,
            on_progress=on_progress,
        )
    if plot is not None:
        plot_losses(tuning, plot)
        note(f"Curve written to {plot}")
    if as_json:
        print_json(to_json(tuning))
    else:
        print_tuning(tuning, target)
