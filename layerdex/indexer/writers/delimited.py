r"""Rows of cells with a delimiter between them, and documents as such rows.

Lines of csv end with CR LF, as RFC 4180 has it, and every cell is quoted unless it is a plain word
or number, so that no reader can take a line end, a blank or another mark for the end of a cell.
Lines of tsv end with LF, and only what would break them is quoted: most who read tsv know no
quotes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from layerdex.indexer.writers.columns import OWN_COLUMNS, flat_row, metadata_columns, to_cell
from layerdex.storage.maintenance.export import Batch
from layerdex.terminals import escape_unsafe, is_terminal

_PLAIN = re.compile(r"[\w.:/+-]*", re.ASCII)
_PLAIN_IN_TSV = re.compile(r'[^"\x00-\x1f\x7f\x85\u2028\u2029]*')


def write_csv(file: BinaryIO, batches: Iterator[Batch]) -> int:
    """Write a header and a row per document, and return the number of documents.

    UTF-8 without a byte order mark, which a pipe or another reader would take for text. Raises
    `OptionError` for a metadata field that cannot be a column.
    """
    n_documents, columns = 0, None
    for batch in batches:
        if columns is None:
            columns = metadata_columns(batch.metadata_types)
            _write(file, [*OWN_COLUMNS, *columns])
        for document in batch.documents:
            _write(file, map(to_cell, flat_row(document, columns).values()))
        n_documents += len(batch.documents)
    if columns is None:
        _write(file, OWN_COLUMNS)
    return n_documents


def join_cells(cells: Iterable[str | None], *, delimiter: str = ",") -> str:
    """Return a row without its line end; None is an empty cell."""
    plain = _PLAIN_IN_TSV if delimiter == "\t" else _PLAIN
    quoted = [_quote(cell, plain, delimiter) for cell in cells]
    return '""' if quoted == [""] else delimiter.join(quoted)  # an empty line is no row


def line_end(delimiter: str) -> str:
    """Return what ends the lines of a file with this delimiter."""
    return "\n" if delimiter == "\t" else "\r\n"


def _write(file: BinaryIO, cells: Iterable[str | None]) -> None:
    row = join_cells(cells)
    file.write(f"{escape_unsafe(row) if is_terminal(file) else row}{line_end(',')}".encode())


def _quote(cell: str | None, plain: re.Pattern[str], delimiter: str) -> str:
    cell = cell or ""
    if plain.fullmatch(cell) and delimiter not in cell:
        return cell
    return '"' + cell.replace('"', '""') + '"'
