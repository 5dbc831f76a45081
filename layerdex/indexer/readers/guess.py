"""The format of standard input, by its first bytes."""

from __future__ import annotations

import io
import logging
import re

from layerdex.choices import Format
from layerdex.errors import SourceError
from layerdex.indexer.readers.common_names import COMMON_NAMES, TEXT
from layerdex.indexer.readers.dialect import UTF_8
from layerdex.indexer.readers.fields import MAX_NAME_LENGTH, Fields
from layerdex.indexer.readers.streams import first_window, peek
from layerdex.indexer.readers.style import DELIMITERS, TAB, column_names, first_rows, has_sep_line

logger = logging.getLogger(__name__)

_BARE_NAME = re.compile(r"[\w.-]+")
_N_ROWS_ALIKE = 3

N_FIRST = 3
"""The bytes that tell JSON from text: an array of objects may be empty."""


def guess_format(
    stream: io.BufferedReader, *, source: str, fields: Fields
) -> tuple[Format, io.BufferedReader]:
    """Return the format of a stream, and the whole stream.

    It is jsonl if it begins with ``{``, json with ``[{`` or ``[]``, csv or tsv if its first line
    names the text, which is logged, and txt otherwise. Raises `SourceError` if the first line
    looks like the header of a table that has no column for the text, or if it begins with blanks
    and nothing else.
    """
    try:
        start, stream = peek(stream, N_FIRST)
    except ValueError:
        raise SourceError(
            f"{source}: begins with more than 1 MiB of blanks: say what follows with --format"
        ) from None
    if start.startswith(b"{"):
        return Format.JSONL, stream
    # A bracket alone may begin a line of text, such as "[INFO] started".
    if start.startswith(b"[{") or start == b"[]":
        return Format.JSON, stream
    text = _first_text(stream)
    if (table := _find_table(text, fields)) is not None:
        logger.warning(
            "%s: read as %s, as its first line is a header; --format txt reads lines",
            source,
            table,
        )
        return table, stream
    if (table := _find_other_table(text, fields)) is not None:
        options = f"--format {table} and --{fields.text_option}-field"
        raise SourceError(
            f"{source}: its first line looks like a table's header without {fields.text!r}: "
            f"say {options}, or --format txt for lines of text"
        )
    return Format.TXT, stream


def note_table(stream: io.BufferedReader, *, source: str, fields: Fields) -> None:
    """Log that a file of lines begins with the header of a table, if it does."""
    text = _first_text(stream)
    table = _find_table(text, fields)
    if table is not None and text.partition("\n")[0].strip() not in fields.text_names:
        logger.warning(
            "%s: read line by line, but its first line is a header; --format %s reads a table",
            source,
            table,
        )


def _first_text(stream: io.BufferedReader) -> str:
    return first_window(stream)[0].decode(UTF_8, "surrogateescape")


def _find_table(text: str, fields: Fields) -> Format | None:
    """Return the format of a table whose first line names the text."""
    if has_sep_line(text):
        return Format.CSV
    wanted = {*fields.text_names}
    named = (mark for mark in DELIMITERS if not wanted.isdisjoint(column_names(text, mark)))
    return next(map(_format_with, named), None)


def _find_other_table(text: str, fields: Fields) -> Format | None:
    """Return the format of a table whose first line has names that are usual in tables.

    Two are enough, or one if none has a blank, or if the lines below have as many cells: "Dear sir,
    a comment" is a line of text.
    """
    known = {(fields.id_name or "id").lower(), "label", *COMMON_NAMES[TEXT]}
    for delimiter in DELIMITERS:
        rows = first_rows(text, delimiter)[:_N_ROWS_ALIKE]
        names = [name.strip() for name in rows[0]] if rows else []
        n_known = sum(name.lower() in known for name in names)
        are_names = len(names) > 1 and all(len(name) <= MAX_NAME_LENGTH for name in names)
        are_bare = all(_BARE_NAME.fullmatch(name) for name in rows[0]) if rows else False
        are_alike = len(rows) == _N_ROWS_ALIKE and len({*map(len, rows)}) == 1
        if are_names and n_known >= (1 if are_bare or are_alike else 2):
            return _format_with(delimiter)
    return None


def _format_with(delimiter: str) -> Format:
    return Format.TSV if delimiter == TAB else Format.CSV
