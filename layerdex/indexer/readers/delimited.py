"""Comma- and tab-separated tables to documents."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import BinaryIO

from layerdex.errors import SourceError
from layerdex.indexer.readers.fields import Fields, check_columns
from layerdex.indexer.readers.rows import Reading, read_row
from layerdex.records import Origin, Rejected

MAX_CELL_CHARACTERS = 1 << 28
"""Longer than any real text; it stops an unclosed quote from reading the whole file."""

RawRow = tuple[int, list[str] | csv.Error]
"""The line where a row starts, and its cells or the error of the parser."""


def read_csv(stream: BinaryIO, source: str, fields: Fields) -> Iterator[Reading]:
    """Read a comma-separated table with a header; all cells are text."""
    return _read_table(stream, source, fields, delimiter=",")


def read_tsv(stream: BinaryIO, source: str, fields: Fields) -> Iterator[Reading]:
    """Read a tab-separated table with a header; quoting is as in a comma-separated one."""
    return _read_table(stream, source, fields, delimiter="\t")


def _read_table(
    stream: BinaryIO, source: str, fields: Fields, *, delimiter: str
) -> Iterator[Reading]:
    rows = _split_rows(stream, source, delimiter=delimiter)
    header = _header(rows, source)
    check_columns(header, fields=fields, source=source)
    for line, cells in rows:
        yield _read_cells(cells, header, Origin(source, line), fields)


def _split_rows(stream: BinaryIO, source: str, *, delimiter: str) -> Iterator[RawRow]:
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    # Invalid bytes become surrogates, so that only their row is rejected.
    text = io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells: list[str] | csv.Error = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end" in str(error) or "field limit" in str(error):
                reason = "a quote in the row that starts here is never closed"
                raise SourceError(f"{source}:{line}: {reason}") from None
            cells = error
        if cells:
            yield line, cells


def _header(rows: Iterator[RawRow], source: str) -> list[str]:
    line, header = next(rows, (1, []))
    if not header:
        raise SourceError(f"{source}: is empty; the first row must name the columns")
    if isinstance(header, csv.Error):
        raise SourceError(f"{source}:{line}: broken header: {header}")
    if _find_invalid(header) is not None:
        raise SourceError(f"{source}:{line}: invalid UTF-8 in the header")
    return header


def _read_cells(
    cells: list[str] | csv.Error, header: list[str], origin: Origin, fields: Fields
) -> Reading:
    if isinstance(cells, csv.Error):
        return Rejected(origin, f"broken quoting: {cells}")
    if (invalid := _find_invalid(cells)) is not None:
        where = f" in column {header[invalid]!r}" if invalid < len(header) else ""
        return Rejected(origin, f"invalid UTF-8{where}")
    if len(cells) != len(header):
        n_cells = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
        return Rejected(origin, f"{n_cells}, but the header has {len(header)}")
    # An empty cell is null, but an empty text stays, to be rejected as such.
    row = {
        name: cell if cell or name == fields.text else None
        for name, cell in zip(header, cells, strict=True)
    }
    return read_row(row, origin=origin, fields=fields)


def _find_invalid(cells: list[str]) -> int | None:
    for position, cell in enumerate(cells):
        try:
            if not cell.isascii():
                cell.encode()
        except UnicodeEncodeError:
            return position
    return None
