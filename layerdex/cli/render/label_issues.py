"""Documents whose label disagrees with their neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from layerdex.cli.render.tables import make_cell, make_table, print_table
from layerdex.cli.render.text import counted, describe_target, one_line

if TYPE_CHECKING:
    from rich.console import Group

    from layerdex.search.labels.label_issues import LabelIssue, LabelIssues

_N_NEIGHBORS_LISTED = 3


def print_label_issues(issues: LabelIssues) -> None:
    """Print each document with its label, the suggested one and the nearest neighbours."""
    documents = counted(issues.n, "labelled document")
    if not issues.issues:
        click.echo(f"No suspects: the labels of {documents} agree with their neighbours")
        return
    n_layers = counted(len(issues.targets), "layer")
    click.echo(
        f"{counted(issues.n_issues, 'suspect')} among {documents} (k = {issues.k}, {n_layers}; "
        f"neighbours of {describe_target(issues.neighbors_target)})"
    )
    is_whole = issues.n_issues == len(issues.issues)
    title = None if is_whole else f"The first {len(issues.issues)}"
    table = make_table("document", "label -> suggested", ">layers", ">score", title=title)
    for issue in issues.issues:
        against = f"{issue.n_against}/{len(issues.targets)}"
        table.add_row(_document(issue), _labels(issue), against, f"{issue.score:.2f}")
    print_table(table)


def _document(issue: LabelIssue) -> Group:
    neighbors = (
        one_line(f"{neighbor.similarity:.3f} {neighbor.label} · {neighbor.id}")
        for neighbor in issue.neighbors[:_N_NEIGHBORS_LISTED]
    )
    return make_cell(one_line(issue.id), one_line(issue.text), *neighbors)


def _labels(issue: LabelIssue) -> Group:
    return make_cell(
        one_line(f"{issue.label} {issue.label_confidence:.2f}", 60),
        one_line(f"-> {issue.suggested} {issue.suggested_confidence:.2f}", 60),
    )
