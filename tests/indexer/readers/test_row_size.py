"""A bound on rows: what is longer is rejected, and reading goes on at the next one."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from layerdex.choices import Format
from layerdex.errors import OptionError, RowError, SourceError
from layerdex.indexer.readers import Dialect, Reading, read_source
from layerdex.indexer.readers.judgements import read_judged_queries, read_judgements
from layerdex.indexer.readers.row_size import (
    bound_lines,
    describe_bytes,
    describe_long,
    is_long_line,
    is_long_row,
    is_long_text,
)
from layerdex.indexer.readers.sources import read_queries
from layerdex.records import UNSET, Rejected, SourceDocument
from tests.indexer.readers.sources import reasons
from tests.indexer.readers.workbook import write_xlsx
from tests.limited import run_limited

MIB = 1 << 20
LONG = describe_long(100)


class Endless(io.RawIOBase):
    """A head, and then the same bytes for ever, or ``n`` MiB of them and a tail."""

    def __init__(self, head: bytes, again: bytes, tail: bytes = b"", *, n: int | None = None):
        super().__init__()
        self._parts = self._generate(head, again * (MIB // len(again)), tail, n)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        while not self._rest:
            part = next(self._parts, None)
            if part is None:
                return 0
            self._rest = part
        data, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)

    @staticmethod
    def _generate(head: bytes, again: bytes, tail: bytes, n: int | None) -> Iterator[bytes]:
        yield head
        while n is None or n > 0:
            yield again
            n = None if n is None else n - 1
        yield tail


def read(data: bytes, format_: str, n_most: int = 100) -> list[Reading]:
    dialect = Dialect(max_row_bytes=n_most)
    return list(read_source("-", format=Format(format_), dialect=dialect, stdin=io.BytesIO(data)))


ROWS = {
    "jsonl": ('{"text": "a"}\n', '{"text": "%s"}\n', '{"text": "z"}\n'),
    "json": ('[{"text": "a"},\n', '{"text": "%s"},\n', '{"text": "z"}]'),
    "csv": ("text,n\na,1\n", "%s,1\n", "z,2\n"),
    "tsv": ("text\tn\na\t1\n", "%s\t1\n", "z\t2\n"),
    "txt": ("a\n", "%s\n", "z\n"),
}


@pytest.mark.parametrize("filler", ["x", "é", "🙂"], ids=ascii)
@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("n", [100, 101, 102, 103, 5_000, 200_000])
def test_a_row_is_rejected_where_it_is_longer_than_the_bound(
    kind: str, n: int, filler: str
) -> None:
    before, row, after = ROWS[kind]
    row_end = {"json": ",\n"}.get(kind, "\n")
    n_around = len((row % "").removesuffix(row_end))
    text = filler * ((n - n_around) // len(filler.encode()))
    n_bytes = n_around + len(text.encode())
    readings = read((before + row % text + after).encode(), kind)
    reason = reasons(readings)[1]
    assert len(readings) == 3
    assert (reason == LONG) == (n_bytes > 100)
    ends = [one.text for one in (readings[0], readings[2]) if isinstance(one, SourceDocument)]
    assert ends == ["a", "z"]
    n_lines_before = before.count("\n")
    assert readings[1].origin.line == n_lines_before + 1
    assert readings[2].origin.line == n_lines_before + 2
    if reason == LONG:
        assert isinstance(readings[1], Rejected)
        assert readings[1].id is UNSET


@pytest.mark.parametrize("line_ends", [(b"\n",), (b"\n", b"\r")])
@pytest.mark.parametrize("step", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("n_most", [1, 3, 10])
def test_lines_keep_their_numbers_and_their_first_bytes(
    line_ends: tuple[bytes, ...], step: int, n_most: int
) -> None:
    class Trickle(io.BytesIO):
        def read1(self, _size: int | None = -1, /) -> bytes:
            return self.read(step)

    drawn = random.Random(step * n_most)
    data = b"".join(
        bytes(drawn.choices(b"ab", k=drawn.randrange(20)))
        + drawn.choice([b"\n", b"\r\n", *line_ends])
        for _ in range(60)
    )
    # splitlines and the csv module agree about \r, \n and \r\n
    expected = data.splitlines() if len(line_ends) > 1 else data.split(b"\n")[:-1]
    bounded = bound_lines(Trickle(data), n_most, line_ends=line_ends).read()
    found = bounded.splitlines() if len(line_ends) > 1 else bounded.split(b"\n")[:-1]
    assert len(found) == len(expected)
    for line, whole in zip(found, expected, strict=True):
        content = whole.removesuffix(b"\r")
        assert is_long_line(line + b"\n", n_most) == (len(content) > n_most)
        assert line == whole if len(content) <= n_most else whole.startswith(line[:n_most])
        assert len(line) <= n_most + step + 2


def test_an_open_quote_ends_with_the_bound() -> None:
    lines = "".join(f"line {n},x\n" for n in range(40))
    data = f'text,n\na,1\n"open {lines}z,2\n'
    readings = read(data.encode(), "csv")
    # Each line after the first is read again as a row, as after any quote that is not closed.
    expected = list(csv.reader(data.splitlines()[3:]))
    assert reasons(readings) == [None, LONG, *[None] * len(expected)]
    assert [one.text for one in readings[2:] if isinstance(one, SourceDocument)] == [
        row[0] for row in expected
    ]
    assert [one.origin.line for one in readings] == [*range(2, 4 + len(expected))]


def test_a_header_has_the_same_bound() -> None:
    with pytest.raises(SourceError, match=r"^<stdin>:1: broken header: longer than 100 bytes"):
        read(b"x" * 200 + b",text\n1,2\n", "csv")


def test_a_long_line_does_not_decide_what_quotes_mean(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('text\tn\n"a ""b"""\t1\n' + '"' + "x" * 300 + "\n" + '"c"\t2\n')
    readings = list(read_source(path, dialect=Dialect(max_row_bytes=100)))
    assert reasons(readings) == [None, LONG, None]
    assert [one.text for one in readings if isinstance(one, SourceDocument)] == ['a "b"', "c"]


