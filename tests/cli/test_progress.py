"""Progress bars: shown of long work only, with a time left that is steady."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import Any

import pytest

from layerdex.cli import progress
from layerdex.cli.commands.evaluate import SampleHint
from layerdex.cli.progress import Pace, show_progress
from layerdex.records import progress_of_shares


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_time_left_is_that_of_the_average_pace() -> None:
    clock = Clock()
    pace = Pace(clock)
    for second in range(1, 60):
        clock.now = 100.0 + second
        pace.update(10 * second, 1_000)
        expected = None if second < 2 else pytest.approx(100 - second)
        assert pace.left_s == expected
    assert pace.elapsed_s == 59


def test_between_large_steps_the_time_left_counts_down() -> None:
    clock = Clock()
    pace = Pace(clock)
    clock.now += 30
    pace.update(1, 4)
    shown = []
    for _ in range(10):
        shown.append(pace.left_s)
        clock.now += 10
    assert shown == [90, 80, 70, 60, 50, 40, 30, 20, 10, 0]
    assert pace.left_s == 0


def test_one_slow_step_does_not_upset_the_time_left() -> None:
    clock = Clock()
    pace = Pace(clock)
    for done in range(1, 51):
        clock.now += 3 if done == 50 else 1
        pace.update(done, 100)
    assert pace.left_s == pytest.approx(52)


def test_less_than_before_is_the_start_of_more_work() -> None:
    clock = Clock()
    pace = Pace(clock)
    shown = []
    for seconds, done in ((10, 100), (0, 0), (5, 50)):
        clock.now += seconds
        pace.update(done, 100)
        shown.append(pace.left_s)
    assert shown == [0, None, 5]


def test_work_begins_when_nothing_of_it_is_done() -> None:
    clock = Clock()
    pace = Pace(clock)
    for _ in range(3):  # tables, imports
        clock.now += 40
        pace.update(0, 100)
    clock.now += 10
    pace.update(50, 100)
    assert (pace.left_s, pace.elapsed_s) == (10, 10)


def test_nothing_is_said_without_a_total() -> None:
    clock = Clock()
    pace = Pace(clock)
    clock.now += 10
    pace.update(7, None)
    assert pace.left_s is None


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a bar is drawn on."""
    shown = io.StringIO()
    monkeypatch.setattr(shown, "isatty", lambda: True)
    monkeypatch.setattr(progress, "open_progress", lambda: shown)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    return shown


def test_short_work_shows_nothing(terminal: io.StringIO) -> None:
    with show_progress("Comparing", is_shown=True) as on_progress:
        assert on_progress is not None
        on_progress(1, 2)
        on_progress(2, 2)
    assert terminal.getvalue() == ""


def test_long_work_shows_its_share_and_the_time_left(
    terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_SHOWN_AFTER_S", 0.01)
    monkeypatch.setattr(progress, "_SAID_AFTER_S", 0.0)
    with show_progress("Comparing", is_shown=True) as on_progress:
        assert on_progress is not None
        end = time.monotonic() + 20
        while "Comparing" not in terminal.getvalue() and time.monotonic() < end:
            time.sleep(0.01)
        on_progress(1, 4)
    shown = terminal.getvalue()
    assert "25%" in shown
    assert "0:00:0" in shown
    assert "-:--:--" not in shown.splitlines()[-1]


def test_an_error_ends_the_bar(terminal: io.StringIO) -> None:
    with (
        pytest.raises(RuntimeError, match="within"),
        show_progress("Comparing", is_shown=True),
    ):
        raise RuntimeError("within")
    assert terminal.getvalue() == ""


def evaluated(seconds: float, *, first: float = 0) -> list[str]:
    """Return the notes of an evaluation that takes as long, and its first per cent longer."""
    clock = Clock()
    notes: list[str] = []
    passed_on: list[int] = []
    hint = SampleHint(notes.append, lambda done, _: passed_on.append(done), Pace(clock))
    for done in range(1, 101):
        clock.now += seconds / 100 + first * (done == 1)
        hint(done, 100)
    assert passed_on == list(range(1, 101))
    return notes


def test_a_sample_is_proposed_once_where_all_documents_take_minutes() -> None:
    assert evaluated(4) == evaluated(170) == []
    assert evaluated(60, first=5) == []  # nine minutes, by the first per cent alone
    [note] = evaluated(1_500)
    assert "about 25 minutes" in note
    assert "--sample 10000" in note


def test_parts_count_up_to_their_total_by_their_shares() -> None:
    told: list[tuple[int, int | None]] = []
    parts = progress_of_shares(lambda *each: told.append(each), [1, 0, 3], 80)
    for tell, steps in zip(parts, [(1, 2, 2), (0, 1, 1), (5, 10, 10)], strict=True):
        assert tell is not None
        *done, of = steps
        for each in done:
            tell(each, of)
    assert told == [(10, 80), (20, 80), (20, 80), (20, 80), (50, 80), (80, 80)]
    assert progress_of_shares(None, [1, 2], 5) == [None, None]


def test_many_parts_take_no_time_to_tell_apart() -> None:
    n_read = 0

    class Shares(list[float]):
        def __getitem__(self, at: Any) -> Any:
            nonlocal n_read
            n_read += len(super().__getitem__(at)) if isinstance(at, slice) else 1
            return super().__getitem__(at)

        def __iter__(self) -> Iterator[float]:
            nonlocal n_read
            n_read += len(self)
            return super().__iter__()

    told: list[tuple[int, int | None]] = []
    parts = progress_of_shares(lambda *each: told.append(each), Shares([0.1] * 1_000), 1_000)
    assert n_read <= 5_000
    for tell in parts:
        assert tell is not None
        tell(1, 1)
    assert told == [(n, 1_000) for n in range(1, 1_001)]
