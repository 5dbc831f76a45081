"""Rows of named columns to a csv, tsv, jsonl or parquet file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from layerdex.arguments import format_value
from layerdex.choices import Format
from layerdex.errors import OptionError
from layerdex.indexer.readers.values import BadValueError
from layerdex.indexer.writers.columns import to_cell
from layerdex.indexer.writers.delimited import join_cells, line_end
from layerdex.limits import PYARROW, check_limits
from layerdex.storage.files import atomic_write
from layerdex.terminals import json_line

_FORMATS = {
    ".csv": Format.CSV,
    ".tsv": Format.TSV,
    ".tab": Format.TSV,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".parquet": Format.PARQUET,
    ".pq": Format.PARQUET,
}
_MARKED_UTF_8 = "utf-8-sig"
"""Excel takes csv without a byte order mark for text in the code page of the system."""

_T = TypeVar("_T")
Row = Mapping[str, object]


def table_format(path: Path) -> Format:
    """Return the format that a file's name asks for; raises `OptionError` for any other."""
    try:
        return _FORMATS[path.suffix.lower()]
    except KeyError:
        raise OptionError(
            f"{path} can be written as csv, tsv, jsonl or parquet: end its name in one of "
            f"{', '.join(_FORMATS)}"
        ) from None


def write_table(
    path: Path, names: Sequence[str], rows: Iterable[Row], *, delimiter: str | None = None
) -> int:
    """Write rows with the columns ``names``, whole or not at all, and return how many.

    Cells of csv and tsv are text, exactly as it is given: nothing keeps a spreadsheet from taking
    one that begins with ``=`` for a formula. csv is UTF-8 with a byte order mark, and its
    ``delimiter`` is the comma by default. A column of parquet whose values have no common type is
    one of text. In jsonl a number that is not finite is null. jsonl is written as the rows come,
    parquet once all are there. Raises `StorageError`, `OptionError` as `table_format` does, and for
    bytes in other files than parquet.
    """
    format_ = table_format(path)
    with atomic_write(path) as written:
        match format_:
            case Format.JSONL:
                return _write_json_lines(written, rows)
            case Format.PARQUET:
                return _write_parquet(written, names, rows)
            case Format.TSV:
                return _write_delimited(written, names, rows, "\t", "utf-8")
            case _:
                return _write_delimited(written, names, rows, delimiter or ",", _MARKED_UTF_8)


def _write_delimited(
    path: Path, names: Sequence[str], rows: Iterable[Row], delimiter: str, encoding: str
) -> int:
    n_rows, end = 0, line_end(delimiter)
    with path.open("w", encoding=encoding, newline="") as file:
        file.write(join_cells(names, delimiter=delimiter) + end)
        for row in rows:
            cells = (_convert(row.get(name), name, to_cell) for name in names)
            file.write(join_cells(cells, delimiter=delimiter) + end)
            n_rows += 1
    return n_rows


def _write_json_lines(path: Path, rows: Iterable[Row]) -> int:
    n_rows = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            cells = {name: _convert(value, name, _to_json) for name, value in row.items()}
            file.write(json_line(cells, file))
            n_rows += 1
    return n_rows


def _convert(value: object, name: str, convert: Callable[[object], _T]) -> _T:
    try:
        return convert(value)
    except BadValueError:
        raise OptionError(
            f"the column {format_value(name)} holds bytes, which only parquet can: write to a name "
            "that ends in .parquet"
        ) from None


def _to_json(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None  # JSON has no other numbers
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(name): _to_json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(inner) for inner in value]
    if hasattr(value, "tolist"):  # arrays of parquet
        return _to_json(value.tolist())
    return to_cell(value)


def _write_parquet(path: Path, names: Sequence[str], rows: Iterable[Row]) -> int:
    check_limits(PYARROW)
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: list[list[object]] = [[] for _ in names]
    for row in rows:
        for column, name in zip(columns, names, strict=True):
            column.append(row.get(name))
    arrays = {name: _to_array(name, values) for name, values in zip(names, columns, strict=True)}
    pq.write_table(pa.table(arrays), path)
    return len(columns[0]) if columns else 0


def _to_array(name: str, values: list[object]) -> Any:
    import pyarrow as pa

    try:
        array = pa.array(values)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return pa.array([_convert(value, name, to_cell) for value in values])
    return array.cast(pa.string()) if pa.types.is_null(array.type) else array
