"""Thresholds to choose from as users see them: tables, and JSON."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layerdex.cli.options import transform_json, transform_title
from layerdex.cli.output import (
    counted,
    make_cell,
    make_table,
    note,
    one_line,
    print_json,
    print_table,
    progress,
)

if TYPE_CHECKING:
    from layerdex.index import Index
    from layerdex.search.dedup.threshold_sweep import SweepStep, ThresholdSweep

_N_BAR = 40


def suggest_thresholds(
    target: Index, options: dict[str, Any], *, plot: Path | None, as_json: bool
) -> None:
    """Sweep thresholds, print what they remove, and draw it."""
    with progress("Comparing") as on_progress:
        found = target.suggest_thresholds(on_progress=on_progress, **options)
    if as_json:
        print_json({**_sweep_json(found), **transform_json(options["transform"])})
    else:
        _print_sweep(found, options["transform"])
    if plot is not None:
        from layerdex.cli.geometry_plot import plot_thresholds

        plot_thresholds(found, plot)
        note(f"Picture written to {plot}")


def _print_sweep(found: ThresholdSweep, transform: str) -> None:
    """Print what chance gives, how near the nearest are, and what each threshold removes."""
    percentiles = "  ".join(f"{name} {value:.3f}" for name, value in found.percentiles.items())
    click.echo(
        f"{counted(found.n, 'document')} = {counted(found.n_texts, 'text')} "
        f"+ {counted(found.n_exact, 'exact repeat')} "
        f"(layer {found.layer}{transform_title(transform)}, keep {found.keep})\n"
        f"Random pairs: {percentiles}"
    )
    _print_histogram(found)
    if found.valley is None:
        click.echo("No valley parts repeats from others here: judge by the pairs\n")
    else:
        click.echo(f"A valley ends at {found.valley:g}: begin to look there\n")
    title = "Near duplicates at each threshold, and a pair that barely reaches it"
    table = make_table(">threshold", ">removed", ">random pairs", "pair", title=title)
    for step in found.steps:
        chance = _one_in(step.random_share)
        table.add_row(f"{step.threshold:g}", f"{step.n_near:,}", chance, _pair(step))
    print_table(table)


def _print_histogram(found: ThresholdSweep) -> None:
    bounds, counts = found.histogram()
    table = make_table(">similarity to the nearest", ">texts", "")
    for low, high, n in zip(bounds[:-1], bounds[1:], counts.tolist(), strict=True):
        bar = "█" * round(_N_BAR * n / counts.max())
        table.add_row(f"{low:g} - {high:g}", f"{n:,}", bar)
    print_table(table)


def _one_in(share: float) -> str:
    return f"1 in {1 / share:,.0f}" if share > 0 else "none"


def _pair(step: SweepStep) -> Any:
    if not step.borderline:
        return ""
    pair = step.borderline[0]
    texts = (one_line(text) for text in pair.texts)
    return make_cell(f"{pair.similarity:.5f}", *texts)


def _sweep_json(found: ThresholdSweep) -> dict[str, Any]:
    """Return a sweep as the JSON document that users get."""
    bounds, counts = found.histogram()
    sizes = ("layer", "n", "n_texts", "n_exact", "n_paired")
    return {
        **{name: getattr(found, name) for name in sizes},
        "keep": found.keep.value,
        "percentiles": dict(found.percentiles),
        "nearest": {"bounds": bounds.tolist(), "counts": counts.tolist()},
        "valley": found.valley,
        "steps": [asdict(step) for step in found.steps],
    }
