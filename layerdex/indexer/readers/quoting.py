"""Whether quotes in a tab-separated table enclose cells or are part of the text.

Data sets such as GLUE's and MS MARCO's are written without quoting, tables of pandas and Excel
with it. A text that begins with a quote looks alike in both, so the number of cells decides.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from typing import BinaryIO

from layerdex.choices import Quoting
from layerdex.errors import SourceError
from layerdex.indexer.readers.broken_rows import BrokenRow
from layerdex.indexer.readers.columns import is_blank
from layerdex.indexer.readers.dialect import UTF_8
from layerdex.indexer.readers.fields import Fields
from layerdex.indexer.readers.header import read_header
from layerdex.indexer.readers.row_size import bound_lines, is_long_line
from layerdex.indexer.readers.streams import CHUNK_BYTES
from layerdex.indexer.readers.style import RawRow, Style

logger = logging.getLogger(__name__)

_QUOTED_CELL = re.compile(rb'"[^"]*(?:""[^"]*)*"')
_HOLDS_ROWS = "a cell encloses whole lines of as many cells as the header"

Reopen = Callable[[], AbstractContextManager[BinaryIO]]
"""Opens a source again from its start."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The rows that decide: all of a source, or those of its first window."""

    reopen: Reopen
    is_whole: bool

    @classmethod
    def of_window(cls, window: bytes, *, is_whole: bool) -> Sample:
        """Return the rows of a window, without the last line where it may be cut."""
        lines = window if is_whole else window[: window.rfind(b"\n") + 1]
        return cls(lambda: nullcontext(io.BytesIO(lines)), is_whole)

    def lines_after(self, line: int) -> str:
        """Return the text from the end of a line on."""
        with self.reopen() as stream:
            return "\n" + b"".join(islice(stream, line, None)).decode(UTF_8, "replace")


@dataclass(frozen=True, slots=True)
class _Misfit:
    """The first row that does not fit a header; ``line`` is None for the header's own fault."""

    line: int | None
    reason: str


def decide_quoting(
    sample: Sample, style: Style, *, source: str, fields: Fields
) -> tuple[Style, bool]:
    """Return the style with the quoting that the sample shows, and whether there is another one.

    Quotes enclose cells where all do as csv has it, and some are doubled. Otherwise they are text
    where each line then fits the header, else they enclose cells where each row then fits. The
    readings differ, or may do so after the sample, where a cell begins with a quote; then the
    decision is logged. Raises `SourceError` where such a table fits neither.
    """
    plain, quoted = (replace(style, quoting=quoting) for quoting in (Quoting.NONE, Quoting.CSV))
    if not _has_quotes(sample, style):
        return plain, not sample.is_whole
    if _doubles_quotes(sample, style) and _find_misfit(sample, quoted, source, fields) is None:
        _note_quoted(source, "quotes within them are doubled")
        return quoted, True
    unfit = _find_misfit(sample, plain, source, fields)
    unfit_quoted = None if unfit is None else _find_misfit(sample, quoted, source, fields)
    if unfit is None or (unfit_quoted is not None and unfit_quoted.line is None):
        return plain, True  # where neither header fits, reading the plain one says why
    if unfit_quoted is None or unfit.line is None:
        where = "the header" if unfit.line is None else f"line {unfit.line}"
        _note_quoted(source, f"{where} does not fit otherwise")
        return quoted, True
    raise SourceError(
        f"{source}:{unfit.line}: {unfit.reason}; with quotes that enclose cells line "
        f"{unfit_quoted.line} does not fit either ({unfit_quoted.reason}); choose with "
        "--quoting none or --quoting csv"
    )


def _note_quoted(source: str, reason: str) -> None:
    logger.warning(
        "%s: quotes enclose cells, as %s; --quoting none reads them as part of the text",
        source,
        reason,
    )


def note_quotes(rows: Iterator[RawRow], source: str) -> Iterator[RawRow]:
    """Log at the first cell that begins with a quote that it is read as text."""
    for line, cells in rows:
        if not isinstance(cells, BrokenRow) and any(cell.startswith('"') for cell in cells):
            logger.warning(
                "%s:%d: quotes are part of the text, as every line fits the header so; "
                "--quoting csv lets them enclose cells",
                source,
                line,
            )
            yield line, cells
            break
        yield line, cells
    yield from rows


def _has_quotes(sample: Sample, style: Style) -> bool:
    """Return whether a cell begins with a quote."""
    delimiter, blanks = re.escape(style.delimiter).encode(), b" *" if style.skips_blanks else b""
    quote = re.compile(rb'(?:^|\r|%b)%b"' % (delimiter, blanks))
    with sample.reopen() as stream:
        if not any(b'"' in chunk for chunk in iter(lambda: stream.read(CHUNK_BYTES), b"")):
            return False  # as of most files, which is found ten times as fast as line by line
    with sample.reopen() as stream:
        lines = bound_lines(stream, style.max_row_bytes)
        return any(b'"' in line and quote.search(line) for line in lines)


def _doubles_quotes(sample: Sample, style: Style) -> bool:
    """Return whether every quote is one of a quoted cell, and some cell has doubled ones.

    pandas and Excel quote each cell that has a quote, and double it. Text that was written without
    quoting hardly ever looks so.
    """
    delimiter, n_doubled = style.delimiter.encode(), 0
    with sample.reopen() as stream:
        for line in bound_lines(stream, style.max_row_bytes):
            if is_long_line(line, style.max_row_bytes):
                continue  # it is rejected in any case
            for cell in line.rstrip(b"\r\n").split(delimiter) if b'"' in line else ():
                if b'"' in cell and not _QUOTED_CELL.fullmatch(cell):
                    return False
                n_doubled += b'""' in cell[1:-1]
    return n_doubled > 0


def _find_misfit(sample: Sample, style: Style, source: str, fields: Fields) -> _Misfit | None:
    is_quoted = style.quoting is Quoting.CSV
    with sample.reopen() as stream:
        rows = style.split(stream)
        try:
            columns = read_header(rows, style, source=source, fields=fields)
        except SourceError as error:
            return _Misfit(None, str(error))
        for line, cells in rows:
            if isinstance(cells, BrokenRow):
                if cells.is_long and cells.n_lines == 1:
                    continue  # it is rejected in any case
                if sample.is_whole or not cells.is_unclosed:
                    return _Misfit(line, f"broken quoting: {cells.error}")
                # The row may go on after the sample.
                rest = sample.lines_after(line)
                is_row = _holds_rows(rest, style.delimiter, columns.n)
                return _Misfit(line, _HOLDS_ROWS) if is_row else None
            if len(cells) != columns.n and not columns.fits(cells) and not is_blank(cells):
                return _Misfit(line, columns.misfit(cells))
            if is_quoted and any(_holds_rows(cell, style.delimiter, columns.n) for cell in cells):
                return _Misfit(line, _HOLDS_ROWS)
    return None


def _holds_rows(cell: str, delimiter: str, n_columns: int) -> bool:
    """Return whether a quote without a partner may have made a cell of several rows."""
    if "\n" not in cell or delimiter not in cell:
        return False
    return any(line.count(delimiter) >= n_columns - 1 > 0 for line in cell.split("\n")[1:-1])
