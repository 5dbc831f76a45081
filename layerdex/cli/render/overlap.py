"""Documents that another index has too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from layerdex.cli.render.cells import make_name
from layerdex.cli.render.tables import make_table, print_table
from layerdex.cli.render.text import counted

if TYPE_CHECKING:
    from layerdex.search.dedup.overlap import Overlap

_N_SHOWN = 10


def print_overlaps(overlaps: Sequence[Overlap]) -> None:
    """Print counts per layer; for a single one also the least similar pairs."""
    first = overlaps[0]
    title = (
        f"of {counted(first.n, 'document')}, found among {first.n_other:,} others "
        f"(similarity >= {first.threshold:g}){first.target.transform_note}"
    )
    table = make_table(">layer", ">exact", ">near", ">share", ">other label", title=title)
    for overlap in overlaps:
        n_shared = len(overlap.shared)
        share = f"{n_shared / overlap.n:.1%}" if overlap.n else ""
        counts = (f"{overlap.n_exact:,}", f"{overlap.n_near:,}")
        table.add_row(str(overlap.layer), *counts, share, f"{overlap.n_conflicts:,}")
    print_table(table)
    if len(overlaps) == 1:
        _print_pairs(first)


def _print_pairs(overlap: Overlap) -> None:
    """Print the least similar near duplicates, which a threshold is judged by."""
    near = [document for document in overlap.shared if not document.is_exact]
    if not near:
        return
    table = make_table(">similarity", "here", "there", title="The least similar of these")
    for document in sorted(near, key=lambda document: document.similarity)[:_N_SHOWN]:
        here = make_name(document.id, document.label)
        there = make_name(document.other, document.other_label)
        table.add_row(f"{document.similarity:.3f}", here, there)
    print_table(table)
