"""Documents and vectors to a parquet table, row group by row group.

Columns are ``id``, ``text``, ``label``, ``metadata`` (a struct of typed fields) and ``vector_N``. A
metadata field with values of several types has no parquet type. Such fields, and those beyond the
first 500, are written as one JSON object per document, to a column that is marked for the reader.
Flat, each metadata field is a column of its own; values of several types become text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from layerdex.choices import MetadataLayout, StoredPrecision
from layerdex.indexer.readers.fields import SPREAD
from layerdex.indexer.readers.parquet import JSON_MARK, REST
from layerdex.indexer.readers.rows import VECTOR
from layerdex.indexer.writers.columns import metadata_columns, to_cell
from layerdex.records import Document, Scalar, Vectors
from layerdex.storage.catalog.metadata import ValueType
from layerdex.storage.maintenance.export import Batch

_TYPES = {
    ValueType.TEXT: pa.large_string(),
    ValueType.INTEGER: pa.int64(),
    ValueType.REAL: pa.float64(),
    ValueType.BOOLEAN: pa.bool_(),
}

_MAX_TYPED_FIELDS = 500

_GROUP_BYTES = 32 << 20
"""Larger row groups need more memory to write, smaller ones are slower to read."""


def write_parquet(
    file: BinaryIO,
    batches: Iterator[Batch],
    *,
    layers: tuple[int, ...],
    width: int,
    precision: StoredPrecision,
    layout: MetadataLayout = MetadataLayout.OBJECT,
) -> int:
    """Write batches in order, and return the number of documents; see `write_export`."""
    first = next(batches, None)
    kinds = {} if first is None else first.metadata_types
    if layout is MetadataLayout.COLUMNS:
        flat = {
            name: _TYPES[next(iter(kinds[name]))] if len(kinds[name]) == 1 else pa.large_string()
            for name in metadata_columns(kinds, layers=layers)
        }
        kinds = {}
    else:
        flat = {}
    typed = _typed(kinds)
    has_rest = len(typed) < len(kinds)
    item = pa.float16() if precision is StoredPrecision.FLOAT16 else pa.float32()
    vector = pa.list_(pa.field("element", item, nullable=False), width)
    schema = _schema(typed, flat, has_rest=has_rest, vectors=dict.fromkeys(layers, vector))
    n_documents, group, n_bytes = 0, [], 0
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        while first is not None:
            batch, first = first, next(batches, None)
            columns = _document_columns(batch.documents, typed, has_rest=has_rest)
            columns += [_flat_column(batch.documents, name, type_) for name, type_ in flat.items()]
            columns += [_fixed_size_list(rows, vector) for rows in batch.vectors.values()]
            group.append(pa.record_batch(columns, schema=schema))
            n_documents += len(batch.documents)
            n_bytes += group[-1].nbytes
            if n_bytes >= _GROUP_BYTES or first is None:
                table = pa.Table.from_batches(group)
                writer.write_table(table, row_group_size=len(table))
                group, n_bytes = [], 0
    return n_documents


def _typed(kinds: Mapping[str, set[ValueType]]) -> dict[str, Any]:
    single = [(name, next(iter(types))) for name, types in kinds.items() if len(types) == 1]
    return {name: _TYPES[kind] for name, kind in single[:_MAX_TYPED_FIELDS]}


def _schema(
    typed: dict[str, Any], flat: dict[str, Any], *, has_rest: bool, vectors: dict[int, Any]
) -> Any:
    text = pa.large_string()
    fields = [
        pa.field("id", text, nullable=False),
        pa.field("text", text, nullable=False),
        pa.field("label", text),
    ]
    if typed:  # parquet has no structs without fields
        fields.append(pa.field(SPREAD, pa.struct(list(typed.items())), nullable=False))
    if has_rest:
        fields.append(pa.field(REST, text, metadata=JSON_MARK))
    fields += [pa.field(name, type_) for name, type_ in flat.items()]
    fields += [pa.field(f"{VECTOR}{n}", type_, nullable=False) for n, type_ in vectors.items()]
    return pa.schema(fields)


def _document_columns(
    documents: list[Document], typed: dict[str, Any], *, has_rest: bool
) -> list[Any]:
    text = pa.large_string()
    columns = [
        pa.array([document.id for document in documents], text),
        pa.array([document.text for document in documents], text),
        pa.array([document.label for document in documents], text),
    ]
    if typed:
        children = [
            pa.array([document.metadata.get(name) for document in documents], type_)
            for name, type_ in typed.items()
        ]
        fields = [pa.field(name, type_) for name, type_ in typed.items()]
        columns.append(pa.StructArray.from_arrays(children, fields=fields))
    if has_rest:
        rests = [_rest(document.metadata, typed) for document in documents]
        columns.append(pa.array(rests, text))
    return columns


def _flat_column(documents: list[Document], name: str, type_: Any) -> Any:
    values = [document.metadata.get(name) for document in documents]
    return pa.array(map(to_cell, values) if type_ == pa.large_string() else values, type_)


def _rest(metadata: Mapping[str, Scalar], typed: dict[str, Any]) -> str | None:
    rest = {name: value for name, value in metadata.items() if name not in typed}
    return json.dumps(rest, ensure_ascii=False) if rest else None


def _fixed_size_list(vectors: Vectors, type_: Any) -> Any:
    values = vectors.astype(type_.value_type.to_pandas_dtype(), copy=False).ravel()
    return pa.FixedSizeListArray.from_arrays(pa.array(values, type_.value_type), type=type_)
