"""Documents and vectors to a file that `readers` can read again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from layerdex.arguments import format_value
from layerdex.choices import ExportFormat, StoredPrecision
from layerdex.errors import OptionError
from layerdex.indexer.readers.rows import VECTOR
from layerdex.limits import PYARROW, check_limits
from layerdex.records import OnProgress
from layerdex.storage.maintenance.export import Batch
from layerdex.terminals import json_line

_SUFFIXES = {
    ".jsonl": ExportFormat.JSONL,
    ".ndjson": ExportFormat.JSONL,
    ".parquet": ExportFormat.PARQUET,
    ".pq": ExportFormat.PARQUET,
}


def resolve_export_format(path: Path | None, requested: ExportFormat) -> ExportFormat:
    """Return the requested format, else the one of the file's name.

    A name without an extension means jsonl. Raises `OptionError` for an unsupported extension.
    """
    if requested is not ExportFormat.AUTO:
        return requested
    if path is None:
        return ExportFormat.JSONL
    try:
        return format_of_name(path)
    except OptionError as error:
        raise OptionError(f"{error}, or choose the format (jsonl or parquet)") from None


def format_of_name(path: Path) -> ExportFormat:
    """Return the format of a file's extension; jsonl without one.

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
) -> int:
    """Write documents in order, and return their number.

    For each of ``layers`` there is a field ``vector_N``: in jsonl a list of ``width`` numbers, in
    parquet a list of fixed size, float16 if the index stores float16, else float32. Readers ignore
    these fields.
    """
    reported = _report_progress(batches, on_progress)
    if format is ExportFormat.PARQUET:
        check_limits(PYARROW)
        from layerdex.indexer.writers.parquet import write_parquet

        return write_parquet(file, reported, layers=layers, width=width, precision=precision)
    return _write_jsonl(file, reported)


def _report_progress(batches: Iterator[Batch], on_progress: OnProgress | None) -> Iterator[Batch]:
    """Yield the batches, and report each as written when the next is requested."""
    n_done = 0
    for batch in batches:
        yield batch
        n_done += len(batch.documents)
        if on_progress is not None:
            on_progress(n_done, batch.n_total)


def _write_jsonl(file: BinaryIO, batches: Iterator[Batch]) -> int:
    n_documents = 0
    for batch in batches:
        for i, document in enumerate(batch.documents):
            row = document.as_row()
            for layer, vectors in batch.vectors.items():
                row[f"{VECTOR}{layer}"] = vectors[i].tolist()
            file.write(json_line(row, file).encode())
        n_documents += len(batch.documents)
    return n_documents
