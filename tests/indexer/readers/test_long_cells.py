"""Quoted cells beyond the bound on rows: no line of a cell that is closed becomes a document."""

from __future__ import annotations

import csv
import io
import random
from itertools import islice
from pathlib import Path

import pytest

from layerdex.choices import Format
from layerdex.errors import SourceError
from layerdex.indexer.readers import Dialect, Reading, read_source
from layerdex.indexer.readers.broken_rows import MAX_LINES
from layerdex.indexer.readers.cells import Cells, Place
from layerdex.indexer.readers.row_size import describe_long
from layerdex.records import Rejected, SourceDocument
from tests.indexer.readers.sources import reasons
from tests.limited import run_limited

LONG = describe_long(100)
MIB = 1 << 20


class Trickle(io.BytesIO):
    """Bytes that arrive a few at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        super().__init__(data)
        self._step = step

    def read1(self, _size: int | None = -1, /) -> bytes:
        return self.read(self._step)

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(self._step if size is None or size < 0 else min(size, self._step))


def read(data: str, *, format_: str = "csv", step: int = 1 << 20) -> list[Reading]:
    dialect = Dialect(max_row_bytes=100, quoting="csv", delimiter="\t" if format_ == "tsv" else ",")
    stdin = io.BufferedReader(Trickle(data.encode(), step))
    return list(read_source("-", format=Format(format_), dialect=dialect, stdin=stdin))


def texts(readings: list[Reading]) -> list[str | None]:
    return [one.text if isinstance(one, SourceDocument) else None for one in readings]


@pytest.mark.parametrize("n_lines", [20, 200, MAX_LINES + 500])
@pytest.mark.parametrize("before", ['"', '"a","b', 'k,"', 'k,"x ""quoted"" '])
def test_a_long_cell_that_is_closed_is_one_row(before: str, n_lines: int) -> None:
    lines = "".join(f"k{n},bogus {n}\n" for n in range(n_lines))
    data = f'id,text\n1,one\n{before}{lines}",z\n3,three\n'
    readings = read(data)
    assert reasons(readings) == [None, LONG, None]
    assert texts(readings) == ["one", None, "three"]
    assert [one.origin.line for one in readings] == [2, 3, 4 + n_lines]


@pytest.mark.parametrize("format_", ["csv", "tsv"])
@pytest.mark.parametrize("seed", range(12))
def test_what_is_left_are_the_rows_of_the_csv_module(seed: int, format_: str) -> None:
    drawn = random.Random(seed)
    step = drawn.choice([1, 7, 50, 1 << 20])
    delimiter = "\t" if format_ == "tsv" else ","
    out = io.StringIO(newline="")
    line_end = drawn.choice(["\n", "\r\n", "\r"])
    # By default a line end of another kind than the table's is not enclosed.
    writer = csv.writer(
        out, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_NONNUMERIC
    )
    writer.writerow(["text", "n"])
    expected: list[tuple[int, str | None]] = []
    for n in range(60):
        line = len(list(io.StringIO(out.getvalue(), newline=""))) + 1
        start = out.tell()
        marks = ['"', delimiter, "\n", "\r\n", "é", "xy", "k" * 30]
        text = "t" + "".join(drawn.choices(marks, k=drawn.choice([2, 9, 40, 200])))
        writer.writerow([text, n])
        n_bytes = len(out.getvalue()[start:].removesuffix(line_end).encode())
        expected.append((line, None if n_bytes > 100 else text))
    readings = read(out.getvalue(), format_=format_, step=step)
    assert [(one.origin.line, *texts([one])) for one in readings] == expected
    assert {one.reason for one in readings if isinstance(one, Rejected)} == {LONG}


@pytest.mark.parametrize("step", [1, 64, 1 << 20])
@pytest.mark.parametrize(
    ("cell", "n_lines"),
    [
        ('"' + "x" * 500 + '"', 1),
        ('"' + "x" * 500 + '\nk,bogus"', 2),
        ('"a\n' + "x" * 500 + '","' + "y" * 500 + '\nk,bogus"', 3),
        ('"a\n' + '""' * 501 + 'b\nk,bogus"', 3),
        ("x" * 500 + '"', 1),
        ('"' + "\r\n".join(["k,bogus " * 40] * 30) + '"', 30),
        ('"' + "\r".join(["k,bogus " * 40] * 30) + '"', 30),
    ],
)
def test_what_is_cut_off_a_line_closes_and_opens_quotes(cell: str, n_lines: int, step: int) -> None:
    readings = read(f"text,n\na,1\n{cell},2\nz,3\n", step=step)
    assert reasons(readings) == [None, LONG, None]
    assert texts(readings) == ["a", None, "z"]
    assert readings[2].origin.line == 3 + n_lines


@pytest.mark.parametrize("step", [1, 64, 1 << 20])
@pytest.mark.parametrize("ending", ["", 'say "no",9\n'])
def test_lines_below_a_quote_that_is_not_closed_are_read_again(ending: str, step: int) -> None:
    long = '"' + "y" * 300 + '\nk,bogus",4\n'  # rejected again as a row of its own, and whole
    below = "".join(f"line {n},{n}\n" for n in range(40))
    data = f'text,n\n"open {"x" * 300}\n{below}{long}z,5\n{ending}'
    readings = read(data, step=step)
    closed = ['say "no"'] if ending else []
    assert texts(readings) == [None, *(f"line {n}" for n in range(40)), None, "z", *closed]
    assert reasons(readings)[0] == LONG
    assert readings[41].origin.line == 43


def test_a_long_row_whose_quote_is_never_closed_ends_the_run() -> None:
    data = 'text,n\na,1\n"open\n' + "x\n" * (MAX_LINES + 100) + "z,2\n"
    dialect = Dialect(max_row_bytes=100)
    stdin = io.BytesIO(data.encode())
    readings = read_source("-", format=Format.CSV, dialect=dialect, stdin=stdin)
    assert reasons(list(islice(readings, 2))) == [None, LONG]
    with pytest.raises(SourceError) as caught:
        next(readings)
    assert str(caught.value) == "<stdin>:3: a quote in the row that starts here is never closed"


def test_after_a_quote_that_ends_within_text_after_many_lines_reading_goes_on() -> None:
    data = 'text,n\n"open\n' + "x,1\n" * (MAX_LINES + 100) + 'say "no",2\nz,2\n'
    assert texts(read(data)) == [None, "z"]


def test_a_cell_of_many_lines_within_the_bound_is_a_document(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    cell = "".join(f"k{n},bogus\n" for n in range(3 * MAX_LINES))
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["text", "n"], [cell, 1], ["z", 2]])
    assert texts(list(read_source(path))) == [cell, "z"]


def _read_long_cell(n_mib: int, end: str, n_most: int) -> list[str | None]:
    def generate() -> io.RawIOBase:
        from tests.indexer.readers.test_row_size import Endless

        return Endless(b'text,n\na,1\n"open', b'k,""bogus""\nx', end.encode(), n=n_mib)

    dialect = Dialect(max_row_bytes=n_most)
    stdin = io.BufferedReader(generate())
    return texts(list(read_source("-", format=Format.CSV, dialect=dialect, stdin=stdin)))


@pytest.mark.parametrize("n_most", [1_000, 1_000_000])
def test_a_long_cell_of_many_lines_takes_little_memory(n_most: int) -> None:
    child = run_limited(
        _read_long_cell, 12, '",1\nz,2\n', n_most, memory_bytes=128 * MIB, timeout_s=120
    )
    assert child.exit_code == 0
    assert child.grown_bytes < 10 * MIB
    assert child.result == ["a", None, "z"]


CLOSED = (Place.START, Place.PLAIN, Place.QUOTE)


@pytest.mark.parametrize("skips_blanks", [False, True])
@pytest.mark.parametrize("delimiter", [",", "\t", "§"])
def test_cells_end_where_the_csv_module_ends_them(delimiter: str, skips_blanks: bool) -> None:
    drawn = random.Random(3)
    cells = Cells(delimiter, skips_blanks)
    found = set()
    for _ in range(4_000):
        row = "".join(drawn.choices(['"', delimiter, "x", " "], k=drawn.randrange(9)))
        place = Place.START
        for part in (row[:3], row[3:4], row[4:]):
            place = cells.follow(place, part)
        found.add(place)
        parser = csv.reader([row], delimiter=delimiter, skipinitialspace=skips_blanks, strict=True)
        try:
            next(parser, None)
            expected = "ended"
        except csv.Error as error:
            expected = "open" if "unexpected end" in str(error) else "broken"
        kinds = {Place.QUOTED: "open", Place.BROKEN: "broken"}
        assert kinds.get(place, "ended") == expected, row
    assert found == {*Place}


@pytest.mark.parametrize("end", [*CLOSED, Place.QUOTED, Place.BROKEN])
@pytest.mark.parametrize("start", [*CLOSED, Place.QUOTED])
def test_a_short_text_leads_from_one_place_to_another(start: Place, end: Place) -> None:
    cells = Cells(",", skips_blanks=False)
    reached = cells.follow(start, cells.lead(start, end))
    assert reached is end or (reached in CLOSED and end in CLOSED)
