"""The first row of csv and tsv, which names the columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from layerdex.errors import SourceError
from layerdex.indexer.readers.broken_rows import BrokenRow
from layerdex.indexer.readers.columns import Columns
from layerdex.indexer.readers.dialect import delimiter_word
from layerdex.indexer.readers.encoding import ADVICE
from layerdex.indexer.readers.fields import Fields
from layerdex.indexer.readers.style import DELIMITERS, RawRow, Style


def read_header(rows: Iterator[RawRow], style: Style, *, source: str, fields: Fields) -> Columns:
    """Take the first row and return its columns; raises `SourceError` where it names none."""
    line, header = next(rows, (1, []))
    if not header:
        raise SourceError(f"{source}: is empty; the first row must name the columns")
    if isinstance(header, BrokenRow):
        raise SourceError(
            f"{source}:{line}: broken header: {header.error}; --quoting none reads quotes as text"
        )
    if find_invalid(header) is not None:
        raise SourceError(f"{source}:{line}: invalid UTF-8 in the header; {ADVICE}")
    name = header[0].strip()
    other = next((mark for mark in DELIMITERS if mark in name), None)
    if len(header) == 1 and other is not None and name != fields.text:
        raise SourceError(
            f"{source}: no text field {fields.text!r}; there is {name!r}, read with the delimiter "
            f"{delimiter_word(style.delimiter)}; try --delimiter {delimiter_word(other)}"
        )
    return Columns(header, source=source, fields=fields)


def find_invalid(cells: Sequence[str]) -> int | None:
    """Return the position of the first cell with bytes that are not UTF-8."""
    for position, cell in enumerate(cells):
        try:
            if not cell.isascii():
                cell.encode()
        except UnicodeEncodeError:
            return position
    return None
