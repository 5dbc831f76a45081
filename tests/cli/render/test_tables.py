"""Tables in parts where they do not fit the terminal."""

from __future__ import annotations

import pytest

from layerdex.cli.render.tables import make_list, make_table, print_table

NAMES = (">layer", ">accuracy", ">95 %", ">macro-F1", ">95 %", "")


def shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int, remark: str
) -> list[list[str]]:
    """Return the words of each line of a table of a layer, without rules."""
    monkeypatch.setenv("COLUMNS", str(width))
    table = make_table(*NAMES, title="Title")
    table.add_row("3", "0.9000", "0.8000-1.0000", "0.9100", "0.8100-1.0000", remark)
    print_table(table)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    return [line.split() for line in lines if line.strip(" ─")]


def test_a_remark_stays_with_the_first_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = shown(capsys, monkeypatch, 60, "best")
    assert lines[2][-1] == "best"
    assert lines[3][0] == "layer"
    assert lines[3][-1] != "layer"
    assert sum("best" in line for line in lines) == 1


@pytest.mark.parametrize("width", [58, 60, 62, 64, 80])
def test_a_column_without_a_word_gets_no_part(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    lines = shown(capsys, monkeypatch, width, "")
    headers = [line for line in lines if line[0] == "layer"]
    assert all(len(header) > 1 for header in headers)
    assert lines[2][0] == "3"


def test_a_list_without_a_value_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(make_list({"name": "", "other": ""}))
    assert capsys.readouterr().out.split() == ["name", "other"]
