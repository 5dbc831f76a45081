"""Which of the shapes of JSON a source has, and its rows.

The suffix or ``--format`` says only what is expected: a decision for another shape is logged.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import BinaryIO, NamedTuple

from layerdex.choices import Format
from layerdex.errors import SourceError
from layerdex.indexer.readers.annotations import recognise_export
from layerdex.indexer.readers.common_names import COMMON_NAMES, TEXT
from layerdex.indexer.readers.fields import MISSING, Fields, find_field
from layerdex.indexer.readers.json_head import Head, read_head
from layerdex.indexer.readers.json_rows import (
    array_rows,
    column_rows,
    holds_objects,
    object_rows,
    several_lists,
    split_rows,
    wrapped_rows,
)
from layerdex.indexer.readers.jsonl import line_rows
from layerdex.indexer.readers.row_size import MAX_ROW_BYTES
from layerdex.indexer.readers.rows import RawRow, Reading, read_rows

logger = logging.getLogger(__name__)

RowReader = Callable[[BinaryIO, str, int], Iterator[RawRow]]
"""Takes a stream, the name of its source, and the bytes of the largest row."""


class Shape(NamedTuple):
    """How the rows of a JSON text are read, and what is said where another shape was expected."""

    rows: RowReader
    decision: str


_ARRAY = Shape(array_rows, "holds one array, read as json")
_LINES = Shape(line_rows, "has one object per line, read as jsonl")
_OBJECTS = Shape(object_rows, "has objects that are not one per line, each is read as one row")
_COLUMNS = Shape(column_rows, "holds columns, not rows: read as a table")
_SPLIT = Shape(split_rows, "holds columns and data, as pandas writes with orient='split'")

_BY_ROWS = "write one object per row (pandas: orient='records', lines=True)"
_BY_KEYS = "jq -c 'to_entries[]|{id:.key}+.value', which makes the keys ids"


def read_json(
    stream: BinaryIO, source: str, fields: Fields, max_row_bytes: int = MAX_ROW_BYTES
) -> Iterator[Reading]:
    """Read a text that should be one array of objects; other shapes are recognised.

    Raises `SourceError` for a shape that has no rows, and for broken JSON or UTF-8 where the next
    row cannot be found.
    """
    return _read(stream, source, fields, max_row_bytes, expected=Format.JSON)


def read_jsonl(
    stream: BinaryIO, source: str, fields: Fields, max_row_bytes: int = MAX_ROW_BYTES
) -> Iterator[Reading]:
    """Read a text that should be one object per line; other shapes are recognised.

    Raises `SourceError` as `read_json` does.
    """
    return _read(stream, source, fields, max_row_bytes, expected=Format.JSONL)


def _read(
    stream: BinaryIO, source: str, fields: Fields, max_row_bytes: int, *, expected: Format
) -> Iterator[Reading]:
    head, stream = read_head(stream)
    fields = fields.of(head.fields)
    try:
        shape = _recognise(head, fields, expected)
    except ValueError as error:
        raise SourceError(f"{source}:1: {error}") from None
    if shape is not (_ARRAY if expected is Format.JSON else _LINES):
        logger.warning("%s: %s", source, shape.decision)
    rows = shape.rows(stream, source, max_row_bytes)
    return read_rows(rows, source=source, fields=fields)


def _recognise(head: Head, fields: Fields, expected: Format) -> Shape:
    """Return the shape of a text; raises `ValueError` with a reason where it has no rows."""
    if head.start.startswith("{"):
        return _shape_of_object(head, fields, expected)
    if expected is Format.JSONL:
        return _ARRAY if head.start in ("[{", "[]") else _LINES
    if head.start == "[[":
        raise ValueError(f"an array of arrays names no fields: {_BY_ROWS}")
    if not head.start.startswith("["):
        raise ValueError("a JSON array of objects is expected, or one object per line")
    return _ARRAY


def _shape_of_object(head: Head, fields: Fields, expected: Format) -> Shape:
    text = find_field(head.fields, fields.text)
    is_text_cut = head.cut == fields.text
    if isinstance(text, str) or (is_text_cut and head.rest.startswith('"')):
        return _rows_of_objects(head)
    if recognise_export(head.fields, fields) or not head.is_alone:
        return _rows_of_objects(head)
    if _is_split(head):
        return _SPLIT
    is_text_column = text is not MISSING or (is_text_cut and head.rest.startswith(("{", "[")))
    if _holds_rows(head, fields) and not is_text_column:
        raise ValueError(f"the rows are the values of one object: {_BY_ROWS}, or use {_BY_KEYS}")
    # A first line of jsonl that is broken is one bad row.
    may_be_columns = expected is Format.JSON or head.following is not None
    if may_be_columns and _are_columns(head.fields) and (is_text_column or len(head.fields) > 1):
        return _COLUMNS
    if (key := _find_list(head, fields)) is not None:
        rows = partial(wrapped_rows, key=key, text_field=fields.text)
        return Shape(rows, f"the rows are read from {key!r}")
    return _rows_of_objects(head)


def _rows_of_objects(head: Head) -> Shape:
    """Return whether each object has a line of its own, as the first one shows."""
    following = (head.following or "").lstrip(" \t\r")
    return _OBJECTS if head.is_spread or following.startswith("{") else _LINES


def _is_split(head: Head) -> bool:
    names = head.fields.get("columns")
    data = head.fields.get("data")
    has_data = isinstance(data, list) and all(isinstance(cells, list) for cells in data[:1])
    return isinstance(names, list) and (has_data or (head.cut == "data" and head.rest[:1] == "["))


def _are_columns(fields: Mapping[object, object]) -> bool:
    """Return whether all are objects of scalars, or several lists of scalars of one length."""
    if all(isinstance(one, Mapping) and _are_scalars(one.values()) for one in fields.values()):
        return True
    lists = [one for one in fields.values() if isinstance(one, list) and _are_scalars(one)]
    # A single list may be a bad text.
    return len(fields) > 1 and len(lists) == len(fields) and len({*map(len, lists)}) == 1


def _are_scalars(values: Iterable[object]) -> bool:
    return not any(isinstance(one, (Mapping, list)) for one in islice(values, 1))


def _find_list(head: Head, fields: Fields) -> str | None:
    """Return the field whose list holds the rows; raises `ValueError` for several."""
    lists = {str(name): value[0] for name, value in head.fields.items() if holds_objects(value)}
    if head.cut is not None and (first := _first_element(head.rest)) is not None:
        lists[head.cut] = first
    with_text = [
        name
        for name, row in lists.items()
        if find_field(row, fields.text) is not MISSING or recognise_export(row, fields)
    ]
    names = with_text or [*lists]
    if len(names) > 1:
        raise ValueError(several_lists(names))
    if not names and (path := _find_deeper(head.fields)):
        taken = "".join(f'["{name}"]' for name in path)
        raise ValueError(f"the rows are in {'.'.join(path)!r}: take them with jq -c '.{taken}[]'")
    return names[0] if names else None


def _find_deeper(fields: Mapping[object, object]) -> tuple[str, str] | None:
    for name, value in fields.items():
        for inner, member in value.items() if isinstance(value, Mapping) else ():
            if holds_objects(member):
                return str(name), str(inner)
    return None


def _first_element(rest: str) -> Mapping[object, object] | None:
    if not rest.startswith("["):
        return None
    try:
        value, _ = json.JSONDecoder().raw_decode(rest[1:].lstrip())
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, Mapping) else None


def _holds_rows(head: Head, fields: Fields) -> bool:
    """Return whether the first field is an object with a text, as those of the others will be."""
    first = next(iter(head.fields.values()), None)
    names = (fields.text, *COMMON_NAMES[TEXT])
    return isinstance(first, Mapping) and any(isinstance(first.get(name), str) for name in names)
