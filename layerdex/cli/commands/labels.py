"""``layerdex labels``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from layerdex.cli.context import Context, pass_context
from layerdex.cli.options import (
    FormatOptions,
    format_options,
    json_option,
    lock_timeout_option,
    path_argument,
    verbosity_options,
)
from layerdex.cli.render.text import counted, describe_labels, one_line
from layerdex.errors import DocumentNotFoundError, OptionError

if TYPE_CHECKING:
    from layerdex.index.label_changes import LabelChanges, LabelConflict

_N_SHOWN = 5


@click.group("labels", short_help="Change the labels of documents.")
def command() -> None:
    """Change the labels of documents."""


@command.command("apply", short_help="Take back a review that 'suspects -o' wrote.")
@path_argument
@click.argument("file", metavar="FILE")
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@click.option(
    "--force", is_flag=True, help="Change labels also where they are others than in the review."
)
@click.option(
    "--new-labels",
    is_flag=True,
    help="Give also labels that look like a misspelt one: no document has them, but a similar one.",
)
@format_options
@json_option
@lock_timeout_option
@verbosity_options
@pass_context
def apply(
    context: Context,
    path: Path,
    file: str,
    dry_run: bool,
    force: bool,
    new_labels: bool,
    source: FormatOptions,
    lock_timeout_s: float,
) -> None:
    """Give documents of INDEX the labels that the column new_label of FILE says, in one commit.

    FILE is a table with the columns id and new_label, such as 'suspects -o' writes. An empty
    new_label is no decision, and (none) removes the label. If the column label is there, a
    document that has another label by now keeps it, unless --force is given; so does one that has
    another text than the column text, if that is there. Texts and vectors stay as they are.

    Where a label that no document has is close to one that exists, nothing is changed, unless
    --new-labels is given; nor where no document has any of the ids (exit 1). A later 'index' with a
    source that has other labels puts those back.

    \b
    layerdex suspects my-index -o review.csv
    layerdex labels apply my-index review.csv --dry-run
    """
    from layerdex.index.checks import misspelt_labels
    from layerdex.index.files import read_review
    from layerdex.index.json import to_json
    from layerdex.index.reviews import find_other_texts

    index = context.open_index(path)
    review = read_review(file, format=source.format, dialect=source.dialect)
    if not new_labels:
        _check_spelling(misspelt_labels(index, filter(None, review.labels.values())))
    others = () if force else find_other_texts(index, review)
    for conflict in others:
        del review.labels[conflict.id]
    changes = index.set_labels(
        review.labels,
        expected=None if force else review.expected,
        missing_ok=True,
        dry_run=dry_run,
        lock_timeout_s=lock_timeout_s,
    )
    if changes.unknown and len(changes.unknown) == len(review.labels) and not others:
        raise DocumentNotFoundError(
            f"no document has the id {_ids(changes.unknown)}{_advice(changes.unknown)}"
        )
    changes = replace(changes, conflicts=(*others, *changes.conflicts))
    context.print(
        table=lambda: _note_changes(context, changes, review.n_undecided, dry_run),
        document=lambda: {**to_json(changes), "n_undecided": review.n_undecided},
    )


def _note_changes(context: Context, changes: LabelChanges, n_undecided: int, dry_run: bool) -> None:
    would = "would be changed" if dry_run else "changed"
    context.note(
        f"{counted(len(changes.changed), 'label')} {would}, {changes.n_unchanged:,} unchanged, "
        f"{n_undecided:,} undecided, {len(changes.conflicts):,} in conflict, "
        f"{counted(len(changes.unknown), 'unknown id')}"
    )
    for conflict in changes.conflicts[:_N_SHOWN]:
        context.note(_describe(conflict))
    if (n_more := len(changes.conflicts) - _N_SHOWN) > 0:
        context.note(f"… and {counted(n_more, 'more conflict')}")
    if changes.unknown:
        context.note(f"No document has the id {_ids(changes.unknown)}{_advice(changes.unknown)}")
    if changes.new_labels:
        context.note(f"No document had this label before: {describe_labels(changes.new_labels)}")


def _check_spelling(misspelt: Mapping[str, str]) -> None:
    if not misspelt:
        return
    named = [f"{new!r} (did you mean {old!r}?)" for new, old in misspelt.items()][:_N_SHOWN]
    n_more = len(misspelt) - len(named)
    more = f" and {counted(n_more, 'other')}" if n_more else ""
    raise OptionError(
        f"no document has the label {', '.join(named)}{more}: nothing was changed; --new-labels "
        "gives it all the same"
    )


def _describe(conflict: LabelConflict) -> str:
    if conflict.found == conflict.expected:
        return (
            f"Left as it is: {one_line(conflict.id, 40)} has another text than in the review"
            f"{_advice([conflict.id])}; --force changes its label"
        )
    found, expected = (
        "no label" if label is None else repr(label)
        for label in (conflict.found, conflict.expected)
    )
    return (
        f"Left as it is: {one_line(conflict.id, 40)} has {found} now, and {expected} in the "
        "review; --force changes it"
    )


def _ids(ids: Sequence[str]) -> str:
    shown = ", ".join(repr(identifier) for identifier in ids[:_N_SHOWN])
    n_more = len(ids) - _N_SHOWN
    return f"{shown} or {counted(n_more, 'other')}" if n_more > 0 else shown


def _advice(ids: Sequence[str]) -> str:
    if not any(identifier.isdecimal() for identifier in ids):
        return ""
    return "; a spreadsheet drops leading zeros: import the column id as text"
