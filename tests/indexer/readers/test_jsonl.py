from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from layerdex.indexer.readers import Reading, read_source
from layerdex.indexer.readers.encoding import ADVICE
from layerdex.records import Rejected
from tests.indexer.readers.sources import documents, reasons


def read(tmp_path: Path, data: bytes) -> list[Reading]:
    path = tmp_path / "a.jsonl"
    path.write_bytes(data)
    return list(read_source(path))


def test_lines_end_at_newlines_alone(tmp_path: Path) -> None:
    text = "a\u2028b\u0085c\x0bd\x1ce"
    line = '{"text": "a\u2028b\u0085c\\u000bd\\u001ce"}'
    assert [one.text for one in documents(read(tmp_path, f"{line}\n{line}".encode()))] == [text] * 2


def test_mark_carriage_returns_and_blank_lines_are_no_content(tmp_path: Path) -> None:
    data = codecs.BOM_UTF8 + b'{"text": "a"}\r\n\r\n  \n{"text": "b"}'
    readings = documents(read(tmp_path, data))
    assert [(one.text, one.origin.line) for one in readings] == [("a", 1), ("b", 4)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "\xff"}', f"invalid UTF-8 at byte 11; {ADVICE}"),
        (b'{"text": "\xed\xa0\x80"}', f"invalid UTF-8 at byte 11; {ADVICE}"),
        (b'{"text": "a"', "broken JSON: Expecting ',' delimiter at column 13"),
        (b'{"text": "a"} x', "broken JSON: Extra data at column 15"),
        (b'{"text": "a\tb"}', "broken JSON: Invalid control character at column 12"),
        (b'{"text": "a', "broken JSON: Unterminated string at column 10"),
        (b'{"text": "\\x"}', "broken JSON: Invalid \\escape at column 11"),
        (b'{"text": "a", "m": NaN}', "broken JSON: NaN is not a JSON value: write null"),
        (b'{"m": [-Infinity]}', "broken JSON: -Infinity is not a JSON value: write null"),
        (b'{"text": "a", "m": 1e999}', "metadata field 'm' is not a finite number (inf)"),
        (b'{"text": "a", "text": "b"}', "broken JSON: key 'text' appears twice"),
        (b'{"text": "a", "m": {"k": 1, "k": 1}}', "broken JSON: key 'k' appears twice"),
        (b'{"m": %s}' % (b"1" * 5000), "broken JSON: a number of 5000 digits is too long"),
        (b'{"text": ' + b"[" * 100_000, "broken JSON: nested too deeply"),
        (b'"text"', "the row is not an object (string)"),
        (b"[1]", "the row is not an object (list)"),
        (b"null", "the row is not an object (null)"),
    ],
)  # fmt: skip
def test_bad_line_is_rejected_and_the_next_is_read(
    line: bytes, reason: str, tmp_path: Path
) -> None:
    readings = read(tmp_path, line + b'\n{"text": "b"}\n')
    assert reasons(readings) == [reason, None]
    assert isinstance(readings[0], Rejected)
    assert str(readings[0]) == f"{tmp_path / 'a.jsonl'}:1: {reason}"


def test_empty_file_has_no_rows(tmp_path: Path) -> None:
    assert read(tmp_path, b"") == []
