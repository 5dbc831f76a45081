"""Tables as wide as the terminal, 80 columns elsewhere; no column is ever left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Column, Table

_MIN_WIDTH = 40
_LEAST_WIDTH = 16  # of a column of texts; in less, words are broken too often
_PADDING = 3  # beside each column


def make_table(*columns: str, title: str | None = None) -> Table:
    """Return a plain table; columns named with a leading ``>`` are aligned right."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title)
    for column in columns:
        is_right = column.startswith(">")
        table.add_column(
            column.removeprefix(">"),
            justify="right" if is_right else "left",
            no_wrap=is_right,
            overflow="ellipsis",
        )
    return table


def make_list(rows: dict[str, str], *, title: str | None = None) -> Table:
    """Return a table of names and values without a header."""
    table = make_table("", "", title=title)
    table.show_header = False
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def print_table(table: Table) -> None:
    """Print a table with its title above it, in parts where its columns do not fit."""
    from rich.text import Text

    console = _console()
    title, table.title = table.title, None  # Rich would break it at the table's width
    with console.capture() as captured:  # Rich would exit with 1 where a pipe has closed
        if title is not None:
            console.print(Text(str(title), style="bold"))
        for part in _split(table, console):
            console.print(part)
    lines = (line.rstrip(" ") for line in captured.get().splitlines())
    click.echo("\n".join(lines), color=True)


def _split(table: Table, console: Console) -> Iterator[Table]:
    """Yield the table, or tables of as many columns as fit, each beginning with the first one.

    Columns without a word are left out, and one of remarks, without a name, stays with the first.
    """
    first, *others = (
        i for i, column in enumerate(table.columns) if not _is_empty(column) or i == 0
    )
    widths = {i: _least_width(table.columns[i], console) + _PADDING for i in (first, *others)}
    remarks = [others.pop()] if others and not table.columns[others[-1]].header else []
    parts, width = [[first]], sum(widths[i] for i in (first, *remarks))
    for i in others:
        if width + widths[i] >= console.width and len(parts[-1]) > 1:
            parts.append([first])
            width = widths[first]
        parts[-1].append(i)
        width += widths[i]
    parts[0] += remarks
    for part in parts:
        yield table if len(part) == len(table.columns) else _select(table, part)


def _is_empty(column: Column) -> bool:
    return not column.header and not any(column.cells)


def _select(table: Table, numbers: Sequence[int]) -> Table:
    columns = [table.columns[number] for number in numbers]
    signs = (">" if column.justify == "right" else "" for column in columns)
    names = (f"{sign}{column.header}" for sign, column in zip(signs, columns, strict=True))
    selected = make_table(*names)
    selected.show_header = table.show_header
    cells = zip(*(column.cells for column in columns), strict=True)
    for row, shown in zip(table.rows, cells, strict=True):
        selected.add_row(*shown, style=row.style, end_section=row.end_section)
    return selected


def _least_width(column: Column, console: Console) -> int:
    """Return the columns that a figure takes, or that a text needs to be readable."""
    from rich.measure import Measurement

    parts = (column.header, *column.cells)
    width = max(Measurement.get(console, console.options, part).maximum for part in parts)
    return width if column.no_wrap else min(width, _LEAST_WIDTH)


def terminal_width() -> int:
    """Return how many columns a table may take."""
    return _console().width


def n_side_by_side(width: int) -> int:
    """Return how many columns of a width fit side by side, at least 1."""
    return max(1, terminal_width() // width)


def _console() -> Console:
    from rich.console import Console

    console = Console(highlight=False, emoji=False, markup=False)
    console.width = max(console.width, _MIN_WIDTH)
    return console
