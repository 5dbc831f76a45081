"""A source of any format to documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from layerdex.choices import Format
from layerdex.indexer.readers.delimited import read_csv, read_tsv
from layerdex.indexer.readers.fields import Fields
from layerdex.indexer.readers.folder import read_folder
from layerdex.indexer.readers.formats import resolve_format
from layerdex.indexer.readers.json_shapes import read_json, read_jsonl
from layerdex.indexer.readers.parquet import read_parquet
from layerdex.indexer.readers.plain_text import read_txt
from layerdex.indexer.readers.rows import Reading
from layerdex.indexer.readers.streams import OnBytes, open_stream, peek, source_name

StreamReader = Callable[[BinaryIO, str, Fields], Iterator[Reading]]

STREAM_READERS: dict[Format, StreamReader] = {
    Format.JSONL: read_jsonl,
    Format.JSON: read_json,
    Format.CSV: read_csv,
    Format.TSV: read_tsv,
    Format.TXT: read_txt,
}


def read_source(
    source: str | Path,
    *,
    format: Format = Format.AUTO,
    fields: Fields | None = None,
    stdin: BinaryIO | None = None,
    on_bytes: OnBytes | None = None,
) -> Iterator[Reading]:
    """Read a source row by row, in its order.

    ``source`` is a path or ``-`` for ``stdin`` (default: the process's). ``on_bytes`` gets the
    number of bytes of each read of a file. Memory is bounded by the longest row, a parquet batch or
    one file of a folder. A bad row is yielded as `Rejected`. Raises `SourceError`: at once if the
    source is missing or its format unknown, later if reading fails.
    """
    fields = fields or Fields()
    resolved = resolve_format(source, format)
    if resolved is Format.FOLDER:
        return read_folder(Path(source), fields)
    if resolved is Format.PARQUET:
        return read_parquet(Path(source), fields, on_bytes)
    return _read_stream(source, resolved, fields, stdin, on_bytes)


def _read_stream(
    source: str | Path,
    format_: Format,
    fields: Fields,
    stdin: BinaryIO | None,
    on_bytes: OnBytes | None,
) -> Iterator[Reading]:
    with open_stream(source, stdin=stdin, on_bytes=on_bytes) as opened:
        stream: BinaryIO = opened
        if format_ is Format.AUTO:
            start, stream = peek(stream, 3)
            format_ = _guess(start)
        yield from STREAM_READERS[format_](stream, source_name(source), fields)


def _guess(start: bytes) -> Format:
    if start.startswith(b"{"):
        return Format.JSONL
    # A bracket alone may begin a line of text, such as "[INFO] started".
    is_array = start.startswith(b"[{") or start == b"[]"
    return Format.JSON if is_array else Format.TXT
