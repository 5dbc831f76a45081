"""``layerdex tune``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import click

from layerdex.choices import Loss
from layerdex.cli.context import Context, pass_context
from layerdex.cli.files import check_outputs, force_option
from layerdex.cli.options import (
    Decorator,
    EnumChoice,
    PathType,
    SourceOptions,
    calibration_file_option,
    collect,
    combine,
    json_option,
    model_folder_option,
    path_argument,
    plot_path,
    runtime_options,
    source_options,
    verbosity_options,
    where_option,
)
from layerdex.cli.render.figures import check_picture, save_figure
from layerdex.cli.render.tuning import print_tuning

if TYPE_CHECKING:
    from layerdex import Plan
    from layerdex.search.filters import Filter


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """How an adapter is trained."""

    loss: Loss
    rank: int
    n_epochs: int
    patience: int
    batch_size: int
    learning_rate: float
    seed: int

    @property
    def plan(self) -> Plan:
        """The library's plan; raises `OptionError` for values out of range."""
        from layerdex import Plan

        return Plan(**{field.name: getattr(self, field.name) for field in fields(self)})


def _count_option(*names: str, default: int, help: str, least: int = 1) -> Decorator:
    return click.option(
        *names,
        type=click.IntRange(min=least),
        default=default,
        show_default=True,
        metavar="N",
        help=help,
    )


plan_options = combine(
    click.option(
        "--loss",
        type=EnumChoice(Loss),
        default=Loss.HEAD.value,
        show_default=True,
        help="Loss of a classification head that is discarded after training, or a supervised "
        "contrastive loss between texts.",
    ),
    _count_option("--rank", default=8, help="Rank of the adapter's matrices."),
    _count_option("--epochs", "n_epochs", default=6, help="Maximum number of epochs."),
    _count_option(
        "--patience",
        default=2,
        help="Stop after N epochs without a better accuracy on the held-out documents.",
    ),
    _count_option("--batch", "batch_size", default=64, least=2, help="Batch size."),
    click.option(
        "--rate",
        "learning_rate",
        type=float,
        default=1e-3,
        show_default=True,
        metavar="RATE",
        help="Learning rate.",
    ),
    _count_option("--seed", default=0, least=0, help="Random seed."),
    collect(PlanOptions, "training"),
)


@click.command("tune", short_help="Adapt the encoder to labels, with few parameters.")
@path_argument
@click.argument("adapter", metavar="ADAPTER", type=PathType())
@click.option(
    "--layer",
    type=int,
    help="Layer to train for; those below it change too. [default: the saved best, else the "
    "deepest]",
)
@plan_options
@_count_option(
    "--folds",
    default=10,
    least=2,
    help="Number of folds of the documents; one is held out to choose the best epoch.",
)
@click.option(
    "--by",
    default="label",
    metavar="FIELD",
    help="Learn this metadata field instead of the label.",
)
@where_option
@_count_option("--min-per-label", default=2, help="Leave out labels with fewer than N documents.")
@click.option(
    "--test",
    metavar="FILE",
    help="Measure on this labelled file, read with the options up to --sheet; documents whose "
    "text is in it are left out of training.",
)
@source_options
@click.option(
    "--plot", type=plot_path, help="Draw the loss and the held-out accuracy (png, svg or pdf)."
)
@force_option
@json_option
@model_folder_option
@calibration_file_option
@runtime_options
@verbosity_options
@pass_context
def command(
    context: Context,
    path: Path,
    adapter: Path,
    layer: int | None,
    training: PlanOptions,
    folds: int,
    by: str,
    where: tuple[str, ...] | Filter,
    min_per_label: int,
    test: str | None,
    source: SourceOptions,
    plot: Path | None,
) -> None:
    """Train an ADAPTER (a new folder) on the labels of INDEX, which is not changed.

    An adapter (LoRA) adds one or two percent of parameters to the encoder, trained to bring texts
    of one label closer together. 'layerdex index --adapter' makes a new index with it.

    Some documents are held out of training: after each epoch they are classified by their
    neighbours (k = 10), and the best epoch is kept. At the end each layer is measured without and
    with the adapter: on a --test FILE, else on the held-out documents, whose figures are slightly
    too high. Needs the extra 'tune' (pip install 'layerdex[tune]'). Training is faster on a GPU; a
    CPU is enough for a few thousand short texts.

    \b
    layerdex tune my-index my-adapter --layer 6 --test test.jsonl --plot loss.png
    layerdex index my-tuned-index my.jsonl --adapter my-adapter
    """
    from layerdex.index.checks import fields_of_test_set
    from layerdex.index.json import to_json

    if plot is not None:
        check_picture(plot)
    check_outputs(path, plot, adapter)
    index = context.open_index(path)
    with context.progress("Training") as on_progress:
        tuning = index.tune(
            adapter,
            layer=layer,
            by=by,
            where=where,
            min_per_label=min_per_label,
            plan=training.plan,
            folds=folds,
            test=test,
            fields=fields_of_test_set(index, by=by, **source.names),
            format=source.format,
            dialect=source.dialect,
            runtime=context.runtime,
            on_progress=on_progress,
        )
    if plot is not None:
        save_figure(tuning.plot(), plot)
        context.note(f"Curve written to {plot}")
    context.print(
        table=lambda: print_tuning(tuning, model=index.encoder.settings, info=index.info()),
        document=lambda: to_json(tuning),
    )
