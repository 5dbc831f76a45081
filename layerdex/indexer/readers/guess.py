"""The format of standard input, by its first bytes."""

from __future__ import annotations

import io
import logging

from layerdex.choices import Format
from layerdex.errors import SourceError
from layerdex.indexer.readers.fields import COMMON_TEXT_NAMES, MAX_NAME_LENGTH, Fields
from layerdex.indexer.readers.streams import first_window, peek
from layerdex.indexer.readers.style import DELIMITERS, TAB, first_row

logger = logging.getLogger(__name__)

N_FIRST = 3
"""The bytes that tell JSON from text: an array of objects may be empty."""


def guess_format(
    stream: io.BufferedReader, *, source: str, fields: Fields
) -> tuple[Format, io.BufferedReader]:
    """Return the format of a stream, and the whole stream.

    It is jsonl if it begins with ``{``, json with ``[{`` or ``[]``, csv or tsv if its first line
    names the text, which is logged, and txt otherwise. Raises `SourceError` if the first line
    looks like the header of a table that has no column for the text.
    """
    start, stream = peek(stream, N_FIRST)
    if start.startswith(b"{"):
        return Format.JSONL, stream
    # A bracket alone may begin a line of text, such as "[INFO] started".
    if start.startswith(b"[{") or start == b"[]":
        return Format.JSON, stream
    window, _ = first_window(stream)
    format_ = _guess_table(window.decode("utf-8", "surrogateescape"), source, fields)
    return format_ or Format.TXT, stream


def _guess_table(text: str, source: str, fields: Fields) -> Format | None:
    known = {fields.id_name.lower(), "label", *COMMON_TEXT_NAMES}
    for delimiter in DELIMITERS:
        names = [name.strip() for name in first_row(text, delimiter)]
        format_ = Format.TSV if delimiter == TAB else Format.CSV
        if fields.text in names:
            logger.warning(
                "%s: read as %s, as its first line names a column %r; --format txt reads lines",
                source,
                format_,
                fields.text,
            )
            return format_
        is_header = len(names) > 1 and all(len(name) <= MAX_NAME_LENGTH for name in names)
        if is_header and any(name.lower() in known for name in names):
            raise SourceError(
                f"{source}: its first line looks like a table's header without {fields.text!r}: "
                f"say --format {format_} and --text-field, or --format txt for lines of text"
            )
    return None
