"""JSON lines to rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import BinaryIO

from layerdex.indexer.readers.row_size import bound_lines, describe_long, is_long_line
from layerdex.indexer.readers.rows import RawRow
from layerdex.indexer.readers.streams import invalid_utf8
from layerdex.indexer.readers.strict_json import StrictDecoder, describe
from layerdex.records import Origin, Rejected


def line_rows(stream: BinaryIO, source: str, max_row_bytes: int) -> Iterator[RawRow]:
    """Yield the value on each line; blank lines are skipped, but count as lines."""
    decoder = StrictDecoder()
    # A byte stream splits at \n alone; str.splitlines would also split at U+2028.
    for number, line in enumerate(bound_lines(stream, max_row_bytes), start=1):
        if is_long_line(line, max_row_bytes):
            origin = Origin(source, number)
            yield origin, Rejected(origin, describe_long(max_row_bytes))
        elif not line.isspace():
            origin = Origin(source, number)
            yield origin, _decode(line, origin, decoder)


def _decode(line: bytes, origin: Origin, decoder: StrictDecoder) -> object:
    try:
        row = decoder.decode(line.rstrip(b"\r\n").decode())
    except UnicodeDecodeError as error:
        return Rejected(origin, invalid_utf8(error))
    except json.JSONDecodeError as error:
        return Rejected(origin, f"broken JSON: {describe(error)} at column {error.colno}")
    except RecursionError:
        return Rejected(origin, "broken JSON: nested too deeply")
    if decoder.problem:
        return Rejected(origin, f"broken JSON: {decoder.problem}")
    return row
