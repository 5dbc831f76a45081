"""What commands print: data to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layerdex.cli.options import QUIET
from layerdex.errors import DamagedIndexError, OptionError

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.progress import Progress, ProgressColumn
    from rich.table import Table

    from layerdex.index import Index
    from layerdex.records import OnProgress

_LEAST_WIDTH = 40  # in less, Rich leaves whole columns out

OnBytes = Callable[[int, int], None]


def note(message: str) -> None:
    """Tell the user something beside the data, unless they asked for quiet."""
    if not click.get_current_context().meta.get(QUIET):
        click.echo(escape(message), err=True)


def note_damage(index: Index) -> None:
    """Say so where an index opened in spite of damage has some."""
    try:
        index.store.check_whole()
    except DamagedIndexError as error:
        note(f"Damaged: {error}")


def counted(n: int, noun: str) -> str:
    """Write ``1 segment`` or ``2,000 segments``."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def print_json(value: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def print_jsonl(values: Iterable[Any]) -> None:
    """Print a JSON line for each value."""
    for value in values:
        click.echo(json.dumps(value, ensure_ascii=False))


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


def make_cell(name: str, *details: str) -> Group:
    """Return a cell of a name, shown whole, and details below it, a line each, cut to fit."""
    from rich.console import Group
    from rich.text import Text

    lines = [Text(detail, style="dim", no_wrap=True, overflow="ellipsis") for detail in details]
    return Group(Text(name, overflow="fold"), *lines)


def print_table(table: Table) -> None:
    """Print a table, as wide as the terminal and 80 columns elsewhere."""
    from rich.text import Text

    console = _console()
    title, table.title = table.title, None  # Rich would break it at the table's width
    with console.capture() as captured:  # Rich would exit with 1 where a pipe has closed
        if title is not None:
            console.print(Text(str(title), style="bold"))
        console.print(table)
    lines = (line.rstrip(" ") for line in captured.get().splitlines())
    click.echo("\n".join(lines), color=True)


def _console() -> Console:
    from rich.console import Console

    console = Console(highlight=False, emoji=False, markup=False)
    console.width = max(console.width, _LEAST_WIDTH)
    return console


def n_beside(width: int) -> int:
    """Return how many columns of a width are readable side by side, at least 1."""
    return max(1, _console().width // width)


def one_line(text: str, limit: int = 300) -> str:
    """Return the start of a text on one line, safe to print on a terminal."""
    shown = escape(" ".join(text[: limit * 2].split()))
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def escape(text: str, keep: str = "") -> str:
    """Return text without what a terminal would obey or break the line at."""
    return "".join(c if c.isprintable() or c in keep else "�" for c in text)


@contextmanager
def progress(description: str) -> Iterator[OnProgress | None]:
    """Show a progress bar on a terminal; elsewhere, and when quiet, give no callback."""
    if not _is_watched():
        yield None
        return
    from rich.progress import MofNCompleteColumn

    with _bar(MofNCompleteColumn()) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def reading_progress(description: str) -> Iterator[tuple[OnProgress, OnBytes] | tuple[None, None]]:
    """Show the rows done, and a bar of the bytes they were read from; see `progress`.

    The bar moves with the rows: bytes alone would run ahead by a window that is being encoded.
    """
    if not _is_watched():
        yield None, None
        return
    from rich.progress import TaskProgressColumn, TextColumn

    with _bar(TaskProgressColumn(), TextColumn("{task.fields[rows]}")) as bar:
        task = bar.add_task(description, total=None, rows="")
        read: tuple[int, int | None] = (0, None)

        def on_bytes(done: int, total: int) -> None:
            nonlocal read
            read = (done, total)

        def on_rows(done: int, _total: int | None) -> None:
            bar.update(task, completed=read[0], total=read[1], rows=counted(done, "row"))

        yield on_rows, on_bytes


def _is_watched() -> bool:
    return sys.stderr.isatty() and not click.get_current_context().meta.get(QUIET)


def _bar(*figures: ProgressColumn) -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),  # room for what is beside it on 80 columns
        *figures,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


def check_outputs(index: Path, *paths: Path | None) -> None:
    """Refuse, before any work, to write over the index, or two results into one file."""
    written = [path.resolve() for path in paths if path is not None]
    for path in written:
        if index.resolve() in path.parents:
            raise OptionError(f"{path} is inside the index: write elsewhere")
    if len(set(written)) < len(written):
        raise OptionError(f"two results cannot be written to one file, {written[0]}")


def write_jsonl(path: Path, values: Iterable[Any]) -> int:
    """Write a JSON line for each value, and return how many; see `atomic_write`."""
    from layerdex.storage.files import atomic_write

    n_values = 0
    with atomic_write(path) as written, written.open("w", encoding="utf-8") as file:
        for value in values:
            file.write(json.dumps(value, ensure_ascii=False) + "\n")
            n_values += 1
    return n_values
