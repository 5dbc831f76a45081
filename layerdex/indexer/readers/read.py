"""A source of any format to documents."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from layerdex.choices import Format
from layerdex.indexer.readers.blank_texts import mark_cells
from layerdex.indexer.readers.changes import watch
from layerdex.indexer.readers.delimited import read_delimited
from layerdex.indexer.readers.dialect import Dialect
from layerdex.indexer.readers.fields import Fields
from layerdex.indexer.readers.folder import read_folder
from layerdex.indexer.readers.formats import resolve_format
from layerdex.indexer.readers.guess import guess_format, note_table
from layerdex.indexer.readers.json_shapes import read_json, read_jsonl
from layerdex.indexer.readers.parquet import read_parquet
from layerdex.indexer.readers.plain_text import read_txt
from layerdex.indexer.readers.rows import Reading
from layerdex.indexer.readers.spreadsheet import read_spreadsheet
from layerdex.indexer.readers.streams import (
    OnBytes,
    encoding_of,
    is_stdin,
    open_stream,
    source_name,
)

StreamReader = Callable[[BinaryIO, str, Fields, int], Iterator[Reading]]
"""Takes a stream, the name of its source, the fields, and the bytes of the largest row."""

STREAM_READERS: dict[Format, StreamReader] = {
    Format.JSONL: read_jsonl,
    Format.JSON: read_json,
    Format.TXT: read_txt,
}


def read_source(
    source: str | Path,
    *,
    format: Format = Format.AUTO,
    fields: Fields | None = None,
    dialect: Dialect | None = None,
    stdin: BinaryIO | None = None,
    on_bytes: OnBytes | None = None,
) -> Iterator[Reading]:
    """Read a source row by row, in its order.

    ``source`` is a path or ``-`` for ``stdin`` (default: the process's). ``on_bytes`` gets the
    number of bytes of each read of a file. Memory is bounded by the largest row or file of a folder
    that the dialect allows, a parquet batch or a spreadsheet's sheet. A bad row is yielded as
    `Rejected`, and so is a file that changed meanwhile. Raises `SourceError`: at once if the source
    is missing or its format unknown, later if reading fails.
    """
    fields, dialect = fields or Fields(), dialect or Dialect()
    resolved = resolve_format(source, format)
    if resolved is Format.FOLDER:
        return read_folder(Path(source), fields, dialect)
    if resolved is Format.PARQUET:
        readings = mark_cells(
            read_parquet(Path(source), fields, on_bytes, max_row_bytes=dialect.max_row_bytes)
        )
    elif resolved is Format.XLSX:
        readings = mark_cells(
            read_spreadsheet(
                Path(source),
                fields,
                sheet=dialect.sheet,
                on_bytes=on_bytes,
                max_row_bytes=dialect.max_row_bytes,
            )
        )
    else:
        is_by_name = format is Format.AUTO
        readings = _read_stream(source, resolved, is_by_name, fields, dialect, stdin, on_bytes)
    return watch(Path(source), readings) if _is_file(source) else readings


def _read_stream(
    source: str | Path,
    format_: Format,
    is_by_name: bool,
    fields: Fields,
    dialect: Dialect,
    stdin: BinaryIO | None,
    on_bytes: OnBytes | None,
) -> Iterator[Reading]:
    name = source_name(source)
    with open_stream(source, stdin=stdin, encoding=dialect.encoding, on_bytes=on_bytes) as opened:
        stream: io.BufferedReader = opened
        known = encoding_of(opened, dialect.encoding)  # so that it is noted once
        if format_ is Format.AUTO:
            format_, stream = guess_format(stream, source=name, fields=fields)
        elif format_ is Format.TXT and is_by_name:
            note_table(stream, source=name, fields=fields)
        if format_ in STREAM_READERS:
            yield from STREAM_READERS[format_](stream, name, fields, dialect.max_row_bytes)
            return
        rows = read_delimited(
            stream,
            name,
            fields,
            format=format_,
            dialect=dialect,
            reopen=partial(open_stream, source, encoding=known) if _is_file(source) else None,
        )
        yield from mark_cells(rows)


def _is_file(source: str | Path) -> bool:
    """Return whether a source can be read twice."""
    return not is_stdin(source) and Path(source).is_file()
