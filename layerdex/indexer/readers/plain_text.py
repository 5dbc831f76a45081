"""Plain text to documents, one per line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from layerdex.indexer.readers.fields import Fields, check_columns
from layerdex.indexer.readers.row_size import bound_lines, describe_long, is_long_line
from layerdex.indexer.readers.rows import Reading, read_row
from layerdex.indexer.readers.streams import invalid_utf8
from layerdex.records import Origin, Rejected


def read_txt(
    stream: BinaryIO, source: str, fields: Fields, max_row_bytes: int
) -> Iterator[Reading]:
    """Read one document per line, without the line end; blank lines are skipped, but count."""
    name = fields.line_name
    fields = fields.of([name])
    check_columns([name], fields=fields, source=source)
    for number, line in enumerate(bound_lines(stream, max_row_bytes), start=1):
        origin = Origin(source, number)
        if is_long_line(line, max_row_bytes):
            yield Rejected(origin, describe_long(max_row_bytes))
            continue
        try:
            text = line.removesuffix(b"\n").removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            yield Rejected(origin, invalid_utf8(error), id=None)
            continue
        if not text.isspace() and text:
            yield read_row({name: text}, origin=origin, fields=fields)
