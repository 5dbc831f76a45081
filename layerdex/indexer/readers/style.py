"""How a table is written: what separates its cells, and what its quotes mean."""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO

from layerdex.choices import Format, Quoting
from layerdex.indexer.readers.broken_rows import BrokenRow, LongRowError, RereadLines
from layerdex.indexer.readers.cells import Cells
from layerdex.indexer.readers.dialect import UTF_8, Dialect, delimiter_word
from layerdex.indexer.readers.fields import Fields
from layerdex.indexer.readers.row_size import CHUNK_BYTES, BoundedLines

if TYPE_CHECKING:
    from _csv import Reader as CsvReader

logger = logging.getLogger(__name__)

TAB = "\t"
USUAL_DELIMITERS = {Format.CSV: ",", Format.TSV: TAB}
DELIMITERS = (",", ";", TAB, "|")
"""What may separate the cells of csv, likeliest first."""

MAX_CELL_CHARACTERS = (1 << 31) - 1
"""The most that the parser can be told on every system."""

N_ROWS_TRIED = 20
"""Rows that tell whether blanks follow the delimiters."""

_SEP_LINE = re.compile(r'"?sep=([^"\0\r\n\ud800-\udfff])"?(\r\n|\r|\n)', re.IGNORECASE)
"""The first line by which Excel is told the delimiter."""

RawRow = tuple[int, list[str] | BrokenRow]
"""The line where a row starts, and its cells."""


@dataclass(frozen=True, slots=True)
class Style:
    """How the cells of a table are separated.

    ``skips_blanks`` tells that blanks after delimiters belong to no cell. ``n_lead`` is the number
    of bytes of a line before the header. ``quoting`` is ``auto`` where only the rows decide it. A
    row of more than ``max_row_bytes`` is a broken one.
    """

    delimiter: str
    quoting: Quoting
    skips_blanks: bool
    n_lead: int
    max_row_bytes: int

    def split(self, stream: BinaryIO) -> Iterator[RawRow]:
        """Yield the rows of a stream of UTF-8, without blank lines.

        Invalid bytes become surrogates, so that only their row is rejected. After a broken row, the
        lines below its first are read again. A row that is too long is yielded before its end is
        known, and again if a quote in it is never closed.
        """
        csv.field_size_limit(MAX_CELL_CHARACTERS)
        bounded = BoundedLines(stream, self.max_row_bytes, line_ends=(b"\n", b"\r"))
        buffered = io.BufferedReader(bounded, CHUNK_BYTES)
        n_before = buffered.read(self.n_lead).count(b"\n")
        text = io.TextIOWrapper(buffered, encoding=UTF_8, errors="surrogateescape", newline="")
        lines = RereadLines(text, self.max_row_bytes, bounded)
        reader = self._parse(lines)
        while True:
            line = n_before + reader.line_num + 1
            lines.start_row()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                last = n_before + reader.line_num
                broken = lines.break_row(error, n_lines=last + 1 - line)
                yield line, broken
                n_before = line if broken.is_first_line else last
                reader = self._parse(lines)
                continue
            except LongRowError as error:
                # The parser has not counted the line with which a row is too long.
                n_lines = n_before + reader.line_num + 2 - line
                yield line, lines.leave_row(error, n_lines=n_lines)
                n_lines, after = self._pass_row(lines, n_lines)
                if after is not None and after.ends_reading:
                    yield line, after
                is_again = after is not None and after.is_first_line
                n_before = line if is_again else line + n_lines - 1
                reader = self._parse(lines)
                continue
            # "!" is the first character beyond the blanks, and comparing is faster than stripping.
            if cells and (cells[0] >= "!" or not lines.is_blank):
                yield line, cells

    def _pass_row(self, lines: RereadLines, n_lines: int) -> tuple[int, BrokenRow | None]:
        if self.quoting is Quoting.NONE:
            return n_lines, None
        return lines.pass_row(Cells(self.delimiter, self.skips_blanks), n_lines=n_lines)

    def _parse(self, lines: Iterable[str]) -> CsvReader:
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quoting=csv.QUOTE_NONE if self.quoting is Quoting.NONE else csv.QUOTE_MINIMAL,
            skipinitialspace=self.skips_blanks,
            strict=True,
        )


def recognise_style(
    window: bytes, *, source: str, fields: Fields, format: Format, dialect: Dialect
) -> Style:
    """Return the style of the table that begins with ``window``; log another delimiter than usual.

    ``format`` is csv or tsv. The delimiter of csv is the one by which the header names the text, or
    has most cells.
    """
    text = window.decode(UTF_8, "surrogateescape")
    sep_line = _SEP_LINE.match(text)
    if sep_line is not None:
        text = text[sep_line.end() :]
    delimiter = dialect.delimiter or (sep_line[1] if sep_line else None)
    delimiter = delimiter or (TAB if format is Format.TSV else _likeliest(text, fields))
    if delimiter not in (USUAL_DELIMITERS[format], dialect.delimiter):
        word = delimiter_word(delimiter)
        logger.warning("%s: read with the delimiter %s; see --delimiter", source, word)
    skips_blanks = format is Format.CSV and _has_blanks_after_delimiters(text, delimiter)
    if skips_blanks:
        logger.warning("%s: blanks after the delimiters are read as part of no cell", source)
    quoting = Quoting(dialect.quoting)
    if quoting is Quoting.AUTO and format is Format.CSV:
        quoting = Quoting.CSV
    return Style(
        delimiter=delimiter,
        quoting=quoting,
        skips_blanks=skips_blanks,
        n_lead=len(sep_line[0].encode()) if sep_line else 0,
        max_row_bytes=dialect.max_row_bytes,
    )


def has_sep_line(text: str) -> bool:
    """Return whether the first line tells the delimiter."""
    return _SEP_LINE.match(text) is not None


def column_names(text: str, delimiter: str) -> list[str]:
    """Return the names in the first line that is not blank, without blanks around them."""
    header = next(iter(first_rows(text, delimiter)), [])
    return [name.strip() for name in header]


def first_rows(text: str, delimiter: str) -> list[list[str]]:
    """Return the cells of the first rows of a text that have a value."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        return list(islice((row for row in rows if any(map(str.strip, row))), N_ROWS_TRIED))
    except csv.Error:
        return []


def _likeliest(text: str, fields: Fields) -> str:
    def merit(delimiter: str) -> tuple[bool, int]:
        names = column_names(text, delimiter)
        return any(name in names for name in fields.text_names), len(names)

    return max(DELIMITERS, key=merit)


def _has_blanks_after_delimiters(text: str, delimiter: str) -> bool:
    """Return whether blanks follow the delimiters of the header, or all those below it.

    Below it they tell only in several rows and columns, or before quotes: a text may be indented.
    """
    header, *below = first_rows(text, delimiter) or [[]]
    if len(header) > 1 and all(_begins_with_blank(name, text, delimiter) for name in header[1:]):
        return True
    cells = [
        (row, column, cell)
        for row, names in enumerate(below)
        for column, cell in enumerate(names)
        if column and cell.strip()
    ]
    if not all(_begins_with_blank(cell, text, delimiter) for _, _, cell in cells):
        return False
    n_rows, n_columns = (len({cell[i] for cell in cells}) for i in range(2))
    return (n_rows > 1 and n_columns > 1) or any(cell.lstrip()[0] == '"' for *_, cell in cells)


def _begins_with_blank(cell: str, text: str, delimiter: str) -> bool:
    """Return whether a cell has a blank before it; one within its quotes is part of it."""
    return cell.startswith(" ") and f"{delimiter}{cell}" in text
