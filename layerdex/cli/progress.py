"""Progress bars on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from math import ceil
from threading import Timer
from typing import TYPE_CHECKING

from layerdex.cli.render.text import counted
from layerdex.cli.streams import open_progress

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, Task
    from rich.text import Text

    from layerdex.records import OnProgress

OnBytes = Callable[[int, int], None]

_SHOWN_AFTER_S = 1.0
"""Nothing is shown of work that is done by then."""

_SAID_AFTER_S = 2.0
"""What is done earlier says too little about the rest."""


class Pace:
    """How long work will take, if the rest of it goes as fast as all of it went so far.

    The average over all that was done is steady, also where progress comes in large steps: between
    two of them the time left counts down.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun = self._updated = clock()
        self._done = 0
        self._left_s: float | None = None

    def update(self, done: int, total: int | None) -> None:
        """Take how much is done; less than before is the start of more work.

        Work begins when nothing of it is done for the last time: imports and preparations come
        before, and do not grow with it.
        """
        now = self._clock()
        if done < self._done or done == 0:
            self._begun, self._left_s = now, None
        self._done = done
        elapsed = now - self._begun
        if total is not None and 0 < done <= total and elapsed >= _SAID_AFTER_S:
            self._left_s, self._updated = elapsed * (total - done) / done, now

    @property
    def left_s(self) -> float | None:
        """How many seconds are left; None where nothing can be said yet."""
        if self._left_s is None:
            return None
        return max(self._left_s - (self._clock() - self._updated), 0.0)

    @property
    def elapsed_s(self) -> float:
        """How many seconds it has taken so far."""
        return self._clock() - self._begun


def is_terminal() -> bool:
    """Say whether stderr is a terminal."""
    return sys.stderr.isatty()


@contextmanager
def show_progress(description: str, *, is_shown: bool) -> Iterator[OnProgress | None]:
    """Show a progress bar of work that takes more than a second, or give no callback."""
    if not is_shown:
        yield None
        return
    from rich.progress import TaskProgressColumn

    pace = Pace()
    with _bar(pace, TaskProgressColumn(text_format_no_percentage="")) as bar:
        task = bar.add_task(description, total=None)

        def on_progress(done: int, total: int | None) -> None:
            pace.update(done, total)
            bar.update(task, completed=done, total=total)

        yield on_progress


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

    pace = Pace()
    with _bar(pace, TaskProgressColumn(), TextColumn("{task.fields[rows]}")) as bar:
        task = bar.add_task(description, total=None, rows="")
        read: tuple[int, int | None] = (0, None)

        def on_bytes(done: int, total: int) -> None:
            nonlocal read
            read = (done, total)

        def on_rows(done: int, _total: int | None) -> None:
            pace.update(*read)
            bar.update(task, completed=read[0], total=read[1], rows=counted(done, "row"))

        yield on_rows, on_bytes


@contextmanager
def _bar(pace: Pace, *figures: ProgressColumn) -> Iterator[Progress]:
    """Show a bar after a while."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn
    from rich.text import Text

    class TimeLeft(ProgressColumn):
        """The time left by `Pace`."""

        def render(self, task: Task) -> Text:  # of the only task
            left_s = pace.left_s
            shown = "-:--:--" if left_s is None else str(timedelta(seconds=ceil(left_s)))
            return Text(shown, style="progress.remaining")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),  # leaves room for the other columns on a terminal of 80
        *figures,
        TimeElapsedColumn(),
        TimeLeft(),
    )
    # Rich would print on stderr what a command prints meanwhile on a stdout that is a file.
    bar = Progress(
        *columns,
        console=Console(file=open_progress()),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
    )
    timer = Timer(_SHOWN_AFTER_S, bar.start)
    timer.daemon = True
    timer.start()
    try:
        yield bar
    finally:
        timer.cancel()
        timer.join()
        if bar.live.is_started:
            bar.stop()
