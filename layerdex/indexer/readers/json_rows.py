"""The rows of a JSON text: of an array, of a list within an object, or objects on their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import BinaryIO, TypeGuard

from layerdex.indexer.readers.fields import MISSING, find_field
from layerdex.indexer.readers.json_text import JsonText, LongValueError
from layerdex.indexer.readers.row_size import describe_long, is_long_row
from layerdex.indexer.readers.rows import RawRow
from layerdex.indexer.readers.strict_json import StrictDecoder
from layerdex.records import Origin, Rejected

MAX_TABLE_CHARACTERS = 256 << 20
"""A table by columns is read whole, as its first row ends where its last column begins."""

Table = Mapping[str, object]
"""A decoded object that holds a table by its columns."""


def array_rows(stream: BinaryIO, source: str, max_row_bytes: int) -> Iterator[RawRow]:
    """Yield the elements of the array that a text is; an origin's line is where one starts.

    Raises `SourceError` for broken JSON or UTF-8, as the next element cannot be found then.
    """
    text = JsonText(stream, source)
    yield from _elements(text, source, StrictDecoder(), max_row_bytes)
    if text.peek():
        raise text.error("broken JSON: text after the array")


def object_rows(stream: BinaryIO, source: str, max_row_bytes: int) -> Iterator[RawRow]:
    """Yield the objects that follow one another, each over any number of lines."""
    text, decoder = JsonText(stream, source), StrictDecoder()
    while following := text.peek():
        if following == ",":
            raise text.error("broken JSON: ',' between objects: put them in [ ]")
        yield from _take(text, source, decoder, max_row_bytes)


def wrapped_rows(
    stream: BinaryIO, source: str, max_row_bytes: int, *, key: str, text_field: str
) -> Iterator[RawRow]:
    """Yield the elements of the array in an object's field ``key``.

    Raises `SourceError` as `array_rows` does, and for a second array of objects with a text.
    """
    text, decoder = JsonText(stream, source), StrictDecoder()
    is_read = False
    for name in _names(text, decoder):
        if name == key:
            if is_read:
                raise text.error(f"broken JSON: key {key!r} appears twice")
            is_read = True
            yield from _elements(text, source, decoder, max_row_bytes)
            continue
        value = _take_whole(text, decoder, "a field beside the rows")
        if holds_objects(value) and find_field(value[0], text_field) is not MISSING:
            raise text.error(several_lists([key, name]))
    if text.peek():
        raise text.error("broken JSON: text after the object")


def column_rows(stream: BinaryIO, source: str, max_row_bytes: int) -> Iterator[RawRow]:
    """Yield the rows of an object of columns, each an object by row or a list.

    An origin's line is the row's number. Raises `SourceError` for columns of other kinds, and above
    256 MB.
    """
    text = JsonText(stream, source)
    columns = _take_table(text)
    lists = [column for column in columns.values() if isinstance(column, list)]
    rows: Iterator[dict[str, object]]
    if len(lists) == len(columns) and len({len(one) for one in lists}) == 1:
        rows = iter(dict(zip(columns, cells, strict=True)) for cells in zip(*lists, strict=True))
    elif all(isinstance(column, Mapping) for column in columns.values()):
        rows = _rows_of(columns)
    else:
        raise text.error("the columns are neither all objects nor lists of one length")
    yield from _numbered(rows, source, max_row_bytes)


def split_rows(stream: BinaryIO, source: str, max_row_bytes: int) -> Iterator[RawRow]:
    """Yield the rows of a table as pandas writes it with orient='split'; see `column_rows`."""
    text = JsonText(stream, source)
    table = _take_table(text)
    names, data = table.get("columns"), table.get("data")
    if not isinstance(names, list) or not isinstance(data, list):
        raise text.error("a table has lists in 'columns' and 'data'")
    if any(not isinstance(cells, list) or len(cells) != len(names) for cells in data):
        raise text.error(f"a row in 'data' has not the {len(names)} cells of 'columns'")
    rows = (dict(zip(names, cells, strict=True)) for cells in data)
    yield from _numbered(rows, source, max_row_bytes)


def holds_objects(value: object) -> TypeGuard[list[Mapping[object, object]]]:
    """Return whether a value is an array that begins with an object."""
    return isinstance(value, list) and value[:1] != [] and isinstance(value[0], Mapping)


def several_lists(names: list[str]) -> str:
    """Return a reason: more than one field of an object may hold the rows."""
    shown = ", ".join(map(repr, names))
    return f"rows may be in {shown}: take one, as with jq -c '.[\"{names[0]}\"][]'"


def _names(text: JsonText, decoder: StrictDecoder) -> Iterator[str]:
    """Yield the names of an object; the caller consumes each value."""
    text.expect("{", "at the start of an object")
    is_first = True
    while text.peek() != "}":
        if not is_first:
            text.expect(",", "after a field")
            text.peek()
        is_first = False
        name = _take_whole(text, decoder, "the name of a field")
        text.expect(":", "after a field's name")
        text.peek()
        yield str(name)
    text.skip(1)


def _elements(
    text: JsonText, source: str, decoder: StrictDecoder, max_row_bytes: int
) -> Iterator[RawRow]:
    text.expect("[", "at the start of an array")
    is_first = True
    while (following := text.peek()) != "]":
        if not is_first:
            if following != ",":
                raise text.error("broken JSON: ',' or ']' expected after an element")
            text.skip(1)
            text.peek()
        is_first = False
        yield from _take(text, source, decoder, max_row_bytes)
    text.skip(1)


def _take(
    text: JsonText, source: str, decoder: StrictDecoder, max_row_bytes: int
) -> Iterator[RawRow]:
    """Yield one row; one that is too long is told before its end is looked for."""
    origin = Origin(source, text.line)
    try:
        row = text.take(decoder, max_bytes=max_row_bytes)
    except LongValueError:
        yield origin, Rejected(origin, describe_long(max_row_bytes))
        text.skip_value()
        return
    problem = decoder.problem
    yield origin, Rejected(origin, f"broken JSON: {problem}") if problem else row


def _take_whole(text: JsonText, decoder: StrictDecoder, what: str) -> object:
    try:
        return text.take(decoder, max_bytes=MAX_TABLE_CHARACTERS)
    except LongValueError:
        raise text.error(
            f"{what} of more than {MAX_TABLE_CHARACTERS >> 20} MB: write one object per row "
            "(pandas: orient='records', lines=True)"
        ) from None


def _take_table(text: JsonText) -> Table:
    text.peek()
    decoder = StrictDecoder()
    table = _take_whole(text, decoder, "a table by columns")
    if decoder.problem:
        raise text.error(f"broken JSON: {decoder.problem}")
    if text.peek():
        raise text.error("broken JSON: text after the object")
    if not isinstance(table, Mapping):
        raise text.error("a JSON object is expected")
    return table


def _rows_of(columns: Table) -> Iterator[dict[str, object]]:
    objects = {name: one for name, one in columns.items() if isinstance(one, Mapping)}
    for row in dict.fromkeys(row for column in objects.values() for row in column):
        yield {name: column.get(row) for name, column in objects.items()}


def _numbered(
    rows: Iterator[dict[str, object]], source: str, max_row_bytes: int
) -> Iterator[RawRow]:
    for number, row in enumerate(rows, start=1):
        origin = Origin(source, number)
        is_long = is_long_row(row.values(), max_row_bytes)
        yield origin, Rejected(origin, describe_long(max_row_bytes)) if is_long else row
