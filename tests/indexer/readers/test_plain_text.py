from __future__ import annotations

import codecs
from pathlib import Path

from layerdex.indexer.readers import Reading, read_source
from layerdex.indexer.readers.encoding import ADVICE
from layerdex.records import UNSET
from tests.indexer.readers.sources import documents, reasons


def read(tmp_path: Path, data: bytes) -> list[Reading]:
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    return list(read_source(path))


def test_a_line_is_a_document_without_its_line_end(tmp_path: Path) -> None:
    data = codecs.BOM_UTF8 + "a\u2028\x0c\x85b \r\nc\r\r\n d\re".encode()
    readings = documents(read(tmp_path, data))
    assert [one.text for one in readings] == ["a\u2028\x0c\x85b ", "c\r", " d\re"]
    assert [one.origin.line for one in readings] == [1, 2, 3]
    assert {(one.id, one.label, len(one.metadata)) for one in readings} == {(None, UNSET, 0)}


def test_final_newline_makes_no_row(tmp_path: Path) -> None:
    assert len(read(tmp_path, b"a\nb\n")) == len(read(tmp_path, b"a\nb")) == 2
    assert read(tmp_path, b"") == []


def test_bad_lines_are_rejected(tmp_path: Path) -> None:
    readings = read(tmp_path, b"\n \r\nab\xff\n\0\nok")
    assert reasons(readings) == [
        f"invalid UTF-8 at byte 3; {ADVICE}",
        "text contains a NUL character",
        None,
    ]
    assert str(readings[0]) == f"{tmp_path / 'a.txt'}:3: invalid UTF-8 at byte 3; {ADVICE}"
