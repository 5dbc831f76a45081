"""Rows with broken quoting: what is rejected, and where a table is read on.

A quote that is not closed takes in the lines below it, up to the next quote. So only the first line
of such a row is rejected, and the lines that it took in are read again. A row that is too long is
rejected at once, and passed over up to where its quotes end.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

from layerdex.indexer.readers.cells import Cells, Place
from layerdex.indexer.readers.columns import Columns
from layerdex.indexer.readers.dialect import UTF_8
from layerdex.indexer.readers.row_size import MOST_UTF8_BYTES, BoundedLines, describe_long

MAX_LINES = 1000
MAX_CHARACTERS = 1 << 20
"""A broken row of more lines or characters is rejected whole."""

N_READINGS = 4
"""All lines that are read again are at most so many times the text, so that time stays linear."""

_UNCLOSED = "unexpected end of data"
_QUOTES_AS_TEXT = "; --quoting none reads quotes as text"
_DOUBLED = '; quotes inside a cell are doubled in csv ("")'


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A row that the parser could not read: its error, first line and number of lines.

    ``is_unclosed`` tells that a quote was not closed before the end, or within the longest cell.
    ``is_first_line`` tells that the lines after the first are read again. ``is_long`` tells that
    the row was left because of its size, before its end was known.
    """

    error: str
    first: str
    n_lines: int
    is_first_line: bool
    is_long: bool

    @property
    def is_unclosed(self) -> bool:
        """Whether nobody found the end of the row."""
        return _UNCLOSED in self.error or "field limit" in self.error

    @property
    def ends_reading(self) -> bool:
        """Whether nobody knows where the next row begins."""
        return self.is_unclosed and not self.is_first_line

    def reason(self, line: int, delimiter: str, columns: Columns) -> str:
        """Return why the row that starts at a line is rejected, and what to do."""
        if self.is_long:
            return self.error
        end = line + self.n_lines - 1
        advice = self._advice(delimiter, columns)
        if self.is_unclosed:
            return f"a quote in the row that starts here is never closed{advice}"
        error = self.error
        if self.n_lines > 1 and self.is_first_line:
            error = f"a quote that opens here ends in line {end} ({error})"
        elif self.n_lines > 1:
            error += f" (lines {line}-{end} are rejected as one row of {self.n_lines:,} lines)"
        return f"broken quoting: {error}{advice}"

    def _advice(self, delimiter: str, columns: Columns) -> str:
        if '\\"' in self.first:
            return _DOUBLED
        if len(self.first) > MAX_CHARACTERS:
            return ""
        plain = csv.reader([self.first], delimiter=delimiter, quoting=csv.QUOTE_NONE)
        if columns.fits(next(plain, [])):
            return _QUOTES_AS_TEXT
        return "" if self.is_unclosed else _DOUBLED


class LongRowError(ValueError):
    """A row of more bytes than are allowed, whose last line was not given to the parser."""


