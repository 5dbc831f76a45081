"""``layerdex dedup``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from layerdex.choices import ExportFormat, Keep
from layerdex.cli.conflicts import Excludes, Requires, check_rules
from layerdex.cli.context import Context, pass_context
from layerdex.cli.files import check_outputs, force_option, write_json_lines
from layerdex.cli.options import (
    DISPLAY,
    FUSED_VECTORS,
    STORED_TRANSFORM,
    DisplayOptions,
    EnumChoice,
    PathType,
    TargetOptions,
    display_options,
    json_option,
    path_argument,
    plot_path,
    search_device_option,
    target_options,
    verbosity_options,
)
from layerdex.cli.render.duplicates import print_duplicates, shown_documents
from layerdex.cli.render.figures import check_picture, save_figure
from layerdex.cli.render.overlap import print_overlaps
from layerdex.cli.render.text import counted
from layerdex.cli.render.thresholds import print_sweep
from layerdex.errors import OptionError

if TYPE_CHECKING:
    from layerdex.index import Index
    from layerdex.index.document_reader import DocumentReader
    from layerdex.records import Document
    from layerdex.search.dedup.overlap import Overlap
    from layerdex.search.results import Deduplication

_RULES = (
    Excludes("suggest", ("against", "threshold", "output", "clusters", *DISPLAY)),
    Excludes("against", ("clusters", "keep", *DISPLAY)),
    Requires("plot", "suggest"),
)


@click.command("dedup", short_help="Find exact and near duplicates.")
@path_argument
@click.option(
    "--threshold",
    type=float,
    default=0.9,
    show_default=True,
    help="Minimum similarity of near duplicates, from -1 to 1.",
)
@target_options(
    "Layer to compare at. [default: the saved best, else the deepest]",
    fuse=FUSED_VECTORS,
    transform_help=STORED_TRANSFORM,
)
@click.option(
    "--keep",
    type=EnumChoice(Keep),
    default=Keep.FIRST.value,
    show_default=True,
    help="Which of several duplicates to keep.",
)
@click.option(
    "-o",
    "--output",
    type=PathType(dir_okay=False),
    help="Write the kept documents to this file, in input order: parquet for .parquet and .pq, "
    "csv for .csv, jsonl for .jsonl, .ndjson and no extension.",
)
@click.option(
    "--clusters",
    type=PathType(dir_okay=False),
    help="Write the duplicates of each kept document to this file (jsonl).",
)
@click.option(
    "--suggest",
    is_flag=True,
    help="Show what many thresholds would remove, and pairs to judge them by.",
)
@click.option(
    "--plot",
    type=plot_path,
    help="With --suggest: draw similarities and removals (png, svg or pdf).",
)
@force_option
@click.option(
    "--against",
    type=PathType(),
    metavar="INDEX2",
    help="Find documents that INDEX2 has too, instead of duplicates within INDEX.",
)
@display_options
@json_option
@search_device_option
@verbosity_options
@pass_context
def command(
    context: Context,
    path: Path,
    threshold: float,
    target: TargetOptions,
    keep: Keep,
    output: Path | None,
    clusters: Path | None,
    suggest: bool,
    plot: Path | None,
    against: Path | None,
    display: DisplayOptions,
) -> None:
    """Find exact and near duplicates in INDEX, which is not changed.

    Documents with the same text are exact duplicates. Another document is removed if its
    similarity to a kept document is at least the threshold. What a similarity means differs
    between layers: look at the pairs before you trust a threshold (--suggest shows some at each,
    and what random pairs reach).

    With --against, the documents that INDEX2 has too are found instead, at one layer or several,
    such as the texts of a test set that leak into training. -o then writes the documents of INDEX
    that INDEX2 does not have.

    \b
    layerdex dedup my-index --suggest --plot thresholds.png
    layerdex dedup my-index --threshold 0.95 -o kept.jsonl --clusters who.jsonl
    layerdex dedup test-index --against train-index --layer 0,3,6
    """
    check_outputs(path, output, clusters, plot)
    check_rules(_RULES)
    _check_names(output, clusters)
    if plot is not None:
        check_picture(plot)
    index = context.open_index(path)
    if suggest:
        _suggest(context, index, target, keep, plot)
    elif against is not None:
        check_outputs(against, output)
        _find_overlap(context, index, against, target, threshold, output)
    else:
        _deduplicate(context, index, target, threshold, keep, output, clusters, display)


def _deduplicate(
    context: Context,
    index: Index,
    target: TargetOptions,
    threshold: float,
    keep: Keep,
    output: Path | None,
    clusters: Path | None,
    display: DisplayOptions,
) -> None:
    from layerdex.index.json import clusters_to_json, to_json

    detail = display.resolve(index)
    documents: dict[str, Document] = {}

    def on_result(result: Deduplication, read: DocumentReader) -> None:
        if output is not None:
            read.export(output, result.kept)
        documents.update({shown.id: shown for shown in read(shown_documents(result))})

    with context.progress("Comparing") as on_progress:
        result = target.bind(index).deduplicate(
            threshold=threshold,
            keep=keep,
            on_progress=on_progress,
            on_result=on_result,
        )
    if output is not None:
        context.note(f"{counted(len(result.kept), 'kept document')} written to {output}")
    if clusters is not None:
        write_json_lines(clusters, clusters_to_json(result))
        context.note(f"{counted(len(result.clusters), 'cluster')} written to {clusters}")
    context.print(
        table=lambda: print_duplicates(result, documents, detail),
        document=lambda: to_json(result),
    )


def _suggest(
    context: Context, index: Index, target: TargetOptions, keep: Keep, plot: Path | None
) -> None:
    from layerdex.index.json import to_json

    with context.progress("Comparing") as on_progress:
        sweep = target.bind(index).suggest_thresholds(keep=keep, on_progress=on_progress)
    context.print(
        table=lambda: print_sweep(sweep),
        document=lambda: to_json(sweep),
    )
    if plot is not None:
        save_figure(sweep.plot(), plot)
        context.note(f"Picture written to {plot}")


def _find_overlap(
    context: Context,
    index: Index,
    against: Path,
    target: TargetOptions,
    threshold: float,
    output: Path | None,
) -> None:
    from layerdex.index.checks import count_targets
    from layerdex.index.json import to_json

    view = target.bind(index)
    if output is not None and (n := count_targets(view)) > 1:
        raise OptionError(f"-o takes one layer, or several fused, not {n} layers")

    def on_result(overlaps: list[Overlap], read: DocumentReader) -> None:
        if output is not None:
            [overlap] = overlaps
            read.export(output, overlap.rest)

    other = context.open_second_index(against)
    with context.progress("Comparing") as on_progress:
        overlaps = view.find_overlap(
            other, threshold=threshold, on_progress=on_progress, on_result=on_result
        )
    if output is not None:
        n_rest = counted(len(overlaps[0].rest), "document")
        context.note(f"{n_rest} that {against} does not have written to {output}")
    context.print(
        table=lambda: print_overlaps(overlaps),
        document=lambda: [to_json(overlap) for overlap in overlaps],
    )


def _check_names(output: Path | None, clusters: Path | None) -> None:
    """Raise `OptionError`, before any work, for a name of a format that will not be written."""
    from layerdex.index.files import format_of_name

    for path in (output, clusters):
        if path == Path("-"):
            raise OptionError("standard output is taken by the counts: give a file to write")
    if output is not None:
        format_of_name(output)
    if clusters is not None and format_of_name(clusters) is not ExportFormat.JSONL:
        raise OptionError(
            f"clusters are written as jsonl, got {clusters.name}: end the name in .jsonl"
        )
