"""Documents and vectors to a file that the readers of this room read again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from layerdex.arguments import format_value
from layerdex.choices import ExportFormat, StoredPrecision
from layerdex.errors import OptionError
from layerdex.indexer.readers.rows import VECTOR
from layerdex.records import OnProgress
from layerdex.storage.maintenance.export import Batch

_SUFFIXES = {
    ".jsonl": ExportFormat.JSONL,
    ".ndjson": ExportFormat.JSONL,
    ".parquet": ExportFormat.PARQUET,
    ".pq": ExportFormat.PARQUET,
}


def resolve_export_format(path: Path | None, requested: ExportFormat) -> ExportFormat:
    """Return the format to write: what was asked for, else by the file's name.

    A name without an extension gets jsonl. Raises `OptionError` for one that promises a format
    that is not written here.
    """
    if requested is not ExportFormat.AUTO:
        return requested
    if path is None:
        return ExportFormat.JSONL
    try:
        return format_of_name(path)
    except OptionError as error:
        raise OptionError(f"{error}, or say the format (jsonl or parquet)") from None


def format_of_name(path: Path) -> ExportFormat:
    """Return the format that a file's name promises: jsonl without an extension.

    Raises `OptionError` for one that is not written here.
    """
    if not path.suffix:
        return ExportFormat.JSONL
    if path.suffix.lower() not in _SUFFIXES:
        raise OptionError(
            f"{format_value(path.name)} names no format that is written: end it in "
            f"{', '.join(_SUFFIXES)}, or in nothing"
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
    """Write documents in their order, and return how many.

    With ``layers`` each has a field ``vector_N`` a layer: in jsonl a list of ``width`` numbers, in
    parquet a list of fixed size, float16 where the index keeps that, else float32. Readers leave
    these fields out.
    """
    told = _tell(batches, on_progress)
    if format is ExportFormat.PARQUET:
        from layerdex.indexer.writers.parquet import write_parquet

        return write_parquet(file, told, layers=layers, width=width, precision=precision)
    return _write_jsonl(file, told)


def _tell(batches: Iterator[Batch], on_progress: OnProgress | None) -> Iterator[Batch]:
    """Pass batches on, and say when the next one is asked for that one is written."""
    n_done = 0
    for batch in batches:
        yield batch
        n_done += len(batch.documents)
        if on_progress is not None:
            on_progress(n_done, batch.n_total)


def _write_jsonl(file: BinaryIO, batches: Iterator[Batch]) -> int:
    n_documents = 0
    for batch in batches:
        for at, document in enumerate(batch.documents):
            row = document.as_row()
            for layer, vectors in batch.vectors.items():
                row[f"{VECTOR}{layer}"] = vectors[at].tolist()
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        n_documents += len(batch.documents)
    return n_documents
