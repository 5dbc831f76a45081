"""Progress bars on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from layerdex.cli.render.text import counted
from layerdex.cli.streams import open_progress

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

    from layerdex.records import OnProgress

OnBytes = Callable[[int, int], None]


def is_terminal() -> bool:
    """Say whether stderr is a terminal."""
    return sys.stderr.isatty()


@contextmanager
def show_progress(description: str, *, is_shown: bool) -> Iterator[OnProgress | None]:
    """Show a progress bar, or give no callback."""
    if not is_shown:
        yield None
        return
    from rich.progress import MofNCompleteColumn

    with _bar(MofNCompleteColumn()) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def show_reading_progress(
    description: str, *, is_shown: bool
) -> Iterator[tuple[OnProgress, OnBytes] | tuple[None, None]]:
    """Show the number of rows done, and a bar of the bytes that they were read from.

    The bar moves with the rows: bytes alone would run ahead by a window that is being encoded.
    """
    if not is_shown:
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
        BarColumn(bar_width=30),  # leaves room for the other columns on a terminal of 80
        *figures,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # Rich would print on stderr what a command prints meanwhile on a stdout that is a file.
    return Progress(
        *columns,
        console=Console(file=open_progress()),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
    )
