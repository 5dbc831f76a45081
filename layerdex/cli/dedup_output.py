"""Duplicates as users see them: counts and the largest clusters, and JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from layerdex.cli.options import transform_title
from layerdex.cli.output import counted, make_cell, make_table, one_line, print_table

if TYPE_CHECKING:
    from layerdex.index.reading import DocumentReader
    from layerdex.search.results import Deduplication, Removal

_N_SHOWN = 10


def read_shown(found: Deduplication, read: DocumentReader) -> dict[str, str]:
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


def duplicates_json(found: Deduplication) -> dict[str, Any]:
    """Return counts and clusters as ``--json`` prints them."""
    return {
        "layer": found.layer,
        "threshold": found.threshold,
        "n": found.n,
        "n_kept": len(found.kept),
        "n_exact": found.n_exact,
        "n_near": len(found.removed) - found.n_exact,
        "n_conflicts": found.n_conflicts,
        "clusters": list(rows_of_clusters(found)),
    }


def rows_of_clusters(found: Deduplication) -> Iterator[dict[str, Any]]:
    """Yield who repeats whom, a kept document each."""
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
