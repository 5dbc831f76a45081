"""Tables as wide as the terminal, 80 columns elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.table import Table

_MIN_WIDTH = 40  # below this, Rich leaves out whole columns


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


def make_cell(name: str, *details: str) -> Group:
    """Return a cell of a name, shown whole, and details below it, one per line, cut to fit."""
    from rich.console import Group
    from rich.text import Text

    lines = [Text(detail, style="dim", no_wrap=True, overflow="ellipsis") for detail in details]
    return Group(Text(name, overflow="fold"), *lines)


def print_table(table: Table) -> None:
    """Print a table with its title above it."""
    from rich.text import Text

    console = _console()
    title, table.title = table.title, None  # Rich would break it at the table's width
    with console.capture() as captured:  # Rich would exit with 1 where a pipe has closed
        if title is not None:
            console.print(Text(str(title), style="bold"))
        console.print(table)
    lines = (line.rstrip(" ") for line in captured.get().splitlines())
    click.echo("\n".join(lines), color=True)


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
