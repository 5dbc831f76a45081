"""Rows of csv with broken quoting: the first line is rejected, and no good row with it."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from layerdex.errors import SourceError
from layerdex.indexer.readers import Dialect, Reading, read_source
from layerdex.indexer.readers.broken_rows import MAX_LINES, N_READINGS, RereadLines
from layerdex.records import Rejected
from tests.indexer.readers.sources import reasons

HEADER = "id,text,label\n"
PLAIN = "; --quoting none reads quotes as text"
DOUBLED = '; quotes inside a cell are doubled in csv ("")'
AFTER = "broken quoting: ',' expected after '\"'"
WITHIN = "broken quoting: a quote that opens here ends in line 42 (',' expected after '\"')"
UNCLOSED = "a quote in the row that starts here is never closed"
TWO_WAYS = 'a",b,"c\n'
"""An open quote stays open over such a line, and as a row of its own it opens one."""


def read(path: Path, data: str, dialect: Dialect | None = None) -> list[Reading]:
    path.write_bytes(data.encode())
    return list(read_source(path, dialect=dialect))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.csv"


def good(numbers: Iterable[int]) -> str:
    return "".join(f"{n},coffee number {n},hot\n" for n in numbers)


@pytest.mark.parametrize(
    ("ending", "n_lines", "reason"),
    [
        ('99,tea that is "strong",hot\n', 40, WITHIN + PLAIN),
        ('99,"tea, strong",hot\n', 40, WITHIN + PLAIN),
        ("", 40, UNCLOSED + PLAIN),
        ("", 0, UNCLOSED + PLAIN),
    ],
)
def test_an_open_quote_costs_one_line(path: Path, ending: str, n_lines: int, reason: str) -> None:
    data = HEADER + '1,"a cup without a saucer,cold\n' + good(range(2, n_lines + 1)) + ending
    rejected, *others = read(path, data)
    assert isinstance(rejected, Rejected)
    assert (rejected.origin.line, rejected.reason) == (2, reason)
    without = HEADER + "\n" + "".join(data.splitlines(keepends=True)[2:])
    expected = list(csv.DictReader(without.splitlines()))
    assert [(one.id, one.text, one.label) for one in others if not isinstance(one, Rejected)] == [
        (row["id"], row["text"], row["label"]) for row in expected
    ]
    assert [one.origin.line for one in others] == [*range(3, 3 + len(expected))]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_lines_are_numbered_after_several_broken_rows(path: Path, line_end: str) -> None:
    broken = '7,"open,x\n'
    data = HEADER + broken + good([1]) + broken + broken + '2,"two\nlines",y\n' + broken + good([3])
    readings = read(path, data.replace("\n", line_end))
    lines = [(one.origin.line, isinstance(one, Rejected)) for one in readings]
    assert lines == [(2, True), (3, False), (4, True), (5, True), (6, False), (8, True), (9, False)]


@pytest.mark.parametrize(
    ("row", "advice"),
    [
        ('1,"she said "no" twice",x', PLAIN),
        ('1,"she said "no, never" twice",x', DOUBLED),
        ('1,"she said \\"no\\" twice",x', DOUBLED),
        ('1,"she said \\"no, never\\" twice",x', DOUBLED),
    ],
)
def test_advice_is_true_of_the_row(path: Path, row: str, advice: str) -> None:
    assert reasons(read(path, HEADER + row + "\n" + good([2]))) == [AFTER + advice, None]
    followed = read(path, HEADER + row + "\n", Dialect(quoting="none"))
    assert (reasons(followed) == [None]) == ("no, never" not in row)


def test_a_row_of_too_many_lines_is_one_reject_that_says_so(path: Path) -> None:
    data = HEADER + '0,"open,x\n' + good(range(MAX_LINES)) + '9,say "no",y\n' + good([1])
    rejected, last = read(path, data)
    end, n = MAX_LINES + 3, MAX_LINES + 2
    rows = f"(lines 2-{end} are rejected as one row of {n:,} lines)"
    assert reasons([rejected, last]) == [f"{AFTER} {rows}{PLAIN}", None]
    assert last.origin.line == end + 1


def test_a_quote_that_is_open_for_too_many_lines_at_the_end_is_an_error(path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        read(path, HEADER + good([1]) + '0,"open,x\n' + good(range(MAX_LINES)))
    assert str(caught.value) == f"{path}:3: {UNCLOSED}{PLAIN}"


@pytest.mark.parametrize("block", [TWO_WAYS * (MAX_LINES - 10) + 'x,"a"b,c\n', '1,"open,x\n' * 99])
def test_hostile_rows_are_read_in_linear_time(
    path: Path, block: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_read = 0
    each = RereadLines.__iter__

    def count(lines: RereadLines) -> Iterator[str]:
        nonlocal n_read
        for line in each(lines):
            n_read += 1
            yield line

    monkeypatch.setattr(RereadLines, "__iter__", count)
    data = HEADER + block * 40
    readings = read(path, data)
    n_lines = data.count("\n")
    allowance = (1 << 20) // 8
    assert n_lines <= n_read <= (1 + N_READINGS) * n_lines + allowance + 1
    n_said = sum(_n_lines(one) for one in readings)
    assert n_said == n_lines - 1


def _n_lines(reading: Reading) -> int:
    """Return the number of lines that a reading stands for."""
    if isinstance(reading, Rejected) and "as one row of" in reading.reason:
        number = reading.reason.partition("as one row of ")[2].partition(" lines")[0]
        return int(number.replace(",", ""))
    return 1
