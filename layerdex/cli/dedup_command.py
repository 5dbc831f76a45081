"""``layerdex dedup``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layerdex.cli.leakage_output import find_shared
from layerdex.cli.options import (
    fuse_option,
    index_argument,
    json_option,
    layer_option,
    stored_transform_option,
    transform_json,
    transform_title,
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
from layerdex.cli.threshold_output import suggest_thresholds

if TYPE_CHECKING:
    from layerdex.index.questions import ReadDocuments
    from layerdex.search.results import Deduplication, Removal

_N_SHOWN = 10
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
        options |= {"threshold": threshold, "layers": layer}
        find_shared(target, against, options, output=output, as_json=as_json)
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
            **options,
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
        print_json({**_to_json(found), **transform_json(transform)})
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


def document_json(document: Any) -> dict[str, Any]:
    """Return a document as ``export`` writes it and ``index`` reads it."""
    row: dict[str, Any] = document.as_row()
    return row


def read_shown(found: Deduplication, read: ReadDocuments) -> dict[str, str]:
    """Return the texts that `print_duplicates` needs, by id."""
    return {one.id: one.text for one in read([kept for kept, _ in _largest(found)])}


def print_duplicates(
    found: Deduplication, texts: Mapping[str, str], transform: str = "none"
) -> None:
    """Print the counts and the largest clusters with the texts kept."""
    n_removed, layer = len(found.removed), f"{found.layer}{transform_title(transform)}"
    click.echo(
        f"{counted(found.n, 'document')} = {len(found.kept):,} kept "
        f"+ {counted(found.n_exact, 'exact repeat')} "
        f"+ {counted(n_removed - found.n_exact, 'near one')} (layer {layer}, similarity >= "
        f"{found.threshold:g}, keep {found.keep})"
    )
    if found.n_conflicts:
        click.echo(f"{counted(found.n_conflicts, 'removed document')} with another label than kept")
    shown, title = _largest(found), counted(len(found.clusters), "cluster")
    if not shown:
        return
    if len(shown) < len(found.clusters):
        title = f"The largest of {title}"
    table = make_table("kept", "removed", title=title)
    for kept, removals in shown:
        more = [f"and {len(removals) - 1} more"] if len(removals) > 1 else []
        first = f"{removals[0].similarity:.3f} {one_line(removals[0].id)}"
        if n_conflicts := sum(one.is_conflict for one in removals):
            more.append(f"{n_conflicts} with another label")
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
        "n_conflicts": found.n_conflicts,
        "clusters": list(_clusters(found)),
    }


def _clusters(found: Deduplication) -> Iterator[dict[str, Any]]:
    for kept, removals in found.clusters.items():
        removed: Iterable[dict[str, Any]] = [
            {
                "id": one.id,
                "similarity": one.similarity,
                "exact": one.is_exact,
                "conflict": one.is_conflict,
            }
            for one in removals
        ]
        yield {"kept": kept, "removed": list(removed)}
