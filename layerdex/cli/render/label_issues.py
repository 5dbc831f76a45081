"""Documents whose label disagrees with their neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from layerdex.cli.render.cells import Detail, Passage, make_name, stack
from layerdex.cli.render.documents import N_NEIGHBORS, describe_fields, describe_neighbors
from layerdex.cli.render.tables import make_table, print_table
from layerdex.cli.render.text import counted

if TYPE_CHECKING:
    from rich.console import RenderableType

    from layerdex.records import Document
    from layerdex.search.labels.label_issues import LabelIssue, LabelIssues
    from layerdex.search.results import LabelledNeighbor


def print_label_issues(
    issues: LabelIssues, documents: Mapping[str, Document], detail: Detail
) -> None:
    """Print each suspect with its label, the suggested one, and what its neighbours say.

    ``documents`` has those of `shown_documents` by id.
    """
    labelled = counted(issues.n, "labelled document")
    if not issues.issues:
        click.echo(f"No suspects: the labels of {labelled} agree with their neighbours")
        return
    n_layers = counted(len(issues.targets), "layer")
    click.echo(
        f"{counted(issues.n_issues, 'suspect')} among {labelled} (k = {issues.k}, {n_layers}; "
        f"neighbours of {issues.neighbors_target.title})"
    )
    is_whole = issues.n_issues == len(issues.issues)
    title = None if is_whole else f"The first {len(issues.issues)}"
    table = make_table(">score", ">layers", "document and neighbours", title=title)
    for issue in issues.issues:
        against = f"{issue.n_against}/{len(issues.targets)}"
        cell = stack(*_describe_issue(issue, documents, detail))
        table.add_row(f"{issue.score:.2f}", against, cell)
    print_table(table)


def shown_documents(issues: LabelIssues) -> list[str]:
    """Return the ids of the documents that are shown."""
    neighbors = [neighbor.id for issue in issues.issues for neighbor in _shown_neighbors(issue)]
    return list(dict.fromkeys([issue.id for issue in issues.issues] + neighbors))


def _shown_neighbors(issue: LabelIssue) -> Sequence[LabelledNeighbor]:
    return issue.neighbors[:N_NEIGHBORS]


def _describe_issue(
    issue: LabelIssue, documents: Mapping[str, Document], detail: Detail
) -> Iterator[RenderableType]:
    yield make_name(issue.id)
    yield Passage(
        f"{issue.label} {issue.label_confidence:.2f} "
        f"-> {issue.suggested} {issue.suggested_confidence:.2f}"
    )
    yield Passage(issue.text, detail.n_lines)
    yield from describe_fields(documents[issue.id].metadata, detail)
    yield from describe_neighbors(_shown_neighbors(issue), documents, detail)
