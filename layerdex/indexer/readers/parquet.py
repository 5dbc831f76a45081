"""Parquet tables to documents."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from layerdex.errors import SourceError
from layerdex.indexer.readers.class_names import find_class_names, name_classes
from layerdex.indexer.readers.fields import SPREAD, Fields, check_columns
from layerdex.indexer.readers.parquet_types import has_path, read_cells
from layerdex.indexer.readers.row_size import MAX_ROW_BYTES, describe_long, is_long_row
from layerdex.indexer.readers.rows import (
    BadColumn,
    Reading,
    is_vector_name,
    read_row,
)
from layerdex.indexer.readers.streams import CHUNK_BYTES, OnBytes, named_errors, source_name
from layerdex.indexer.readers.strict_json import StrictDecoder
from layerdex.indexer.readers.values import (
    Unreadable,
    are_whole,
)
from layerdex.limits import PYARROW, check_limits
from layerdex.records import Origin, Rejected

REST = "metadata_json"
JSON_MARK = {b"layerdex": b"metadata as JSON"}
"""Marks the column of metadata that parquet has no type for; users may have its name too."""

BATCH_BYTES = 16 << 20
MAX_BATCH_ROWS = 4096


def read_parquet(
    path: Path,
    fields: Fields,
    on_bytes: OnBytes | None = None,
    *,
    max_row_bytes: int = MAX_ROW_BYTES,
) -> Iterator[Reading]:
    """Read a table batch by batch; ``origin.line`` is the row's number from 1.

    A batch takes about 16 MiB, or the longest row or page if that is more. ``on_bytes`` gets the
    file's size in proportion to the rows, as unused columns are not read.
    """
    source = source_name(path)
    numbers = count(1)
    for batch in _batches(path, source, fields, on_bytes):
        names, rests = batch.schema.names, _json_columns(batch.schema)
        own = fields.of(names)
        may_be_long = batch.nbytes > max_row_bytes
        for cells in zip(*map(read_cells, batch.columns), strict=True):
            if may_be_long and is_long_row(cells, max_row_bytes):
                yield Rejected(Origin(source, next(numbers)), describe_long(max_row_bytes))
                continue
            row = dict(zip(names, cells, strict=True))
            for rest in rests:
                _spread(row, rest)
            reading = read_row(row, origin=Origin(source, next(numbers)), fields=own)
            if isinstance(reading, BadColumn) and not rests:
                raise SourceError(str(reading))  # the type of a column is that of all its rows
            yield reading


def _batches(path: Path, source: str, fields: Fields, on_bytes: OnBytes | None) -> Iterator[Any]:
    check_limits(PYARROW)
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with named_errors(source), path.open("rb") as file:
            # Without pre_buffer a row group is read page by page.
            table = pq.ParquetFile(file, buffer_size=CHUNK_BYTES, pre_buffer=False)
            fields = fields.of(table.schema_arrow.names)
            _check_schema(table.schema_arrow, fields, source)
            label = None if fields.label_name in fields.own_names[:2] else fields.label_name
            classes = find_class_names(table.schema_arrow, label, source=source)
            whole = [name for name in fields.own_names if name and _is_whole(table, name)]
            batches = table.iter_batches(
                batch_size=_batch_rows(table.metadata),
                columns=_wanted_columns(table.schema_arrow, fields),
                use_threads=False,
            )
            n_bytes, n_rows, n_read = os.fstat(file.fileno()).st_size, table.metadata.num_rows, 0
            for batch in batches:
                before, n_read = n_bytes * n_read // n_rows, n_read + batch.num_rows
                if on_bytes is not None:
                    on_bytes(n_bytes * n_read // n_rows - before)
                yield _to_integers(name_classes(batch, label, classes), whole)
    except (pa.ArrowException, ArithmeticError, ValueError) as error:
        # pyarrow lets Python's errors through for damaged names and counts.
        reason = str(error).partition("\n")[0]
        raise SourceError(f"{source}: broken parquet file: {reason}") from error


def _is_whole(table: Any, name: str) -> bool:
    """Return whether a column is of floats that are all integers."""
    import pyarrow as pa

    if name not in table.schema_arrow.names:
        return False
    if not pa.types.is_floating(table.schema_arrow.field(name).type):
        return False
    batches = table.iter_batches(columns=[name], use_threads=False)
    return all(are_whole(batch.column(0).to_numpy(zero_copy_only=False)) for batch in batches)


def _to_integers(batch: Any, names: Sequence[str]) -> Any:
    import pyarrow as pa

    for name in names:
        column = batch.column(name)
        integers = pa.array(column.to_numpy(zero_copy_only=False), from_pandas=True)
        position = batch.schema.get_field_index(name)
        batch = batch.set_column(position, name, integers.cast(pa.int64()))
    return batch


def _check_schema(schema: Any, fields: Fields, source: str) -> None:
    import pyarrow as pa

    nested: list[str] = []
    if SPREAD in schema.names and schema.names.count(SPREAD) == 1:
        type_ = schema.field(SPREAD).type
        nested = [inner.name for inner in type_] if pa.types.is_struct(type_) else []
    if _json_columns(schema):  # only its rows show which fields it has
        fields = replace(fields, metadata=None)
    inner = [name for _, name in fields.required_names if _has_path(schema, name)]
    check_columns(schema.names, fields=fields, source=source, nested=nested, inner=inner)


def _has_path(schema: Any, name: str) -> bool:
    root, *parts = name.split(".")
    return schema.names.count(root) == 1 and has_path(schema.field(root).type, parts)


def _wanted_columns(schema: Any, fields: Fields) -> list[str] | None:
    if fields.metadata is None:
        vectors = {field.name for field in schema if _is_vector(field)} - {*fields.own_names}
        return [name for name in schema.names if name not in vectors] if vectors else None
    asked = [name for name in fields.own_names if name] + [*fields.metadata, *fields.optional_names]
    wanted = {*asked, *(name.partition(".")[0] for name in asked), *_json_columns(schema)}
    if fields.metadata:
        wanted.add(SPREAD)
    return [name for name in schema.names if name in wanted]


def _is_vector(field: Any) -> bool:
    import pyarrow as pa

    is_list = pa.types.is_list(field.type) or pa.types.is_fixed_size_list(field.type)
    return is_vector_name(field.name) and is_list


def _json_columns(schema: Any) -> list[str]:
    """Return the columns that ``export`` marked as metadata in JSON."""
    (mark,) = JSON_MARK.items()
    return [field.name for field in schema if mark in (field.metadata or {}).items()]


def _spread(row: dict[str, object], name: str) -> None:
    """Move the fields of a cell with a JSON object into ``metadata``."""
    cell = row.pop(name)
    if cell is None:
        return
    decoder, inner = StrictDecoder(), row.get(SPREAD) or {}
    try:
        content = decoder.decode(cell) if isinstance(cell, str) else None
    except (ValueError, RecursionError):
        content = None
    if decoder.problem or not isinstance(content, dict) or not isinstance(inner, dict):
        row[name] = Unreadable("it is not a JSON object")
    else:
        row[SPREAD] = {**inner, **content}


def _batch_rows(metadata: Any) -> int:
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    n_bytes: int = sum(group.total_byte_size for group in groups)
    n_rows: int = metadata.num_rows
    row_bytes = n_bytes // max(n_rows, 1) + 1
    return max(1, min(MAX_BATCH_ROWS, BATCH_BYTES // row_bytes))
