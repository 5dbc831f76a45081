"""Comma- and tab-separated tables to documents."""

from __future__ import annotations

import io
from collections.abc import Iterator

from layerdex.choices import Format, Quoting
from layerdex.errors import SourceError
from layerdex.indexer.readers.broken_rows import BrokenRow
from layerdex.indexer.readers.columns import Columns, is_blank, strip_names
from layerdex.indexer.readers.dialect import Dialect
from layerdex.indexer.readers.encoding import ADVICE
from layerdex.indexer.readers.fields import Fields
from layerdex.indexer.readers.header import find_invalid, read_header
from layerdex.indexer.readers.quoting import (
    Reopen,
    Sample,
    decide_quoting,
    note_quotes,
)
from layerdex.indexer.readers.rows import Reading, read_row
from layerdex.indexer.readers.streams import first_window
from layerdex.indexer.readers.style import Style, recognise_style
from layerdex.records import Origin, Rejected


def read_delimited(
    stream: io.BufferedReader,
    source: str,
    fields: Fields,
    *,
    format: Format,
    dialect: Dialect,
    reopen: Reopen | None = None,
) -> Iterator[Reading]:
    """Read a table with a header; all cells are text.

    ``format`` is csv or tsv. What ``dialect`` leaves open is recognised in the first window, and
    the quoting of tsv in the whole source if it can be opened again. Raises
    `SourceError` for a header that is broken or lacks a field, and for a quote that is not closed
    within 1,000 lines before the end.
    """
    fields = strip_names(fields)
    window, is_whole = first_window(stream)
    style = recognise_style(window, source=source, fields=fields, format=format, dialect=dialect)
    is_ambiguous = False
    if style.quoting is Quoting.AUTO:
        in_window = Sample.of_window(window, is_whole=is_whole)
        sample = in_window if reopen is None else Sample(reopen, is_whole=True)
        style, is_ambiguous = decide_quoting(sample, style, source=source, fields=fields)
    rows = style.split(stream)
    if is_ambiguous and style.quoting is Quoting.NONE:
        rows = note_quotes(rows, source)
    columns = read_header(rows, style, source=source, fields=fields)
    fields = columns.fields
    for line, cells in rows:
        origin = Origin(source, line)
        if isinstance(cells, BrokenRow):
            yield _reject_broken(cells, origin, style, columns)
        elif (invalid := find_invalid(cells)) is not None:
            yield Rejected(origin, f"invalid UTF-8{columns.describe(invalid)}; {ADVICE}")
        elif not cells[0] and is_blank(cells):
            continue
        elif len(cells) == columns.n or columns.fits(cells):
            row = columns.strip(cells) if style.skips_blanks else cells
            yield read_row(columns.row(row), origin=origin, fields=fields)
        else:
            is_quoted = style.quoting is Quoting.CSV or '"' in "".join(cells)
            advice = "; see --quoting" if is_ambiguous and is_quoted else ""
            yield Rejected(origin, columns.misfit(cells) + advice)


def _reject_broken(row: BrokenRow, origin: Origin, style: Style, columns: Columns) -> Rejected:
    """Return the rejected row; raises `SourceError` where nobody knows the end of the row."""
    reason = row.reason(origin.line or 1, style.delimiter, columns)
    if row.ends_reading:
        raise SourceError(f"{origin}: {reason}")
    return Rejected(origin, reason)
