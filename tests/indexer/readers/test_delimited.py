from __future__ import annotations

from pathlib import Path

import pytest

from layerdex.errors import SourceError
from layerdex.indexer.readers import Fields, Reading, read_source
from layerdex.records import UNSET
from tests.indexer.readers.sources import documents, reasons


def read(tmp_path: Path, data: bytes, *, suffix: str = "csv") -> list[Reading]:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(data)
    return list(read_source(path))


def test_line_is_the_first_of_a_row_with_quoted_newlines(tmp_path: Path) -> None:
    data = b'\xef\xbb\xbftext,n\r\n"a\r\nb ""c""",1\r\n\r\n"d,e",2\r\n'
    readings = documents(read(tmp_path, data))
    assert [(one.text, one.origin.line) for one in readings] == [('a\r\nb "c"', 2), ("d,e", 5)]
    assert [one.metadata for one in readings] == [{"n": "1"}, {"n": "2"}]


def test_tsv_is_quoted_as_csv(tmp_path: Path) -> None:
    (document,) = documents(read(tmp_path, b'text\tn\n"a\tb, ""c"""\t\n', suffix="tsv"))
    assert (document.text, document.metadata) == ('a\tb, "c"', {"n": None})


def test_empty_cells_are_null(tmp_path: Path) -> None:
    (document,) = documents(read(tmp_path, b"text,id,label\na,,\n"))
    assert (document.id, document.label) == (None, None)
    (document,) = documents(read(tmp_path, b"text,year\na,\n"))
    assert document.metadata == {"year": None}
    (document,) = documents(read(tmp_path, b"text,id\na,007\n"))
    assert (document.id, document.label) == ("007", UNSET)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"a", "1 cell, but the header has 2"),
        (b"a,b,c", "3 cells, but the header has 2"),
        (b"\xff,b", "invalid UTF-8 in column 'text'"),
        (b"a,\xed\xa0\x80", "invalid UTF-8 in column 'n'"),
        (b'"a"b,c', "broken quoting: ',' expected after '\"'"),
    ],
)
def test_bad_row_is_rejected_and_the_next_is_read(row: bytes, reason: str, tmp_path: Path) -> None:
    readings = read(tmp_path, b"text,n\nok,1\n" + row + b"\nok,2\n")
    assert reasons(readings) == [None, reason, None]
    assert [reading.origin.line for reading in readings] == [2, 3, 4]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", ": is empty; the first row must name the columns"),
        (b"\n\n", ": is empty; the first row must name the columns"),
        (b"text,n,n\n", ": 'n' is the name of more than one column"),
        (b"text,\xff\n", ":1: invalid UTF-8 in the header"),
        (b'text\n"a"\n"b\nc\n', ":3: a quote in the row that starts here is never closed"),
        (b'"te"xt\na\n', ":1: broken header: ',' expected after '\"'"),
        (b"\xff\xfet\0e\0", ": looks like UTF-16; convert it to UTF-8"),
    ],
)
def test_broken_table_cannot_be_read(data: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        read(tmp_path, data)
    assert str(caught.value) == f"{tmp_path / 'a.csv'}{message}"


def test_cells_may_be_longer_than_the_modules_default(tmp_path: Path) -> None:
    (document,) = documents(read(tmp_path, b"text\n" + b"a" * 1_000_000 + b"\n"))
    assert len(document.text) == 1_000_000


def test_header_alone_has_no_rows(tmp_path: Path) -> None:
    assert read(tmp_path, b"text\n") == []


def test_text_column_may_be_called_id(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,n\n,1\n")
    assert reasons(list(read_source(path, fields=Fields(text="id")))) == ["text is empty"]
