"""Formulas of workbooks with and without the value that a program saves with them."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pytest

from layerdex.indexer.readers import Dialect, read_source
from layerdex.records import SourceDocument
from tests.indexer.readers.sources import documents, reasons
from tests.indexer.readers.workbook import Cell, Formula, write_xlsx

CURE = "open and save the file in Excel or LibreOffice"
SAVED = Formula('IF(A1>1,"wet","dry")', "<v>wet</v>", 't="str"')
UNSAVED = Formula('IF(A1>1,"wet","dry")')


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.xlsx"


def test_formulas_without_a_value_are_noted_and_null(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows: list[list[Cell]] = [
        [None, "text", "label", "n"],
        [1, "a", SAVED, Formula("1+1", "<v>2</v>")],
        [2, "b", UNSAVED, Formula("1+1", "<v/>")],
        [3, "c", Formula("A1", ""), 3],
    ]
    write_xlsx(path, {"Table": rows})
    readings = documents(list(read_source(path)))
    assert [(one.text, one.label, one.metadata) for one in readings] == [
        ("a", "wet", {"n": 2}),
        ("b", None, {"n": None}),
        ("c", None, {"n": 3}),
    ]
    note = f"{path}: 3 formulas without a saved value, read as empty (first in C3): {CURE}"
    assert note in caplog.messages


def test_the_positions_count_from_the_first_column_of_the_sheet(path: Path) -> None:
    rows: list[list[Cell]] = [
        [None, "text", "label", "n"],
        [None, "a", Formula("A1"), "keep"],
        [None, Formula("A1"), "x", "too"],
    ]
    write_xlsx(path, {"Table": rows})
    readings = list(read_source(path))
    first = readings[0]
    assert isinstance(first, SourceDocument)
    assert (first.text, first.label, first.metadata) == ("a", None, {"n": "keep"})
    assert "a formula without a saved value" in str(reasons(readings[1:])[0])


def test_a_text_that_is_such_a_formula_is_rejected_as_one(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_xlsx(path, {"Table": [["text", "n"], [UNSAVED, 1], ["fine", 2], [None, 3]]})
    reason = f"text cannot be read: it is a formula without a saved value: {CURE}"
    assert reasons(list(read_source(path))) == [reason, None, "text is empty"]
    assert caplog.messages == [
        f"{path}: 1 formula without a saved value, read as empty (first in A2): {CURE}"
    ]


@pytest.mark.parametrize(
    "formula",
    [
        SAVED,
        Formula("A1", "<v>0</v>"),
        Formula("NA()", "<v>#N/A</v>", 't="e"'),
        Formula('""', "<v></v>", 't="str"'),
    ],
)
def test_saved_values_are_not_noted(
    path: Path, formula: Formula, caplog: pytest.LogCaptureFixture
) -> None:
    write_xlsx(path, {"Table": [["text", "n"], ["fine", formula]]})
    assert len(documents(list(read_source(path)))) == 1
    assert caplog.messages == []


def test_only_formulas_of_the_sheet_that_is_read_count(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows: list[list[Cell]] = [["text", "n"], ["fine", UNSAVED]]
    write_xlsx(path, {"Plain": [["text"], ["fine"]], "Sums & more": rows})
    documents(list(read_source(path)))
    assert not any("saved value" in message for message in caplog.messages)
    documents(list(read_source(path, dialect=Dialect(sheet="Sums & more"))))
    assert any("(first in B2)" in message for message in caplog.messages)


def test_cells_are_placed_by_their_references_and_found_under_any_prefix(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_xlsx(path, {"Table": [["text"], ["fine"]]})
    with ZipFile(path) as file:
        parts = {name: file.read(name).decode() for name in file.namelist()}
    name = "xl/worksheets/sheet1.xml"
    parts[name] = (
        '<x:worksheet xmlns:x="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
        '<x:sheetData><x:row r="1"><x:c r="A1" t="inlineStr"><x:is><x:t>text</x:t></x:is></x:c>'
        '</x:row><x:row r="7"><x:c r="A7" t="inlineStr"><x:is><x:t>fine</x:t></x:is></x:c>'
        '<x:c r="AB7"><x:f>1</x:f></x:c></x:row></x:sheetData></x:worksheet>'
    )
    with ZipFile(path, "w", ZIP_DEFLATED) as file:
        for part, content in parts.items():
            file.writestr(part, content)
    (document,) = documents(list(read_source(path)))
    assert (document.text, document.origin.line) == ("fine", 7)
    assert f"{path}: 1 formula without a saved value, read as empty (first in AB7): {CURE}" in (
        caplog.messages
    )
