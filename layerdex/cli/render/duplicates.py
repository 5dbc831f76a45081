"""Duplicates: counts, and the largest clusters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from layerdex.cli.render.tables import make_cell, make_table, print_table
from layerdex.cli.render.text import counted, describe_target, one_line

if TYPE_CHECKING:
    from layerdex.search.results import Deduplication, Removal

_N_SHOWN = 10


def largest_clusters(result: Deduplication) -> list[tuple[str, tuple[Removal, ...]]]:
    """Return the ids kept and the removals of the clusters that are shown."""
    return sorted(result.clusters.items(), key=lambda cluster: -len(cluster[1]))[:_N_SHOWN]


def print_duplicates(result: Deduplication, texts: Mapping[str, str]) -> None:
    """Print the counts and the largest clusters; ``texts`` are those of the kept, by id."""
    click.echo(
        f"{counted(result.n, 'document')} = {len(result.kept):,} kept "
        f"+ {counted(result.n_exact, 'exact duplicate')} "
        f"+ {counted(result.n_near, 'near duplicate')}\n"
        f"({describe_target(result.target)}, similarity >= {result.threshold:g}, "
        f"keep {result.keep})"
    )
    if result.n_conflicts:
        documents = counted(result.n_conflicts, "removed document")
        click.echo(f"{documents} with another label than the kept one")
    if result.n_unreadable:
        documents = counted(result.n_unreadable, "document")
        them = "it" if result.n_unreadable == 1 else "them"
        click.echo(f"{documents} compared by text only: the tokenizer knows no token of {them}")
    shown, n_clusters = largest_clusters(result), len(result.clusters)
    if not shown:
        return
    title = counted(n_clusters, "cluster")
    if len(shown) < n_clusters:
        title = f"The largest {len(shown)} of {title}"
    table = make_table("kept", "removed", title=title)
    for kept, removals in shown:
        table.add_row(
            make_cell(one_line(kept), one_line(texts[kept])),
            make_cell(f"{removals[0].similarity:.3f} {one_line(removals[0].id)}", *_rest(removals)),
        )
    print_table(table)


def _rest(removals: tuple[Removal, ...]) -> list[str]:
    lines = [f"and {len(removals) - 1} more"] if len(removals) > 1 else []
    if n_conflicts := sum(removal.is_conflict for removal in removals):
        lines.append(f"{n_conflicts} with another label")
    return lines
