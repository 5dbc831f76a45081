"""Documents and vectors to a file that `readers` can read again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from layerdex.arguments import format_value
from layerdex.choices import ExportFormat, MetadataLayout, StoredPrecision
from layerdex.errors import OptionError
from layerdex.indexer.readers.rows import VECTOR
from layerdex.indexer.writers.columns import flat_row, metadata_columns
from layerdex.limits import PYARROW, check_limits
from layerdex.records import OnProgress
from layerdex.storage.maintenance.export import Batch
from layerdex.terminals import json_line

_SUFFIXES = {
    ".jsonl": ExportFormat.JSONL,
    ".ndjson": ExportFormat.JSONL,
    ".parquet": ExportFormat.PARQUET,
    ".pq": ExportFormat.PARQUET,
    ".csv": ExportFormat.CSV,
}
_NPY = ".npy"


def resolve_export_format(path: Path | None, requested: ExportFormat) -> ExportFormat:
    """Return the requested format, else the one of the file's name.

    A name without an extension means jsonl. Raises `OptionError` for an unsupported extension.
    """
    if requested is not ExportFormat.AUTO:
        return requested
    if path is None:
        return ExportFormat.JSONL
    if path.suffix.lower() == _NPY:
        return ExportFormat.NPY
    try:
        return format_of_name(path)
    except OptionError as error:
        formats = ", ".join(each for each in ExportFormat if each is not ExportFormat.AUTO)
        raise OptionError(f"{error}, or choose the format ({formats})") from None


def resolve_layout(format: ExportFormat, requested: MetadataLayout | None) -> MetadataLayout:
    """Return the requested layout of metadata, else the format's own.

    Raises `OptionError` for an object in csv.
    """
    if format is not ExportFormat.CSV:
        return MetadataLayout.OBJECT if requested is None else requested
    if requested is MetadataLayout.OBJECT:
        raise OptionError("csv has no objects: write the metadata as columns, or to jsonl")
    return MetadataLayout.COLUMNS


def format_of_name(path: Path) -> ExportFormat:
    """Return the format of documents of a file's extension; jsonl without one.

    Raises `OptionError` for an unsupported extension.
    """
    if not path.suffix:
        return ExportFormat.JSONL
    if path.suffix.lower() not in _SUFFIXES:
        raise OptionError(
            f"cannot write {format_value(path.name)}: use a name that ends in "
            f"{', '.join(_SUFFIXES)}, or has no extension"
        )
    return _SUFFIXES[path.suffix.lower()]


def write_export(
    file: BinaryIO,
    batches: Iterator[Batch],
    *,
    format: ExportFormat,
    layers: tuple[int, ...],
    width: int,
    precision: StoredPrecision,
    on_progress: OnProgress | None,
    metadata: MetadataLayout | None = None,
) -> int:
    """Write documents in order, and return their number.

    For each of ``layers`` there is a field ``vector_N``: in jsonl a list of ``width`` numbers, in
    parquet a list of fixed size, float16 if the index stores float16, else float32. Readers ignore
    these fields. Raises `OptionError` for vectors in csv, for npy, which holds no documents, and
    for a metadata field that cannot be a column.
    """
    layout = resolve_layout(format, metadata)
    if format is ExportFormat.NPY:
        raise OptionError("an .npy file holds vectors, not documents: write .jsonl, .parquet, .csv")
    if format is ExportFormat.CSV and layers:
        raise OptionError("csv holds no vectors: write them to .npy, .parquet or .jsonl")
    reported = report_progress(batches, on_progress)
    if format is ExportFormat.CSV:
        from layerdex.indexer.writers.delimited import write_csv

        return write_csv(file, reported)
    if format is ExportFormat.PARQUET:
        check_limits(PYARROW)
        from layerdex.indexer.writers.parquet import write_parquet

        return write_parquet(
            file, reported, layers=layers, width=width, precision=precision, layout=layout
        )
    return _write_jsonl(file, reported, layout=layout, layers=layers)


def report_progress(batches: Iterator[Batch], on_progress: OnProgress | None) -> Iterator[Batch]:
    """Yield the batches, and report each as written when the next is requested."""
    n_done = 0
    for batch in batches:
        yield batch
        n_done += len(batch.documents)
        if on_progress is not None:
            on_progress(n_done, batch.n_total)


def _write_jsonl(
    file: BinaryIO, batches: Iterator[Batch], *, layout: MetadataLayout, layers: tuple[int, ...]
) -> int:
    n_documents = 0
    for batch in batches:
        is_flat = layout is MetadataLayout.COLUMNS
        columns = metadata_columns(batch.metadata_types, layers=layers) if is_flat else []
        for i, document in enumerate(batch.documents):
            row = dict(flat_row(document, columns)) if is_flat else document.as_row()
            for layer, vectors in batch.vectors.items():
                row[f"{VECTOR}{layer}"] = vectors[i].tolist()
            file.write(json_line(row, file).encode())
        n_documents += len(batch.documents)
    return n_documents
