"""Rows of named columns to a csv, tsv, jsonl or parquet file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from layerdex.choices import Format
from layerdex.errors import OptionError
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
    one of text. jsonl is written as the rows come, parquet once all are there. Raises
    `StorageError`, `OptionError` as `table_format` does.
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


def to_cell(value: object) -> str:
    """Return a value as the text of a cell; null is empty."""
    match value:
        case None:
            return ""
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case datetime() | date() | time():
            return value.isoformat()
        case dict() | list() | tuple():
            return json.dumps(value, ensure_ascii=False, default=to_cell)
        case _:
            return str(value)


def _write_delimited(
    path: Path, names: Sequence[str], rows: Iterable[Row], delimiter: str, encoding: str
) -> int:
    n_rows = 0
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerow(names)
        for row in rows:
            writer.writerow([to_cell(row.get(name)) for name in names])
            n_rows += 1
    return n_rows


def _write_json_lines(path: Path, rows: Iterable[Row]) -> int:
    n_rows = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json_line({name: _to_json(row[name]) for name in row}, file))
            n_rows += 1
    return n_rows


def _to_json(value: object) -> object:
    if isinstance(value, float) and value != value:  # noqa: PLR0124 - JSON has no NaN
        return None
    if isinstance(value, Decimal | datetime | date | time):
        return to_cell(value)
    if isinstance(value, Mapping):
        return {str(name): _to_json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(inner) for inner in value]
    return value.tolist() if hasattr(value, "tolist") else value  # arrays of parquet


def _write_parquet(path: Path, names: Sequence[str], rows: Iterable[Row]) -> int:
    check_limits(PYARROW)
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: list[list[object]] = [[] for _ in names]
    for row in rows:
        for column, name in zip(columns, names, strict=True):
            column.append(row.get(name))
    arrays = {name: _to_array(values) for name, values in zip(names, columns, strict=True)}
    pq.write_table(pa.table(arrays), path)
    return len(columns[0]) if columns else 0


def _to_array(values: list[object]) -> Any:
    import pyarrow as pa

    try:
        array = pa.array(values)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return pa.array([None if value is None else to_cell(value) for value in values])
    return array.cast(pa.string()) if pa.types.is_null(array.type) else array
