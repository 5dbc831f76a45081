"""``layerdex dedup``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layerdex.cli.dedup_output import (
    duplicates_json,
    print_duplicates,
    read_shown,
    rows_of_clusters,
)
from layerdex.cli.leakage_output import find_shared
from layerdex.cli.options import (
    fuse_option,
    index_argument,
    json_option,
    layer_option,
    stored_transform_option,
    transform_json,
    verbosity_options,
    where_option,
)
from layerdex.cli.output import check_outputs, counted, note, print_json, progress, write_jsonl
from layerdex.cli.pictures import check_picture
from layerdex.cli.threshold_output import suggest_thresholds
from layerdex.errors import OptionError

if TYPE_CHECKING:
    from layerdex.index.reading import DocumentReader
    from layerdex.search.results import Deduplication

_NOT_WITH = {
    "suggest": ("against", "threshold", "output", "clusters"),
    "against": ("clusters", "keep"),
}


@click.command("dedup", short_help="Find exact and near duplicates.")
@index_argument
@click.option(
    "--threshold",
    type=float,
    default=0.9,
    show_default=True,
    help="Similarity from which two texts count as the same, -1 to 1.",
)
@layer_option("Layer to compare at. [default: the saved best, else the deepest]")
@fuse_option("mean", "concat")
@stored_transform_option
@where_option
@click.option(
    "--keep",
    type=click.Choice(["first", "last", "longest"]),
    default="first",
    show_default=True,
    help="Which of several duplicates stays.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the kept documents to this file, in input order: parquet for .parquet and .pq, "
    "jsonl for .jsonl, .ndjson and no extension.",
)
@click.option(
    "--clusters",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write who repeats whom to this file (jsonl), one kept document a line.",
)
@click.option(
    "--suggest",
    is_flag=True,
    help="Show what many thresholds would remove, and pairs to judge them by.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With --suggest: draw similarities and removals (png, svg or pdf).",
)
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    metavar="INDEX2",
    help="Find what INDEX2 has too, instead of repeats within INDEX.",
)
@json_option
@verbosity_options
def command(
    index: Path,
    threshold: float,
    layer: str | None,
    fuse: str | None,
    transform: str,
    where: tuple[str, ...],
    keep: str,
    output: Path | None,
    clusters: Path | None,
    suggest: bool,
    plot: Path | None,
    against: Path | None,
    as_json: bool,
) -> None:
    """Find exact and near duplicates in INDEX; the index itself is left alone.

    Documents with the same text are exact repeats. Of the others, one goes if a kept one is at
    least as similar as the threshold; so every document removed has a kept one that near. What
    a similarity means differs between layers: look at the pairs before you trust a threshold
    (--suggest shows some at each, beside what random pairs reach).

    With --against, what INDEX2 has too is found instead, at one layer or several: what of a test
    set leaks from training, say. -o then writes the documents of INDEX that are not there.

    \b
    layerdex dedup my-index --suggest --plot thresholds.png
    layerdex dedup my-index --threshold 0.95 -o kept.jsonl --clusters who.jsonl
    layerdex dedup test-index --against train-index --layer 0,3,6
    """
    from layerdex.index import Index

    check_outputs(index, output, clusters, plot)
    _refuse_what_does_not_go_together()
    _check_names(output, clusters)
    if plot is not None:
        check_picture(plot)
    target = Index.open(index)
    options: dict[str, Any] = {"fuse": fuse, "transform": transform, "where": where}
    if suggest:
        suggest_thresholds(
            target, {**options, "layer": layer, "keep": keep}, plot=plot, as_json=as_json
        )
        return
    if against is not None:
        check_outputs(against, output)
        options |= {"threshold": threshold, "layers": layer}
        find_shared(target, against, options, output=output, as_json=as_json)
        return
    texts: dict[str, str] = {}

    def on_found(found: Deduplication, read: DocumentReader) -> None:
        if output is not None:
            read.export(output, found.kept)
        texts.update(read_shown(found, read))

    with progress("Comparing") as on_progress:
        found = target.deduplicate(
            threshold=threshold,
            layer=layer,
            **options,
            keep=keep,
            on_progress=on_progress,
            on_found=on_found,
        )
    if output is not None:
        note(f"{counted(len(found.kept), 'kept document')} written to {output}")
    if clusters is not None:
        write_jsonl(clusters, rows_of_clusters(found))
        note(f"{counted(len(found.clusters), 'cluster')} written to {clusters}")
    if as_json:
        print_json({**duplicates_json(found), **transform_json(transform)})
    else:
        print_duplicates(found, texts, transform)


def _refuse_what_does_not_go_together() -> None:
    context = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    given = {name for name in context.params if context.get_parameter_source(name) is not default}
    for name, others in _NOT_WITH.items():
        if name in given and (refused := [one for one in others if one in given]):
            raise click.UsageError(f"--{name} does not go with --{refused[0]}")
    if "plot" in given and "suggest" not in given:
        raise click.UsageError("--plot goes with --suggest")


def _check_names(output: Path | None, clusters: Path | None) -> None:
    """Refuse, before any work, names that promise what would not be in the file."""
    from layerdex.choices import ExportFormat
    from layerdex.indexer.writers.documents import format_of_name

    for path in (output, clusters):
        if path == Path("-"):
            raise OptionError("standard output has the counts: give a file to write")
    if output is not None:
        format_of_name(output)
    if clusters is not None and format_of_name(clusters) is not ExportFormat.JSONL:
        raise OptionError(f"clusters are written as jsonl, which {clusters.name} is no name of")
