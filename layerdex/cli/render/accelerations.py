"""Approximate indexes that were built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from layerdex.cli.render.tables import make_table, print_table
from layerdex.cli.render.text import counted

if TYPE_CHECKING:
    from layerdex.index.accelerating import Acceleration


def print_accelerations(made: Sequence[Acceleration]) -> None:
    """Print what was chosen and measured, per layer and filter."""
    first = made[0]
    title = (
        f"{counted(first.n, 'document')}; recall@10 on {first.n_queries:,} queries, "
        f"target {first.target:g}"
    )
    counts = (">lists", ">of a topic", ">candidates")
    table = make_table(">layer", ">filter keeps", *counts, ">recall", ">at least", title=title)
    for layer in made:
        for measured in layer.measured:
            table.add_row(
                str(layer.layer),
                f"{100 * measured.share:g} %",
                f"{measured.n_probes:,}",
                f"{measured.n_probes_together:,}",
                f"{measured.n_candidates:,}",
                f"{measured.recall:.4f}",
                f"{measured.bound:.4f}",
            )
    print_table(table)
