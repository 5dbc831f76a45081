"""Which fields of a source of queries are the text and the id."""

from __future__ import annotations

from dataclasses import dataclass

from layerdex.indexer.readers.fields import Fields
from layerdex.records import UNSET, Unset

BEIR_ID = "_id"
"""The id in BEIR's and MongoDB's files."""


@dataclass(frozen=True, slots=True)
class QueryFields(Fields):
    """The fields of a query: no others are read, but for the id of BEIR's files."""

    label: str | Unset | None = UNSET
    metadata: tuple[str, ...] | None = ()

    @property
    def optional_names(self) -> tuple[str, ...]:
        """The id of BEIR's files."""
        return (BEIR_ID,)
