"""Thresholds to choose from, and what each would remove."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from layerdex.cli.render.cells import N_LINES, Passage, stack
from layerdex.cli.render.tables import make_table, print_table
from layerdex.cli.render.text import counted

if TYPE_CHECKING:
    from rich.console import Group

    from layerdex.search.dedup.threshold_sweep import SweepStep, ThresholdSweep

_BAR_WIDTH = 40


def print_sweep(sweep: ThresholdSweep) -> None:
    """Print random pairs' percentiles, nearest similarities, and what each threshold removes."""
    percentiles = "  ".join(f"{name} {value:.3f}" for name, value in sweep.percentiles.items())
    click.echo(
        f"{counted(sweep.n, 'document')} = {counted(sweep.n_texts, 'text')} "
        f"+ {counted(sweep.n_exact, 'exact duplicate')} "
        f"({sweep.target.title}, keep {sweep.keep})\n"
        f"Random pairs: {percentiles}"
    )
    _print_histogram(sweep)
    if sweep.valley is None:
        click.echo("No valley separates near duplicates from the rest: judge by the pairs\n")
    else:
        click.echo(f"A valley ends at {sweep.valley:g}: start there\n")
    title = "Near duplicates at each threshold, and a pair that barely reaches it"
    table = make_table(">threshold", ">removed", ">random pairs", "pair", title=title)
    for step in sweep.steps:
        share = _one_in(step.random_share)
        table.add_row(f"{step.threshold:g}", f"{step.n_near:,}", share, _pair(step))
    print_table(table)


def _print_histogram(sweep: ThresholdSweep) -> None:
    bounds, counts = sweep.histogram()
    table = make_table(">similarity to the nearest", ">texts", "")
    for low, high, n in zip(bounds[:-1], bounds[1:], counts.tolist(), strict=True):
        bar = "█" * round(_BAR_WIDTH * n / counts.max())
        table.add_row(f"{low:g} - {high:g}", f"{n:,}", bar)
    print_table(table)


def _one_in(share: float) -> str:
    return f"1 in {1 / share:,.0f}" if share > 0 else "none"


def _pair(step: SweepStep) -> Group | str:
    if not step.borderline:  # none below the next threshold
        return "none"
    pair = step.borderline[0]
    return stack(f"{pair.similarity:.5f}", *(Passage(text, N_LINES) for text in pair.texts))
