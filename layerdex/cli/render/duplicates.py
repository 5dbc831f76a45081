"""Duplicates: counts, and the largest clusters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from layerdex.cli.render.cells import Detail, stack
from layerdex.cli.render.documents import describe_document, describe_related
from layerdex.cli.render.tables import make_table, print_table
from layerdex.cli.render.text import counted

if TYPE_CHECKING:
    from rich.console import Group

    from layerdex.records import Document
    from layerdex.search.results import Deduplication, Removal

_N_SHOWN = 10


def shown_documents(result: Deduplication) -> list[str]:
    """Return the ids of the documents that are shown: of each cluster two."""
    clusters = _largest_clusters(result)
    return [shown for kept, removals in clusters for shown in (kept, _least_similar(removals).id)]


def print_duplicates(
    result: Deduplication,
    documents: Mapping[str, Document],
    detail: Detail = Detail(),  # noqa: B008 - frozen
) -> None:
    """Print the counts, then the largest clusters: the kept document, the least similar removed.

    ``documents`` has those of `shown_documents` by id.
    """
    click.echo(
        f"{counted(result.n, 'document')} = {len(result.kept):,} kept "
        f"+ {counted(result.n_exact, 'exact duplicate')} "
        f"+ {counted(result.n_near, 'near duplicate')}\n"
        f"({result.target.title}, similarity >= {result.threshold:g}, "
        f"keep {result.keep})"
    )
    if result.n_conflicts:
        conflicts = counted(result.n_conflicts, "removed document")
        click.echo(f"{conflicts} with another label than the kept one")
    if result.n_unreadable:
        unreadable = counted(result.n_unreadable, "document")
        them = "it" if result.n_unreadable == 1 else "them"
        click.echo(f"{unreadable} compared by text only: the tokenizer knows no token of {them}")
    shown, n_clusters = _largest_clusters(result), len(result.clusters)
    if not shown:
        return
    title = counted(n_clusters, "cluster")
    if len(shown) < n_clusters:
        title = f"The largest {len(shown)} of {title}"
    table = make_table(">removed", "kept, and the least similar one removed", title=title)
    for kept, removals in shown:
        table.add_row(f"{len(removals):,}", _cluster(kept, removals, documents, detail))
    print_table(table)


def _largest_clusters(result: Deduplication) -> list[tuple[str, tuple[Removal, ...]]]:
    return sorted(result.clusters.items(), key=lambda cluster: -len(cluster[1]))[:_N_SHOWN]


def _least_similar(removals: tuple[Removal, ...]) -> Removal:
    return min(removals, key=lambda removal: removal.similarity)


def _cluster(
    kept_id: str, removals: tuple[Removal, ...], documents: Mapping[str, Document], detail: Detail
) -> Group:
    kept, least = documents[kept_id], _least_similar(removals)
    removed = documents[least.id]
    n_conflicts = sum(removal.is_conflict for removal in removals)
    return stack(
        *describe_document(kept.id, kept.label, kept.text, kept.metadata, detail),
        *describe_related(least.similarity, removed.label, removed, detail),
        *([f"{n_conflicts:,} with another label"] if n_conflicts else []),
    )