@pytest.mark.parametrize(
    "value", ['"%s"', '["%s", {"]": "}"}]', '{"a": {"b\\\\": "%s\\""}}', '[[["%s"]], "]\\\\"]']
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_long_value_is_skipped_as_json_reads_it(value: str, wrapped: bool) -> None:
    text = value % ("\\u00e9\\n[" * 20_000)
    rows = f'[{{"text": "a"}}, {{"n": {text}, "text": "b"}}, {{"text": "z"}}]'
    assert len(json.loads(rows)) == 3
    data = f'{{"n": 1, "rows": {rows}, "m": 2}}' if wrapped else rows
    readings = read(data.encode(), "json")
    assert reasons(readings) == [None, LONG, None]
    assert [one.text for one in readings if isinstance(one, SourceDocument)] == ["a", "z"]


def test_a_number_without_an_end_is_skipped() -> None:
    data = '[{"text": "a"}, ' + "1" * 200_000 + ', {"text": "z"}]'
    assert reasons(read(data.encode(), "json")) == [None, LONG, None]


def test_objects_over_several_lines_have_the_bound() -> None:
    long = json.dumps({"text": "x" * 200}, indent=1)
    data = f'{{\n"text": "a"}}\n{long}\n{{"text": "z"}}\n'
    assert reasons(read(data.encode(), "jsonl")) == [None, LONG, None]


def test_rows_of_tables_by_columns_have_the_bound() -> None:
    frame = pd.DataFrame({"text": ["a", "é" * 51, "é" * 50]})
    for orient in ("columns", "split"):
        data = frame.to_json(orient=orient)
        assert reasons(read(data.encode(), "json")) == [None, LONG, None]


def test_rows_of_parquet_and_spreadsheets_have_the_bound(tmp_path: Path) -> None:
    texts, notes = ["a", "x" * 60, "é" * 51, "z"], ["", "x" * 60, "", ""]
    pq.write_table(pa.table({"text": texts, "note": notes}), tmp_path / "a.parquet")
    rows = [["text", "note"], *map(list, zip(texts, notes, strict=True))]
    write_xlsx(tmp_path / "a.xlsx", {"One": rows})
    for name, first in (("a.parquet", 1), ("a.xlsx", 2)):
        readings = list(read_source(tmp_path / name, dialect=Dialect(max_row_bytes=100)))
        assert reasons(readings) == [None, LONG, LONG, None]
        assert [one.origin.line for one in readings] == [*range(first, first + 4)]


def test_a_workbook_that_unpacks_to_far_more_than_it_takes_is_refused(tmp_path: Path) -> None:
    write_xlsx(tmp_path / "a.xlsx", {"One": [["text"], ["x"], ["y" * 400_000]]})
    with pytest.raises(SourceError, match=r"sheet1\.xml unpacks to 0 MB, more than 100 times"):
        list(read_source(tmp_path / "a.xlsx", dialect=Dialect(max_row_bytes=300_000)))
    readings = list(read_source(tmp_path / "a.xlsx", dialect=Dialect(max_row_bytes=500_000)))
    assert reasons(readings) == [None, None]


def test_an_encoding_with_long_runs_has_a_bound() -> None:
    words = "für dich\n" * 100_000
    dialect = Dialect(encoding="utf-7")
    stdin = io.BytesIO(words.encode("utf-7"))
    readings = list(read_source("-", format=Format.TXT, dialect=dialect, stdin=stdin))
    assert {one.text for one in readings if isinstance(one, SourceDocument)} == {"für dich"}
    endless = io.BufferedReader(Endless(b"a\n+", b"A"))
    with pytest.raises(SourceError, match="a run of utf-7 without an end"):
        list(read_source("-", format=Format.TXT, dialect=dialect, stdin=endless))


@pytest.mark.parametrize("format_", [Format.PARQUET, Format.XLSX])
def test_a_device_is_no_table(format_: Format) -> None:
    with pytest.raises(SourceError, match=f"/dev/zero: {format_} is read from regular files only"):
        read_source("/dev/zero", format=format_)


def test_texts_are_measured_in_bytes() -> None:
    for text in ("", "abc", "é" * 50, "🙂" * 25, "x" * 101, "é" * 51, "\udcff" * 33, "a🙂" * 20):
        n_bytes = len(text.encode(errors="surrogatepass"))
        for n_most in (n_bytes - 1, n_bytes, n_bytes + 1):
            assert is_long_text(text, n_most) == (n_bytes > n_most)
            assert is_long_text(f"xx{text}x", n_most, start=2, end=2 + len(text)) == (
                n_bytes > n_most
            )
            if "\udcff" not in text:
                assert is_long_row([None, 1, text, [text]], n_most) == (n_bytes > n_most)
                assert is_long_row([text.encode()], n_most) == (n_bytes > n_most)


def test_questions_and_judgements_have_the_bound(tmp_path: Path) -> None:
    long = tmp_path / "a.tsv"
    long.write_text("q1\ta text\nq2\t" + "x" * 200 + "\n")
    for read_file in (
        lambda: read_judged_queries(long, dialect=Dialect(max_row_bytes=100)),
        lambda: read_queries(
            long, text_field="q1", format=Format.TXT, dialect=Dialect(max_row_bytes=100)
        ),
    ):
        with pytest.raises((RowError, SourceError)) as caught:
            read_file()
        assert "longer than 100 bytes" in str(caught.value) or "q1" in str(caught.value)
    qrels = tmp_path / "qrels"
    qrels.write_text("q1 0 d1 1\nq1 0 d2 0\n")
    assert read_judgements(qrels) == {"q1": {"d1": 1, "d2": 0}}


@pytest.mark.parametrize("n_bytes", [0, -1, 1.5, "1MB", None, True])
def test_a_bound_is_a_number_of_bytes(n_bytes: object) -> None:
    with pytest.raises(OptionError, match=r"^max_row_bytes must be "):
        Dialect(max_row_bytes=n_bytes)  # type: ignore[arg-type]


def test_sizes_are_said_in_the_largest_whole_unit() -> None:
    sizes = {1: "1 byte", 1_001: "1,001 bytes", 2_000: "2 kB", 256_000_000: "256 MB"}
    sizes |= {1 << 20: "1 MiB", 3 << 10: "3 KiB"}
    assert {n: describe_bytes(n) for n in sizes} == sizes


_BOUND = 1_000_000
STREAMS = {
    "zeros": (b"", b"\0", b"\nz\n"),
    "blanks": (b"text,n\na,1\n", b" ", b"\nz,1\n"),
    "a line of csv": (b"text,n\na,1\n", b"x", b"\nz,1\n"),
    "a line of tsv": (b"text\tn\na\t1\n", b"x", b"\nz\t1\n"),
    "bytes that are no UTF-8": (b"text,n\na,1\n", b"\xff", b"\nz,1\n"),
    "an open quote": (b'text,n\na,1\n"', b"x", b"\nz,1\n"),
    "a header": (b"", b"text,", b"\nz\n"),
    "a string of jsonl": (b'{"text": "a"}\n{"text": "', b"x", b'"}\n{"text": "z"}\n'),
    "a list of jsonl": (b'{"text": "a"}\n{"text": [', b"[],", b'[]]}\n{"text": "z"}\n'),
    "a string of json": (b'[{"text": "a"},\n{"text": "', b"x", b'"},\n{"text": "z"}]'),
    "a list of json": (b'[{"text": "a"},\n{"text": [', b"[],", b'[]]},\n{"text": "z"}]'),
    "nesting": (b'[{"text": "a"},\n{"text": ', b"[", b""),
    "blanks within json": (b'[{"text": "a"},', b"\n", b'{"text": "z"}]'),
    "blank lines": (b"", b"\n", b"z\n"),
    "blank lines of jsonl": (b'{"text": "a"}\n', b"\n", b'{"text": "z"}\n'),
}


SLOW = {"a list of json", "blanks within json", "blank lines of jsonl", "nesting"}


def _read_stream(name: str, n: int | None, n_rows: int | None) -> list[str]:
    head, again, tail = STREAMS[name]
    stdin = io.BufferedReader(Endless(head, again, tail, n=n))
    readings = read_source("-", dialect=Dialect(max_row_bytes=_BOUND), stdin=stdin)
    found: list[str] = []
    try:
        for reading in readings:
            found.append(reading.reason if isinstance(reading, Rejected) else reading.text)
            if len(found) == n_rows:
                break
    except SourceError as error:
        found.append(str(error))
    return found


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", STREAMS)
def test_what_has_no_end_takes_little_memory(name: str) -> None:
    n = 2 if name in SLOW else 48
    child = run_limited(_read_stream, name, n, None, memory_bytes=128 * MIB, timeout_s=60)
    assert child.exit_code == 0
    assert child.grown_bytes < 32 * MIB
    assert child.result


@pytest.mark.parametrize(
    ("name", "n_rows"),
    [
        ("zeros", 1),
        ("a line of csv", 2),
        ("a line of tsv", 2),
        ("a string of jsonl", 2),
        ("a string of json", 2),
        ("a list of json", 2),
        ("blank lines", 1),
    ],
)
def test_a_row_is_rejected_before_its_end_is_known(name: str, n_rows: int) -> None:
    child = run_limited(_read_stream, name, None, n_rows, memory_bytes=128 * MIB, timeout_s=60)
    assert child.exit_code == 0
    reason = child.result[-1]
    blank = "<stdin>: begins with more than 1 MiB of blanks: say what follows with --format"
    assert reason == (blank if name == "blank lines" else describe_long(_BOUND))
