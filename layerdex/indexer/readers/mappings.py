"""Mappings to documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from layerdex.indexer.readers.fields import Fields
from layerdex.indexer.readers.rows import Reading, read_rows
from layerdex.records import Origin

SOURCE = "<memory>"


def read_mappings(
    rows: Iterable[Mapping[str, object]], *, fields: Fields | None = None
) -> Iterator[Reading]:
    """Read mappings in their order; ``origin.line`` is the row's number from 1."""
    numbered = ((Origin(SOURCE, number), row) for number, row in enumerate(rows, start=1))
    return read_rows(numbered, source=SOURCE, fields=fields or Fields())
