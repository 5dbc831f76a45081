from __future__ import annotations

import sys
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from layerdex.errors import MissingPackageError, SourceError
from layerdex.indexer.readers import Dialect, Fields, read_source
from layerdex.indexer.readers.sources import read_all
from layerdex.records import UNSET
from tests.indexer.readers.sources import documents, reasons
from tests.indexer.readers.workbook import Cell, write_xlsx

Rows = list[list[Cell]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.xlsx"


def test_a_row_is_a_document(path: Path) -> None:
    rows: Rows = [
        ["id", "text", "label", "stars"],
        [7, "Größe, <b>", "x", 4.5],
        ["b", " two\nlines", 0, 3],
    ]
    write_xlsx(path, {"Table": rows})
    first, second = documents(list(read_source(path)))
    assert (first.id, first.text, first.label) == ("7", "Größe, <b>", "x")
    assert (second.id, second.text, second.label) == ("b", " two\nlines", "0")
    assert (first.metadata, second.metadata) == ({"stars": 4.5}, {"stars": 3})
    assert type(second.metadata["stars"]) is int
    assert [str(one.origin) for one in (first, second)] == [f"{path}:2", f"{path}:3"]


def test_cells_keep_their_types(path: Path) -> None:
    cells: dict[str, tuple[Cell, object]] = {
        "day": (date(2024, 2, 29), "2024-02-29"),
        "moment": (datetime(2024, 2, 29, 13, 30), "2024-02-29T13:30:00"),
        "duration": (timedelta(hours=1, minutes=30), "1:30:00"),
        "flag": (True, True),
        "zero": (0, 0),
        "off": (False, False),
        "large": (1e15, 10**15),
        "beyond": (1e17, 1e17),
        "error": ("#N/A", None),
        "division": ("#DIV/0!", None),
        "empty": (None, None),
        "2024": ("x", "x"),
    }
    header = [2024 if name == "2024" else name for name in cells]
    rows: Rows = [["text", *header], ["a", *(cell for cell, _ in cells.values())]]
    write_xlsx(path, {"Table": rows})
    (document,) = documents(list(read_source(path)))
    expected = {name: value for name, (_, value) in cells.items()}
    assert repr(dict(document.metadata)) == repr(expected)


def test_an_empty_or_broken_text_is_rejected(path: Path) -> None:
    rows: Rows = [["text", "n"], [None, 1], ["#N/A", 2], [5, 3], ["fine", 4]]
    write_xlsx(path, {"Table": rows})
    readings = list(read_source(path))
    assert reasons(readings) == [
        "text is empty",
        "text is empty",
        "text is not a string (int)",
        None,
    ]


def test_columns_follow_the_rules_of_csv(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows: Rows = [
        [None, None, None, None],
        [None, " text ", "n", None],
        [0, "a", 1, None],
        [None, None, None, None],
        [1, "b", None, None],
    ]
    write_xlsx(path, {"Table": rows})
    readings = documents(list(read_source(path, fields=Fields(text="text "))))
    assert [(one.text, one.metadata, one.origin.line) for one in readings] == [
        ("a", {"n": 1}, 3),
        ("b", {"n": None}, 5),
    ]
    assert {(one.id, one.label) for one in readings} == {(None, UNSET)}
    assert caplog.messages == [f"{path}: column 1 has values but no name, and is left out"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "is empty; the first row must name the columns"),
        ([["text", "n", " n"], ["a", 1, 2]], "'n' is the name of more than one column"),
        ([["id", "body"], [1, "a"]], "no text field 'text'; there is 'id', 'body'; try --text-f"),
    ],
)
def test_a_bad_header_is_an_error(rows: Rows, message: str, path: Path) -> None:
    write_xlsx(path, {"Table": rows})
    with pytest.raises(SourceError) as caught:
        list(read_source(path))
    assert str(caught.value).startswith(f"{path}: {message}")


def test_the_first_shown_sheet_is_read_or_the_one_named(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sheets = {name: [["text"], [f"of {name}"]] for name in ("Hidden", "First", "Second one")}
    write_xlsx(path, sheets, hidden=["Hidden"])
    (document,) = documents(list(read_source(path)))
    assert document.text == "of First"
    assert caplog.messages == [
        f"{path}: sheet 'First' is read, of 'Hidden', 'First', 'Second one'; --sheet names another "
        "one"
    ]
    for name in ("Second one", "Hidden"):
        (document,) = documents(list(read_source(path, dialect=Dialect(sheet=name))))
        assert document.text == f"of {name}"
    with pytest.raises(SourceError) as caught:
        list(read_source(path, dialect=Dialect(sheet="Second")))
    assert str(caught.value) == (
        f"{path}: no sheet 'Second'; there is 'Hidden', 'First', 'Second one'; "
        "try --sheet 'Second one'"
    )


@pytest.mark.parametrize("content", [b"", b"text,n\n", b"PK\x03\x04damaged"])
def test_a_file_that_is_no_workbook_is_an_error(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"a\.xlsx: is no readable spreadsheet: "):
        list(read_source(path))


def test_bytes_are_counted_to_the_end(path: Path) -> None:
    write_xlsx(path, {"Table": [["text"], *([f"text {i}"] for i in range(100))]})
    counts: list[tuple[int, int]] = []
    readings = read_all([path], on_bytes=lambda done, total: counts.append((done, total)))
    assert len(list(readings)) == 100
    size = path.stat().st_size
    assert counts == sorted(counts)
    assert counts[-1] == (size, size)


def test_without_the_package_the_extra_is_named(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    write_xlsx(path, {"Table": [["text"], ["a"]]})
    with pytest.raises(MissingPackageError, match=r"pip install 'layerdex\[xlsx\]'"):
        list(read_source(path))
