"""Bad rows among good ones: each format says the same of them, on every run, and reads on."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerdex.errors import SourceError
from layerdex.indexer.readers import Fields, read_source
from layerdex.records import Rejected
from tests.indexer.readers.sources import JSONLIKE, Row, read_as, reasons
from tests.indexer.readers.test_verdicts import BAD_ROWS

DELIMITED = ("csv", "tsv")
LINES = ("jsonl", "csv", "tsv", "txt")
EVERY = (*LINES, "json")

GOOD = {
    "jsonl": b'{"text": "good", "n": "1"}\n',
    "json": b'{"text": "good", "n": "1"}',
    "csv": b"good,1\n",
    "tsv": b"good\t1\n",
    "txt": b"good\n",
}
START = {"jsonl": b"", "json": b"[", "csv": b"text,n\n", "tsv": b"text\tn\n", "txt": b""}
BETWEEN = {"json": b","}
END = {"json": b"]\n"}

# A row as bytes in each format that can express it, and the verdict.
RAW_ROWS: dict[str, tuple[dict[str, bytes], str]] = {
    "a blank text": (
        {
            "jsonl": b'{"text": " \\t", "n": "1"}\n',
            "json": b'{"text": " \\t", "n": "1"}',
            "csv": b'" \t",1\n',
            "tsv": b'" \t"\t1\n',
        },
        "text is blank",
    ),
    "an empty text": (
        {
            "jsonl": b'{"text": "", "n": "1"}\n',
            "json": b'{"text": "", "n": "1"}',
            "csv": b",1\n",
            "tsv": b"\t1\n",
        },
        "text is empty",
    ),
    "a NUL": (
        {
            "jsonl": b'{"text": "a\\u0000b", "n": "1"}\n',
            "json": b'{"text": "a\\u0000b", "n": "1"}',
            "csv": b"a\0b,1\n",
            "tsv": b"a\0b\t1\n",
            "txt": b"a\0b\n",
        },
        "text contains a NUL character",
    ),
    "bytes that are no UTF-8": (
        {
            "jsonl": b'{"text": "\xff", "n": "1"}\n',
            "csv": b"\xff,1\n",
            "tsv": b"\xff\t1\n",
            "txt": b"\xff\n",
        },
        "invalid UTF-8",
    ),
    "a surrogate in bytes": (
        {
            "jsonl": b'{"text": "\xed\xa0\x80", "n": "1"}\n',
            "csv": b"\xed\xa0\x80,1\n",
            "tsv": b"\xed\xa0\x80\t1\n",
            "txt": b"\xed\xa0\x80\n",
        },
        "invalid UTF-8",
    ),
    "a longer form of a slash": (
        {
            "jsonl": b'{"text": "\xc0\xaf", "n": "1"}\n',
            "csv": b"\xc0\xaf,1\n",
            "tsv": b"\xc0\xaf\t1\n",
            "txt": b"\xc0\xaf\n",
        },
        "invalid UTF-8",
    ),
    "a lone surrogate": (
        {"jsonl": b'{"text": "\\udc00"}\n', "json": b'{"text": "\\udc00"}'},
        "text contains a lone surrogate (U+DC00)",
    ),
    "a key twice": (
        {"jsonl": b'{"text": "a", "text": "b"}\n', "json": b'{"text": "a", "text": "b"}'},
        "broken JSON: key 'text' appears twice",
    ),
    "a key twice, deep": (
        {
            "jsonl": b'{"text": "a", "metadata": {"k": 1, "k": 1}}\n',
            "json": b'{"text": "a", "metadata": {"k": 1, "k": 1}}',
        },
        "broken JSON: key 'k' appears twice",
    ),
    "a literal that is no JSON": (
        {"jsonl": b'{"text": "a", "m": NaN}\n', "json": b'{"text": "a", "m": NaN}'},
        "broken JSON: NaN is not a JSON value: write null",
    ),
    "a number beyond floats": (
        {"jsonl": b'{"text": "a", "m": 1e999}\n', "json": b'{"text": "a", "m": 1e999}'},
        "metadata field 'm' is not a finite number (inf)",
    ),
    "a number of many digits": (
        {
            "jsonl": b'{"text": "a", "m": ' + b"9" * 5000 + b"}\n",
            "json": b'{"text": "a", "m": ' + b"9" * 5000 + b"}",
        },
        "broken JSON: a number of 5000 digits is too long",
    ),
    "no object": (
        {"jsonl": b'["text"]\n', "json": b'["text"]'},
        "the row is not an object (list)",
    ),
    "null": ({"jsonl": b"null\n", "json": b"null"}, "the row is not an object (null)"),
    "no text": (
        {"jsonl": b'{"n": "1"}\n', "json": b'{"n": "1"}'},
        "no text field 'text'; there is 'n'",
    ),
    "too many cells": ({"csv": b"a,1,2\n", "tsv": b"a\t1\t2\n"}, "3 cells, but the header has 2"),
    "too few cells": ({"csv": b"a\n", "tsv": b"a\n"}, "1 cell, but the header has 2"),
    "letters behind a quote": (
        {"csv": b'"a"b,1\n'},
        "broken quoting: ",
    ),
    "a quote that is never closed": (
        {"csv": b'"a,1\n'},
        "a quote in the row that starts here is never closed",
    ),
}


def _read(kind: str, row: bytes, path: Path) -> list[str | None]:
    good, between = GOOD[kind], BETWEEN.get(kind, b"")
    rows = between.join([good, row, good])
    path.write_bytes(START[kind] + rows + END.get(kind, b""))
    return reasons(list(read_source(path)))


@pytest.mark.parametrize("name", RAW_ROWS)
def test_bad_row_has_one_verdict_and_spoils_no_other(name: str, tmp_path: Path) -> None:
    row, verdict = RAW_ROWS[name]
    for kind, data in row.items():
        first = _read(kind, data, tmp_path / f"source.{kind}")
        before, reason, after = first
        assert (before, after) == (None, None), kind
        assert reason is not None, kind
        assert reason.startswith(verdict), kind
        assert "\n" not in reason, kind
        assert _read(kind, data, tmp_path / f"again.{kind}") == first, kind


@pytest.mark.parametrize("kind", EVERY)
def test_table_has_rows_of_every_format(kind: str) -> None:
    assert sum(kind in row for row, _ in RAW_ROWS.values()) >= 3


@pytest.mark.parametrize(
    ("row", "reason"), [(row, reason) for row, reason, _ in BAD_ROWS], ids=lambda one: str(one)[:40]
)
def test_typed_bad_row_has_the_same_verdict_among_good_ones(
    row: Row, reason: str, tmp_path: Path
) -> None:
    kinds = next(kinds for other, _, kinds in BAD_ROWS if other is row)
    judged = 0
    for kind in (*JSONLIKE, *DELIMITED):
        if kind not in kinds or (kind in DELIMITED and _has_bad_name(row)):
            continue  # a table's names are those of all its rows
        good: Row = {"text": "good"}
        if kind in DELIMITED:
            good = {**dict.fromkeys(row, "x"), "text": "good"}
        for _ in range(2):
            found = reasons(read_as(kind, [good, row, good], tmp_path, Fields()))
            assert found == [None, reason, None], kind
        judged += 1
    assert judged or not {*kinds} & {*JSONLIKE, *DELIMITED}


def _has_bad_name(row: Row) -> bool:
    return any(not name or "\0" in name for name in row)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("json", b'{"text": "a\xff"}'),
        ("json", b'{"text": "a'),
        ("json", b'{"text": "a"} {"text": "b"}'),
    ],
)
def test_row_whose_end_nobody_knows_ends_the_source_with_a_clear_error(
    kind: str, data: bytes, tmp_path: Path
) -> None:
    messages = []
    for _ in range(2):
        with pytest.raises(SourceError) as caught:
            _read(kind, data, tmp_path / f"source.{kind}")
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert f"source.{kind}:" in messages[0]
    assert "\n" not in messages[0]


def test_rejected_rows_are_told_apart_by_line(tmp_path: Path) -> None:
    path = tmp_path / "source.txt"
    path.write_bytes(b"good\n\xff\n\0\ngood\n")
    rejected = [one for one in read_source(path) if isinstance(one, Rejected)]
    assert [one.origin.line for one in rejected] == [2, 3]
