"""``layerdex suspects``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layerdex.cli.options import (
    check_one_form,
    index_argument,
    json_option,
    jsonl_option,
    min_per_label_option,
    stored_transform_option,
    transform_json,
    transform_title,
    verbosity_options,
    where_option,
)
from layerdex.cli.output import (
    counted,
    make_cell,
    make_table,
    one_line,
    print_json,
    print_jsonl,
    print_table,
    progress,
)

if TYPE_CHECKING:
    from layerdex.search.labels.label_issues import LabelIssue, LabelIssues

_N_LISTED = 10
_N_NEIGHBORS_LISTED = 3


@click.command("suspects", short_help="Find labels that look wrong.")
@index_argument
@click.option(
    "--layers", default="all", show_default=True, help="Layers to ask, such as 3-6; most decide."
)
@stored_transform_option
@click.option("-k", type=int, default=40, show_default=True, help="How many neighbours.")
@click.option(
    "--by",
    metavar="FIELD",
    default="label",
    show_default=True,
    help="Judge the values of this metadata field instead of the label.",
)
@where_option
@min_per_label_option
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Show at most so many. [default: {_N_LISTED} in the table, all as JSON]",
)
@json_option
@jsonl_option
@verbosity_options
def command(
    index: Path, limit: int | None, as_json: bool, as_jsonl: bool, transform: str, **options: Any
) -> None:
    """Find documents of INDEX whose label their neighbours at most layers are against.

    Each labelled document is compared with its nearest documents of other texts at each layer.
    The score is the log-odds of the label they suggest to the one it has, averaged over layers:
    7 is certain, 0 a toss-up. A suspect may be mislabelled, or a rare case that is right: look.

    \b
    layerdex suspects my-index
    layerdex suspects my-index --jsonl > suspects.jsonl
    """
    from layerdex.index import Index

    check_one_form(as_json, as_jsonl)
    if limit is None and not (as_json or as_jsonl):
        limit = _N_LISTED
    with progress("Comparing") as on_progress:
        suspects = Index.open(index).suspects(
            transform=transform, limit=limit, on_progress=on_progress, **options
        )
    beside = transform_json(transform)
    if as_json:
        print_json({**_to_json(suspects), **beside})
    elif as_jsonl:
        print_jsonl({**asdict(one), **beside} for one in suspects.issues)
    else:
        _print(suspects, transform)


def _to_json(suspects: LabelIssues) -> dict[str, Any]:
    return {
        "layers": [target.name for target in suspects.targets],
        "layer": suspects.neighbors_target.name,
        "k": suspects.k,
        "n": suspects.n,
        "label_field": suspects.label_field,
        "n_found": suspects.n_issues,
        "found": [asdict(issue) for issue in suspects.issues],
    }


def _print(suspects: LabelIssues, transform: str) -> None:
    n, documents = suspects.n_issues, counted(suspects.n, "labelled document")
    if not suspects.issues:
        click.echo(f"No suspects: the neighbours bear out the labels of {documents}")
        return
    n_layers = counted(len(suspects.targets), "layer")
    click.echo(
        f"{counted(n, 'suspect')} among {documents} (k = {suspects.k}, {n_layers}; "
        f"neighbours of layer {suspects.neighbors_target.name}{transform_title(transform)})"
    )
    title = None if n == len(suspects.issues) else f"The first {len(suspects.issues)}"
    table = make_table("document", "label -> suggested", ">layers", ">score", title=title)
    for one in suspects.issues:
        table.add_row(*_cells(one, len(suspects.targets)))
    print_table(table)


def _cells(one: LabelIssue, n_layers: int) -> tuple[Any, ...]:
    nearest = (f"{v.similarity:.3f} {v.label} · {v.id}" for v in one.neighbors)
    lines = [one_line(line) for line, _ in zip(nearest, range(_N_NEIGHBORS_LISTED), strict=False)]
    labels = make_cell(
        one_line(f"{one.label} {one.label_confidence:.2f}", 60),
        one_line(f"-> {one.suggested} {one.suggested_confidence:.2f}", 60),
    )
    document = make_cell(one_line(one.id), one_line(one.text), *lines)
    return document, labels, f"{one.n_against}/{n_layers}", f"{one.score:.2f}"
