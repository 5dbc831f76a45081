"""``layerdex suspects``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from layerdex.cli.conflicts import Excludes, Requires, Rule, check_rules
from layerdex.cli.context import Context, OutputForm, pass_context
from layerdex.cli.files import check_outputs, force_option
from layerdex.cli.options import (
    STORED_TRANSFORM,
    DisplayOptions,
    PathType,
    TargetOptions,
    display_options,
    json_option,
    jsonl_option,
    min_per_label_option,
    path_argument,
    search_device_option,
    target_options,
    verbosity_options,
)
from layerdex.cli.render.label_issues import print_label_issues, shown_documents
from layerdex.cli.render.text import counted

if TYPE_CHECKING:
    from layerdex.index import Index
    from layerdex.index.document_reader import DocumentReader
    from layerdex.records import Document
    from layerdex.search.labels.label_issues import LabelIssues

_RULES: tuple[Rule, ...] = (
    Excludes("output", ("by",)),
    Requires("delimiter", "output"),
    Requires("force", "output"),
)
_N_LISTED = 10


@click.command("suspects", short_help="Find labels that look wrong.")
@path_argument
@target_options(
    "Layers to compare at, such as 3-6; most of them decide.",
    layers=True,
    transform_help=STORED_TRANSFORM,
)
@click.option("-k", type=int, default=40, show_default=True, help="Number of neighbours.")
@click.option(
    "--by",
    metavar="FIELD",
    default="label",
    show_default=True,
    help="Check the values of this metadata field instead of the label.",
)
@min_per_label_option
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Show at most N. [default: {_N_LISTED} in the table, all as JSON and in a file]",
)
@click.option(
    "-o",
    "--output",
    type=PathType(dir_okay=False),
    metavar="FILE",
    help="Write them to a file to decide about (.csv, .tsv, .jsonl, .parquet), which "
    "'layerdex labels apply' takes back.",
)
@click.option(
    "--delimiter",
    type=click.Choice([",", ";"]),
    default=",",
    show_default=True,
    help="What separates the cells of a csv file; Excel opens ';' where the comma is decimal.",
)
@force_option
@display_options
@json_option
@jsonl_option
@search_device_option
@verbosity_options
@pass_context
def command(
    context: Context,
    path: Path,
    target: TargetOptions,
    k: int,
    by: str,
    min_per_label: int,
    limit: int | None,
    output: Path | None,
    delimiter: str,
    display: DisplayOptions,
) -> None:
    """Find documents of INDEX whose label disagrees with their neighbours at most layers.

    Each labelled document is compared with its nearest documents of other texts at each layer.
    The score is the log-odds of the label they suggest to the one it has, averaged over layers:
    7 is certain, 0 undecided. A suspect may be mislabelled, or a rare case that is right: look at
    it. With -o, fill in the column new_label of the file: the right label, or (none) for none.

    \b
    layerdex suspects my-index
    layerdex suspects my-index -o review.csv
    layerdex suspects my-index --jsonl > suspects.jsonl
    """
    from layerdex.index.json import label_issue_rows, to_json

    check_rules(_RULES)
    check_outputs(path, output)
    if output is not None:
        _check_review(output)
    n_listed = _N_LISTED if limit is None and context.form is OutputForm.TABLE else limit
    index = context.open_index(path)
    detail = display.resolve(index)
    documents: dict[str, Document] = {}

    def on_result(issues: LabelIssues, read: DocumentReader) -> None:
        shown = shown_documents(_first(issues, n_listed))
        documents.update({document.id: document for document in read(shown)})

    with context.progress("Comparing") as on_progress:
        issues = target.bind(index).find_label_issues(
            k=k,
            by=by,
            min_per_label=min_per_label,
            limit=n_listed if output is None else limit,
            on_progress=on_progress,
            on_result=on_result if context.form is OutputForm.TABLE else None,
        )
    if output is not None:
        _write_review(context, index, issues, output, delimiter)
    context.print(
        table=lambda: print_label_issues(_first(issues, n_listed), documents, detail),
        document=lambda: to_json(issues),
        lines=lambda: label_issue_rows(issues),
    )


def _first(issues: LabelIssues, n: int | None) -> LabelIssues:
    """Return the issues that are listed, all for None."""
    return replace(issues, issues=issues.issues[:n])


def _check_review(output: Path) -> None:
    from layerdex.index.files import table_format

    table_format(output)


def _write_review(
    context: Context, index: Index, issues: LabelIssues, output: Path, delimiter: str
) -> None:
    from layerdex.index.files import write_table
    from layerdex.index.reviews import REVIEW_COLUMNS, review_rows

    rows = review_rows(index, issues)
    n_written = write_table(output, REVIEW_COLUMNS, rows, delimiter=delimiter)
    context.note(
        f"{counted(n_written, 'suspect')} written to {output}: fill in new_label where you decide, "
        "then 'layerdex labels apply'"
    )