class RereadLines:
    """The lines of a table, of which those that a broken row took in can be read again.

    Raises `LongRowError` instead of the line with which a row has more than ``max_row_bytes``.
    ``bounded`` is the stream below the lines, where they are cut.
    """

    def __init__(self, lines: Iterable[str], max_row_bytes: int, bounded: BoundedLines) -> None:
        self._lines = iter(lines)
        self._max_row_bytes = max_row_bytes
        self._bounded = bounded
        self._n_short = max_row_bytes // MOST_UTF8_BYTES  # characters that need no measuring
        self._n_bytes = 0
        self._first = ""
        self._last = ""
        self._row: deque[str] = deque(maxlen=MAX_LINES)
        self._again: deque[str] = deque()
        self._n_allowed = MAX_CHARACTERS

    def __iter__(self) -> Iterator[str]:
        """Return the lines that are read again, and then new ones."""
        return map(self._record, chain(self._take_again(), self._lines))

    def start_row(self) -> None:
        """Forget the lines of the last row."""
        self._row.clear()

    @property
    def is_blank(self) -> bool:
        """Whether the row is a blank line."""
        return self._first.isspace()

    def leave_row(self, error: LongRowError, *, n_lines: int) -> BrokenRow:
        """Return the broken row of the last lines, which is too long; `pass_row` finds its end."""
        return BrokenRow(str(error), self._first, n_lines, is_first_line=False, is_long=True)

    def break_row(self, error: csv.Error, *, n_lines: int) -> BrokenRow:
        """Return the broken row of the last lines; a new iteration yields those after its first.

        Where there are too many of them, it goes on after the row.
        """
        n_characters = sum(map(len, islice(self._row, 1, None)))
        n_most = min(MAX_CHARACTERS, self._n_allowed)
        is_first_line = n_lines <= MAX_LINES and n_characters <= n_most
        if is_first_line:
            self._n_allowed -= n_characters
            self._again.extendleft(list(self._row)[:0:-1])
        return BrokenRow(str(error), self._first, n_lines, is_first_line, is_long=False)

    def pass_row(self, cells: Cells, *, n_lines: int) -> tuple[int, BrokenRow | None]:
        """Read on to the end of a row that was too long with its last line, and keep none of it.

        Returns its number of lines, and a broken row, as `break_row` does, if that is no row.
        """
        place = Place.START if n_lines == 1 else Place.QUOTED
        place = self._follow(cells, place, self._last)
        self._last = ""
        n_characters = sum(map(len, islice(self._row, 1, None)))
        lines = chain(self._take_again(), self._lines)
        while place is Place.QUOTED and (line := next(lines, None)) is not None:
            n_lines += 1
            self._n_allowed += N_READINGS * len(line)
            if n_characters <= MAX_CHARACTERS:  # otherwise none of them is read again
                n_characters += len(line)
                self._row.append(_shorten(line))
            place = self._follow(cells, place, line)
        if place is Place.QUOTED:
            return n_lines, self.break_row(csv.Error(_UNCLOSED), n_lines=n_lines)
        if place is Place.BROKEN and n_lines > 1:
            return n_lines, self.break_row(csv.Error("text after a quote"), n_lines=n_lines)
        return n_lines, None

    def _follow(self, cells: Cells, place: Place, line: str) -> Place:
        """Return where the last line of the row ends, with what was cut off."""
        content = line.rstrip("\r\n")
        place = cells.follow(place, content)
        if not self._bounded.is_cut or not line.endswith("\n"):
            return place  # after a lone return the parser waits for the line that may be cut
        kept = own = cells.follow(Place.START, content)
        for dropped in self._bounded.drop():
            text = dropped.decode(UTF_8, "surrogateescape")
            place, own = cells.follow(place, text), cells.follow(own, text)
        if len(line) <= MAX_CHARACTERS:  # where it is read again, it ends as the whole line does
            self._row[-1] = f"{content}{cells.lead(kept, own)}\n"
        return place

    def _take_again(self) -> Iterator[str]:
        while self._again:
            line = self._again.popleft()
            self._n_allowed -= N_READINGS * len(line)  # only new text allows more
            yield line

    def _record(self, line: str) -> str:
        n_characters = len(line)
        cut = line if n_characters <= MAX_CHARACTERS else _shorten(line)
        if self._row:
            self._n_bytes += n_characters
        else:
            self._first, self._n_bytes = cut, n_characters
        self._row.append(cut)
        self._n_allowed += N_READINGS * n_characters
        if self._n_bytes > self._n_short:
            self._measure(line)
        return line

    def _measure(self, line: str) -> None:
        """Raise `LongRowError` for a row that may be too long."""
        if not line.isascii():
            # Bytes that are not UTF-8 are surrogates in a text.
            self._n_bytes += len(line.encode(errors="surrogateescape")) - len(line)
        n_end = len(line) - len(line.rstrip("\r\n"))
        if self._n_bytes - n_end > self._max_row_bytes:
            self._last = line
            raise LongRowError(describe_long(self._max_row_bytes))


def _shorten(line: str) -> str:
    """Return a line, or so much of it that it is never read again."""
    return line if len(line) <= MAX_CHARACTERS else line[: MAX_CHARACTERS + 1]
