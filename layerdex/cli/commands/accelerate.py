"""``layerdex accelerate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from layerdex.cli.conflicts import Excludes, check_rules
from layerdex.cli.context import Context, OutputForm, pass_context
from layerdex.cli.options import (
    json_option,
    lock_timeout_option,
    path_argument,
    stored_encoder_options,
    verbosity_options,
)
from layerdex.cli.render.accelerations import print_accelerations

if TYPE_CHECKING:
    from layerdex.index import Index


@click.command("accelerate", short_help="Build approximate indexes, for faster search.")
@path_argument
@click.option("--layers", default="all", show_default=True, help="Layers, such as 6 or 0,4-6.")
@click.option(
    "--recall",
    type=click.FloatRange(0.5, 0.999),
    default=0.99,
    show_default=True,
    metavar="R",
    help="Share of the 10 nearest documents to find.",
)
@click.option(
    "--queries",
    metavar="FILE",
    help="Measure recall with these texts too (jsonl, txt, ...), as questions may be unlike "
    "documents.",
)
@click.option("--drop", is_flag=True, help="Remove the approximate indexes of --layers instead.")
@json_option
@stored_encoder_options
@lock_timeout_option
@verbosity_options
@pass_context
def command(
    context: Context,
    path: Path,
    layers: str,
    recall: float,
    queries: str | None,
    drop: bool,
    lock_timeout_s: float,
) -> None:
    """Build an approximate index of some layers of INDEX, which 'search' uses from then on.

    It takes about 15 % of the size of the layer's float16 vectors, and some minutes a layer for a
    million documents: name the --layers that you search. An index of fewer than 20,000 documents is
    refused, as an exact search of it is as fast. Each answer says whether it is exact; --exact of
    'search' compares every document. Other commands stay exact.

    How much a search does is the least for which the lower 95 % bound of recall@10 reaches
    --recall, measured on stored vectors, and apart from them on --queries: 0.9 takes some 100 of
    these, 0.99 some 1,000, and of more than 10,000 a random sample is taken. It is measured without
    a filter, and with filters that keep from 30 % to 1 %: documents drawn at random, and documents
    of a topic, for which more lists are searched. 'info' shows it.

    Documents added later are compared exactly, deleted ones are left out. When either exceed a
    sixth, answers are exact until the index is built again.

    \b
    layerdex accelerate my-index --layers 6
    layerdex accelerate my-index --layers 4,6 --recall 0.95
    layerdex accelerate my-index --layers 6 --queries questions.txt
    layerdex accelerate my-index --layers 6 --drop
    """
    from layerdex.index.json import to_json

    check_rules([Excludes("drop", ("recall", "queries"))])
    if drop and context.form is OutputForm.JSON:
        raise click.UsageError("--drop cannot be used with --json")
    index = context.open_index(path)
    if drop:
        removed = index.remove_approximates(layers, lock_timeout_s=lock_timeout_s)
        of_layers = "" if layers == "all" else f" layers {layers} of"
        what = "Removed the" if removed else "There were no"
        context.note(f"{what} approximate indexes of{of_layers} {path}")
        return
    texts = None if queries is None else _read(index, queries)
    with context.progress("Building") as on_progress:
        made = index.accelerate(
            layers,
            recall=recall,
            queries=texts,
            lock_timeout_s=lock_timeout_s,
            on_progress=on_progress,
        )
    context.print(
        table=lambda: print_accelerations(made),
        document=lambda: [to_json(each) for each in made],
    )


def _read(index: Index, file: str) -> list[str]:
    from layerdex.index.checks import source_names
    from layerdex.index.files import read_queries

    stored = source_names(index)["text"]
    read = read_queries(file, text_field=None, stored_text_field=stored)
    return [text for _, text in read]
