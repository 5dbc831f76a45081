"""Documents to csv: UTF-8 without a byte order mark, as RFC 4180 has it.

Every value is quoted unless it is a plain word or number, so that no reader can take a line end, a
blank or another mark for the end of a cell. What a document does not have is an empty cell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from layerdex.indexer.writers.columns import OWN_COLUMNS, as_text, flat_row, metadata_columns
from layerdex.storage.maintenance.export import Batch
from layerdex.terminals import escape_unsafe, is_terminal

_PLAIN = re.compile(r"[\w.:/+-]+", re.ASCII)


def write_csv(file: BinaryIO, batches: Iterator[Batch]) -> int:
    """Write a header and a row per document, and return the number of documents.

    Raises `OptionError` for a metadata field that cannot be a column.
    """
    n_documents, columns = 0, None
    for batch in batches:
        if columns is None:
            columns = metadata_columns(batch.metadata_types)
            file.write(_line([*OWN_COLUMNS, *columns], file))
        for document in batch.documents:
            file.write(_line(map(as_text, flat_row(document, columns).values()), file))
        n_documents += len(batch.documents)
    if columns is None:
        file.write(_line(OWN_COLUMNS, file))
    return n_documents


def _line(cells: Iterable[str | None], file: BinaryIO) -> bytes:
    line = ",".join(map(_cell, cells))
    return f"{escape_unsafe(line) if is_terminal(file) else line}\r\n".encode()


def _cell(value: str | None) -> str:
    if value is None or _PLAIN.fullmatch(value):
        return value or ""
    return '"' + value.replace('"', '""') + '"'
