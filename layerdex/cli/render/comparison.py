"""Two indexes of the same documents, compared layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from layerdex.cli.render.evaluation import note_left_out
from layerdex.cli.render.metrics import describe_signed, judge
from layerdex.cli.render.tables import make_table, print_table
from layerdex.cli.render.text import counted
from layerdex.wording import METRIC_NAMES

if TYPE_CHECKING:
    from layerdex.records import LayerName
    from layerdex.search.evaluation.comparison import Comparison, Difference
    from layerdex.search.evaluation.evaluation import Evaluation


def print_comparison(comparison: Comparison, *, note: Callable[[str], None]) -> None:
    """Print the deciding metric of both indexes by layer, the differences, and the best layers."""
    first, second = comparison.first, comparison.second
    metric = first.metrics[0]
    interval_columns = (">95 %", "") if comparison.best.intervals else ()
    title = f"{METRIC_NAMES[metric]}, {first.counted}, second minus first"
    headers = (">layer", ">first", ">second", ">difference")
    table = make_table(*headers, *interval_columns, title=title)
    for difference in comparison.differences:
        table.add_row(
            str(difference.first.name),
            _figure(first, difference.first.name, metric),
            _figure(second, difference.second.name, metric),
            *_describe_difference(difference, metric),
        )
    print_table(table)
    best = comparison.best
    value, *judged = _describe_difference(best, metric)
    click.echo(
        f"Best layers: {best.first.name} of the first ({_figure(first, best.first.name, metric)}), "
        f"{best.second.name} of the second ({_figure(second, best.second.name, metric)})\n"
        f"  difference {value}" + (f", 95 % {judged[0]}: {judged[1]}" if judged else "")
    )
    _note_documents(comparison, note)
    note_left_out(first, note)


def _figure(evaluation: Evaluation, layer: LayerName, metric: str) -> str:
    return f"{evaluation.at(layer).values[metric]:.4f}"


def _describe_difference(difference: Difference, metric: str) -> list[str]:
    """Return the difference, and its interval with a verdict where there is one."""
    cells = [f"{difference.values[metric]:+.4f}"]
    if metric in difference.intervals:
        interval = difference.intervals[metric]
        cells += [describe_signed(interval), judge(interval)]
    return cells


def _note_documents(comparison: Comparison, note: Callable[[str], None]) -> None:
    left_out = zip(comparison.n_only, ("first", "second"), strict=True)
    parts = [f"{n:,} only in the {index}" for n, index in left_out if n]
    if comparison.n_changed:
        parts.append(f"{comparison.n_changed:,} with another text or label")
    if parts:
        shared = counted(comparison.n_documents, "document")
        note(f"{shared} compared; left out: {', '.join(parts)}")
