"""Rows without a text: skipped in tables, whose cells may be empty, and else bad rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from layerdex.choices import OnBlank
from layerdex.indexer.readers.rows import Reading
from layerdex.records import Blank, Rejected


def mark_cells(readings: Iterable[Reading]) -> Iterator[Reading]:
    """Mark the blank rows of a table as such."""
    for row in readings:
        yield replace(row, in_table=True) if isinstance(row, Blank) else row


def settle_blanks(readings: Iterable[Reading], on_blank: OnBlank | None) -> Iterator[Reading]:
    """Make a plain `Rejected` of each blank row that is an error: by default all but a table's."""
    for row in readings:
        if isinstance(row, Blank) and not _is_skipped(row, on_blank):
            yield Rejected(row.origin, row.reason, row.id)
        else:
            yield row


def _is_skipped(row: Blank, on_blank: OnBlank | None) -> bool:
    return row.in_table if on_blank is None else on_blank is OnBlank.SKIP
