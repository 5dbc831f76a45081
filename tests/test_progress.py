"""`progress_bar`: a callback that shows what the library does, only where it is asked for."""

from __future__ import annotations

import pytest

from layerdex import Index, progress_bar
from tests.index.expectations import corpus


def test_a_bar_shows_the_work_and_ends_with_it(
    index: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    index.add(corpus(20), on_progress=progress_bar("Indexing"), n_total=20)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Indexing: 100%" in shown.err
    assert "20/20" in shown.err
    index.evaluate()
    assert capsys.readouterr().err == ""


def test_more_work_starts_another_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("Counting") as on_progress:
        told = [(1, 2), (2, 2), (2, 2), (1, 3), (3, 3), (3, 3), (3, 3), (5, None), (2, None)]
        for done, total in told:
            on_progress(done, total)
    lines = capsys.readouterr().err.split("\n")
    assert [line.rsplit("\r", 1)[-1].split(" [")[0] for line in lines if line] == [
        *("Counting: 100%|██████████| 2/2", "Counting: 100%|██████████| 3/3"),
        *("Counting: 5it", "Counting: 2it"),
    ]


def test_a_failing_run_leaves_a_closed_bar(capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> None:
        with progress_bar() as on_progress:
            on_progress(1, 4)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    assert capsys.readouterr().err.endswith("\n")
