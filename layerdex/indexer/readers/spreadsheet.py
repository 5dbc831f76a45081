"""Sheets of Excel and LibreOffice workbooks to documents."""

from __future__ import annotations

import datetime as dt
import difflib
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from layerdex.errors import MissingPackageError, SourceError
from layerdex.indexer.readers.columns import EMPTY, Columns, strip_names
from layerdex.indexer.readers.fields import Fields
from layerdex.indexer.readers.formulas import CURE, Position, check_unpacked, note_unsaved
from layerdex.indexer.readers.row_size import MAX_ROW_BYTES, describe_long, is_long_row
from layerdex.indexer.readers.rows import Reading, read_row, refuse_once
from layerdex.indexer.readers.streams import OnBytes, named_errors, source_name
from layerdex.indexer.readers.values import Unreadable
from layerdex.records import Origin, Rejected

logger = logging.getLogger(__name__)

EXACT_INTEGER = 2**53
"""From here on a float may have lost digits."""

_UNSAVED = Unreadable(f"it is a formula without a saved value: {CURE}")


def read_spreadsheet(
    path: Path,
    fields: Fields,
    *,
    sheet: str | None = None,
    on_bytes: OnBytes | None = None,
    max_row_bytes: int = MAX_ROW_BYTES,
) -> Iterator[Reading]:
    """Read a sheet, by default the first; ``origin.line`` is the number of its row from 1.

    Cells keep their types; whole numbers are integers, and a formula is its stored value. A cell
    with an error, such as #N/A, is null, and so is a formula without a value, which is logged. A
    sheet lies whole in memory. ``on_bytes`` gets the file's size in proportion to the rows. Raises
    `SourceError` for a file that is no workbook, a sheet that it lacks and a header without a
    field; `MissingPackageError` without python-calamine.
    """
    source = source_name(path)
    fields = strip_names(fields)
    check_unpacked(path, max_row_bytes)
    rows = _rows(path, source, sheet, on_bytes)
    _, header = next(rows, (1, []))
    if not header:
        raise SourceError(f"{source}: is empty; the first row must name the columns")
    columns = Columns([str(_plain(cell)) for cell in header], source=source, fields=fields)
    readings = _read_rows(rows, columns, max_row_bytes, source=source, fields=columns.fields)
    yield from refuse_once(readings)


def _read_rows(
    rows: Iterable[tuple[int, list[Any]]],
    columns: Columns,
    max_row_bytes: int,
    *,
    source: str,
    fields: Fields,
) -> Iterator[Reading]:
    for line, cells in rows:
        origin = Origin(source, line)
        if is_long_row(cells, max_row_bytes):
            yield Rejected(origin, describe_long(max_row_bytes))
            continue
        values = [_plain(cell) for cell in cells]
        if not columns.fits(values):
            yield Rejected(origin, columns.misfit(values))
            continue
        row = columns.row(values)
        if columns.text_position is not None and cells[columns.text_position] is _UNSAVED:
            row = {**row, fields.text: _UNSAVED}
        yield read_row(row, origin=origin, fields=fields)


def _rows(
    path: Path, source: str, name: str | None, on_bytes: OnBytes | None
) -> Iterator[tuple[int, list[Any]]]:
    """Yield the number and the cells of each row with a value."""
    calamine = import_calamine()
    try:
        with named_errors(source), path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            workbook = calamine.CalamineWorkbook.from_filelike(file)
            chosen = _choose_sheet(workbook, calamine, source, name)
            sheet = workbook.get_sheet_by_name(chosen)
            unsaved = _by_line(note_unsaved(path, chosen))
            n_rows = sheet.end[0] + 1 if sheet.end else 1
            n_counted = 0
            # The cells of a row begin at the sheet's first column with a value.
            first_column = sheet.start[1] if sheet.start else 0
            for line, cells in enumerate(sheet.iter_rows(), start=1):
                if on_bytes is not None:
                    n_before, n_counted = n_counted, size * line // n_rows
                    on_bytes(n_counted - n_before)
                for column in unsaved.get(line, ()):
                    if 0 <= column - first_column < len(cells):
                        cells[column - first_column] = _UNSAVED
                if not all(cell in EMPTY for cell in cells):
                    yield line, cells
    except calamine.PasswordError:
        raise SourceError(f"{source}: is protected by a password; save it without one") from None
    except calamine.CalamineError as error:
        reason = str(error).partition("\n")[0]
        raise SourceError(f"{source}: is no readable spreadsheet: {reason}") from error


def _by_line(positions: Iterable[Position]) -> dict[int, list[int]]:
    columns: dict[int, list[int]] = {}
    for line, column in positions:
        columns.setdefault(line, []).append(column)
    return columns


def import_calamine() -> Any:
    """Import python-calamine. Raises `MissingPackageError`."""
    try:
        import python_calamine
    except ImportError:
        raise MissingPackageError(
            "spreadsheets are read with python-calamine, which is not installed: "
            "pip install 'layerdex[xlsx]'"
        ) from None
    return python_calamine


def _choose_sheet(workbook: Any, calamine: Any, source: str, name: str | None) -> str:
    worksheets = [
        sheet for sheet in workbook.sheets_metadata if sheet.typ is calamine.SheetTypeEnum.WorkSheet
    ]
    names: list[str] = [sheet.name for sheet in worksheets]
    listed = ", ".join(map(repr, names))
    if name is not None:
        if name not in names:
            close = difflib.get_close_matches(name, names, 1)
            advice = f"; try --sheet {close[0]!r}" if close else ""
            raise SourceError(f"{source}: no sheet {name!r}; there is {listed or 'none'}{advice}")
        return name
    is_visible = calamine.SheetVisibleEnum.Visible
    shown = [sheet.name for sheet in worksheets if sheet.visible == is_visible] or names
    if not shown:
        raise SourceError(f"{source}: has no sheet with cells")
    if len(names) > 1:
        logger.warning(
            "%s: sheet %r is read, of %s; --sheet names another one", source, shown[0], listed
        )
    return shown[0]


def _plain(cell: object) -> object:
    """Return a cell's value; a spreadsheet stores the number 3 as 3.0."""
    if cell is _UNSAVED:
        return ""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < EXACT_INTEGER:
        return int(cell)
    return str(cell) if isinstance(cell, dt.timedelta) else cell
