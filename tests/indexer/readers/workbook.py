"""Writing workbooks for the tests of spreadsheets, without a library to trust."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import BinaryIO
from xml.sax.saxutils import escape, quoteattr
from zipfile import ZIP_DEFLATED, ZipFile


@dataclass(frozen=True)
class Formula:
    """A formula, and the attributes of its cell and its value as XML."""

    text: str
    value: str = "<v></v>"
    attributes: str = ""


Cell = str | int | float | bool | date | datetime | timedelta | Formula | None

_XML = '<?xml version="1.0"?>'
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_EPOCH = datetime(1899, 12, 30)
_DATE, _MOMENT, _DURATION = 1, 2, 3  # places in the list of styles


def write_xlsx(
    target: Path | BinaryIO,
    sheets: Mapping[str, Sequence[Sequence[Cell]]],
    *,
    hidden: Sequence[str] = (),
    compression: int = ZIP_DEFLATED,
) -> None:
    """Write sheets of rows; a string such as ``#N/A`` is an error, as Excel stores it."""
    names = list(sheets)
    with ZipFile(target, "w", compression) as file:
        file.writestr("[Content_Types].xml", _content_types())
        file.writestr("_rels/.rels", _relations({"rId1": ("officeDocument", "xl/workbook.xml")}))
        file.writestr("xl/workbook.xml", _workbook(names, hidden))
        parts = {
            f"rId{i}": ("worksheet", f"worksheets/sheet{i}.xml") for i, _ in enumerate(names, 1)
        }
        parts["styles"] = ("styles", "styles.xml")
        file.writestr("xl/_rels/workbook.xml.rels", _relations(parts))
        file.writestr("xl/styles.xml", _styles())
        for i, rows in enumerate(sheets.values(), 1):
            file.writestr(f"xl/worksheets/sheet{i}.xml", _sheet(rows))


def _content_types() -> str:
    return (
        f'{_XML}<Types xmlns="{_PACKAGE}/content-types">'
        '<Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{_TYPE}.sheet.main+xml"/></Types>'
    )


def _relations(parts: Mapping[str, tuple[str, str]]) -> str:
    relations = "".join(
        f'<Relationship Id="{id_}" Type="{_OFFICE}/{kind}" Target="{target}"/>'
        for id_, (kind, target) in parts.items()
    )
    return f'{_XML}<Relationships xmlns="{_PACKAGE}/relationships">{relations}</Relationships>'


def _workbook(names: Sequence[str], hidden: Sequence[str]) -> str:
    states = ("visible", "hidden")
    sheets = "".join(
        f'<sheet name={quoteattr(name)} sheetId="{i}" r:id="rId{i}" '
        f'state="{states[name in hidden]}"/>'
        for i, name in enumerate(names, 1)
    )
    return (
        f'{_XML}<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets>{sheets}</sheets></workbook>'
    )


def _styles() -> str:
    numbers = "".join(f'<xf numFmtId="{number}"/>' for number in (0, 14, 22, 46))
    return f'{_XML}<styleSheet xmlns="{_MAIN}"><cellXfs count="4">{numbers}</cellXfs></styleSheet>'


def _sheet(rows: Sequence[Sequence[Cell]]) -> str:
    lines = "".join(
        f'<row r="{i}">{"".join(map(_cell, row))}</row>' for i, row in enumerate(rows, 1)
    )
    return f'{_XML}<worksheet xmlns="{_MAIN}"><sheetData>{lines}</sheetData></worksheet>'


def _cell(value: Cell) -> str:
    if value is None:
        return "<c/>"
    if isinstance(value, Formula):
        return f"<c {value.attributes}><f>{escape(value.text)}</f>{value.value}</c>"
    if isinstance(value, str) and not value.startswith("#"):
        text = f'<t xml:space="preserve">{escape(value)}</t>'
        return f'<c t="inlineStr"><is>{text}</is></c>'
    attributes, number = _number(value)
    return f"<c {attributes}><v>{number}</v></c>"


def _number(value: str | float | date | timedelta) -> tuple[str, object]:
    """Return the attributes of a cell that is not text, and what it stores."""
    if isinstance(value, str):
        return 't="e"', value
    if isinstance(value, bool):
        return 't="b"', int(value)
    if isinstance(value, datetime):
        return f's="{_MOMENT}"', (value - _EPOCH) / timedelta(days=1)
    if isinstance(value, date):
        return f's="{_DATE}"', (value - _EPOCH.date()).days
    if isinstance(value, timedelta):
        return f's="{_DURATION}"', value / timedelta(days=1)
    return "", value
