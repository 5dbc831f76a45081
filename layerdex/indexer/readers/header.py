"""The first row of csv and tsv, which names the columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from layerdex.errors import SourceError
from layerdex.indexer.readers.broken_rows import BrokenRow
from layerdex.indexer.readers.columns import Columns
from layerdex.indexer.readers.dialect import delimiter_word
from layerdex.indexer.readers.encoding import ADVICE
from layerdex.indexer.readers.fields import Fields
from layerdex.indexer.readers.style import DELIMITERS, RawRow, Style

N_ROWS_BELOW = 9
"""Titles and remarks above a header are a few rows."""


def read_header(rows: Iterator[RawRow], style: Style, *, source: str, fields: Fields) -> Columns:
    """Take the first row and return its columns; raises `SourceError` where it names none."""
    line, header = next(rows, (1, []))
    if not header:
        raise SourceError(f"{source}: is empty; the first row must name the columns")
    if isinstance(header, BrokenRow):
        advice = "" if header.is_long else "; --quoting none reads quotes as text"
        raise SourceError(f"{source}:{line}: broken header: {header.error}{advice}")
    if find_invalid(header) is not None:
        raise SourceError(f"{source}:{line}: invalid UTF-8 in the header; {ADVICE}")
    name = header[0].strip()
    other = next((mark for mark in DELIMITERS if mark in name), None)
    if len(header) == 1 and other is not None and name not in fields.text_names:
        raise SourceError(
            f"{source}: no text field {fields.text!r}; there is {name!r}, read with the delimiter "
            f"{delimiter_word(style.delimiter)}; try --delimiter {delimiter_word(other)}"
        )
    try:
        return Columns(header, source=source, fields=fields)
    except SourceError as error:
        below = None if fields.text in map(str.strip, header) else find_header(rows, fields)
        if below is None:
            raise
        advice = f"line {below} names it: remove what is above that line"
        raise SourceError(f"{error}; {advice}") from None


def find_header(rows: Iterable[RawRow], fields: Fields) -> int | None:
    """Return the line of the first rows below a title that names the text, None if none does."""
    for line, cells in islice(rows, N_ROWS_BELOW):
        if not isinstance(cells, BrokenRow) and fields.text in map(str.strip, cells):
            return line
    return None


def find_invalid(cells: Sequence[str]) -> int | None:
    """Return the position of the first cell with bytes that are not UTF-8."""
    for position, cell in enumerate(cells):
        try:
            if not cell.isascii():
                cell.encode()
        except UnicodeEncodeError:
            return position
    return None
