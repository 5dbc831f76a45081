"""Which fields of a source of queries are the text and the id."""

from __future__ import annotations

from dataclasses import dataclass

from layerdex.indexer.readers.stored_fields import StoredFields
from layerdex.records import UNSET, Unset

BEIR_ID = "_id"
"""The id in BEIR's and MongoDB's files."""


@dataclass(frozen=True, slots=True)
class QueryFields(StoredFields):
    """The fields of a query: no others are read. Without an ``id`` it is BEIR's."""

    label: str | Unset | None = UNSET
    metadata: tuple[str, ...] | None = ()

    @property
    def other_id(self) -> str | None:
        """The id of BEIR's files, unless a field is named explicitly."""
        return BEIR_ID if self.id is None else None
