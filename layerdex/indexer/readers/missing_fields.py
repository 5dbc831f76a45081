"""The explicitly named fields that a source without a header turns out not to have."""

from __future__ import annotations

from collections.abc import Mapping

from layerdex.errors import SourceError
from layerdex.indexer.readers.fields import (
    MAX_NAMES_COMPARED,
    MISSING,
    SPREAD,
    Fields,
    find_field,
    missing_field,
    names_of,
)


class MissingFields:
    """The explicitly named fields that no row has had so far."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self.names = fields.required_names
        self.n_rows = 0
        self._existing: dict[object, None] = {}
        self._nested: dict[object, None] = {}

    def update(self, row: Mapping[object, object]) -> None:
        """Remove the fields that a row has, or need not have."""
        self.n_rows += 1
        inner = row.get(SPREAD)
        nested = inner if isinstance(inner, Mapping) else {}
        required = self._fields.of(row).required_names
        self.names = [
            (option, name)
            for option, name in self.names
            if (option, name) in required
            and (option != "metadata" or name not in nested)
            and all(
                find_field(row, one) is MISSING
                for one in (name, *self._fields.stand_ins.get(option, ()))
            )
        ]
        if len(self._existing) < MAX_NAMES_COMPARED:
            self._existing.update(dict.fromkeys(names_of(row)))
            self._nested.update(dict.fromkeys(nested))

    def check(self, source: str, *, searched: str = "") -> None:
        """Raise `SourceError` for a field that is still missing."""
        if self.names and self.n_rows:
            option, name = self.names[0]
            existing = [*self._existing, *(self._nested if option == "metadata" else ())]
            reason = missing_field(self._fields, option, name, existing, searched=searched)
            raise SourceError(f"{source}: {reason}")
