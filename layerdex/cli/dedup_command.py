"""``layerdex dedup``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layerdex.cli.options import (
    fuse_option,
    index_argument,
    json_option,
    layer_option,
    verbosity_options,
    where_option,
)
from layerdex.cli.output import (
    check_outputs,
    counted,
    make_cell,
    make_table,
    note,
    one_line,
    print_json,
    print_table,
    progress,
    write_jsonl,
)
from layerdex.cli.plot import check_picture

if TYPE_CHECKING:
    from layerdex.index import Index
    from layerdex.index.questions import ReadDocuments
    from layerdex.search.results import Deduplication, Removal

_N_SHOWN = 10


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
    help="Write the kept documents to this file (jsonl), in input order.",
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
@json_option
@verbosity_options
def command(
    index: Path,
    threshold: float,
    layer: str | None,
    fuse: str | None,
    where: tuple[str, ...],
    keep: str,
    output: Path | None,
    clusters: Path | None,
    suggest: bool,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Find exact and near duplicates in INDEX; the index itself is left alone.

    Documents with the same text are exact repeats. Of the others, one goes if a kept one is at
    least as similar as the threshold; so every document removed has a kept one that near. What
    a similarity means differs between layers: look at the pairs before you trust a threshold
    (--suggest shows some at each, beside what random pairs reach).

    \b
    layerdex dedup my-index --suggest --plot thresholds.png
    layerdex dedup my-index --threshold 0.95 -o kept.jsonl --clusters who.jsonl
    """
    from layerdex.index import Index

    check_outputs(index, output, clusters, plot)
    if suggest:
        _refuse_beside_suggest(output, clusters)
    if plot is not None:
        _check_plot(suggest, plot)
    target = Index.open(index)
    if suggest:
        options = {"layer": layer, "fuse": fuse, "where": where, "keep": keep}
        _suggest(target, options, plot=plot, as_json=as_json)
        return
    texts: dict[str, str] = {}

    def on_found(found: Deduplication, read: ReadDocuments) -> None:
        if output is not None:
            write_jsonl(output, map(document_json, read(found.kept)))
        texts.update(read_shown(found, read))

    with progress("Comparing") as on_progress:
        found = target.deduplicate(
            threshold=threshold,
            layer=layer,
            fuse=fuse,
            where=where,
            keep=keep,
            on_progress=on_progress,
            on_found=on_found,
        )
    if output is not None:
        note(f"{counted(len(found.kept), 'kept document')} written to {output}")
    if clusters is not None:
        write_jsonl(clusters, _clusters(found))
        note(f"{counted(len(found.clusters), 'cluster')} written to {clusters}")
    if as_json:
        print_json(_to_json(found))
    else:
        print_duplicates(found, texts)


def _check_plot(suggest: bool, plot: Path) -> None:
    if not suggest:
        raise click.UsageError("--plot goes with --suggest")
    check_picture(plot)


def _refuse_beside_suggest(output: Path | None, clusters: Path | None) -> None:
    source = click.get_current_context().get_parameter_source("threshold")
    is_given = source is not click.core.ParameterSource.DEFAULT
    refused = {"--threshold": is_given, "--output": output, "--clusters": clusters}
    if given := [name for name, value in refused.items() if value]:
        raise click.UsageError(f"--suggest does not go with {given[0]}")


def _suggest(target: Index, options: dict[str, Any], *, plot: Path | None, as_json: bool) -> None:
    """Answer ``--suggest``."""
    from layerdex.cli.threshold_output import print_sweep, sweep_json

    with progress("Comparing") as on_progress:
        found = target.suggest_thresholds(on_progress=on_progress, **options)
    if as_json:
        print_json(sweep_json(found))
    else:
        print_sweep(found)
    if plot is not None:
        from layerdex.cli.geometry_plot import plot_thresholds

        plot_thresholds(found, plot)
        note(f"Picture written to {plot}")


def document_json(document: Any) -> dict[str, Any]:
    """Return a document as ``export`` writes it and ``index`` reads it."""
    row: dict[str, Any] = document.as_row()
    return row


def read_shown(found: Deduplication, read: ReadDocuments) -> dict[str, str]:
    """Return the texts that `print_duplicates` needs, by id."""
    return {one.id: one.text for one in read([kept for kept, _ in _largest(found)])}


def print_duplicates(found: Deduplication, texts: Mapping[str, str]) -> None:
    """Print the counts and the largest clusters with the texts kept."""
    n_removed = len(found.removed)
    click.echo(
        f"{counted(found.n, 'document')} = {len(found.kept):,} kept "
        f"+ {counted(found.n_exact, 'exact repeat')} "
        f"+ {counted(n_removed - found.n_exact, 'near one')} (layer {found.layer}, similarity >= "
        f"{found.threshold:g}, keep {found.keep})"
    )
    shown, title = _largest(found), counted(len(found.clusters), "cluster")
    if not shown:
        return
    if len(shown) < len(found.clusters):
        title = f"The largest of {title}"
    table = make_table("kept", "removed", title=title)
    for kept, removals in shown:
        more = [f"and {len(removals) - 1} more"] if len(removals) > 1 else []
        first = f"{removals[0].similarity:.3f} {one_line(removals[0].id)}"
        kept_cell = make_cell(one_line(kept), one_line(texts[kept]))
        table.add_row(kept_cell, make_cell(first, *more))
    print_table(table)


def _largest(found: Deduplication) -> list[tuple[str, tuple[Removal, ...]]]:
    return sorted(found.clusters.items(), key=lambda item: -len(item[1]))[:_N_SHOWN]


def _to_json(found: Deduplication) -> dict[str, Any]:
    return {
        "layer": found.layer,
        "threshold": found.threshold,
        "n": found.n,
        "n_kept": len(found.kept),
        "n_exact": found.n_exact,
        "n_near": len(found.removed) - found.n_exact,
        "clusters": list(_clusters(found)),
    }


def _clusters(found: Deduplication) -> Iterator[dict[str, Any]]:
    for kept, removals in found.clusters.items():
        removed: Iterable[dict[str, Any]] = [
            {"id": one.id, "similarity": one.similarity, "exact": one.is_exact} for one in removals
        ]
        yield {"kept": kept, "removed": list(removed)}
