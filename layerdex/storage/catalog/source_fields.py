"""What an index remembers of its sources: the names that fields have there, and forms of dates.

Indexes from before this was recorded have neither setting, which reads as None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from layerdex.storage.catalog.row_digests import setting_damage
from layerdex.storage.catalog.rows import read_setting

SOURCE_FIELDS = "source_fields"
DATE_FORMATS = "date_formats"


@dataclass(frozen=True, slots=True)
class SourceFields:
    """The names of a document's parts in the sources of an index's first run.

    ``id`` and ``label`` are None where the sources have none, so that ids are derived from texts.
    ``metadata`` are the names of the fields that are kept, or None for all others.
    """

    text: str
    id: str | None
    label: str | None
    metadata: tuple[str, ...] | None

    @property
    def aliases(self) -> dict[str, str]:
        """The parts that documents have in an index, by the names that they have in the sources."""
        named = {"id": self.id, "label": self.label}
        return {name: part for part, name in named.items() if name not in (None, part)}

    @property
    def parts(self) -> dict[str, Any]:
        """The names by the parts of a document."""
        return {part: getattr(self, part) for part in ("text", "id", "label", "metadata")}

    def to_setting(self) -> dict[str, Any]:
        """Return the value of the setting `SOURCE_FIELDS`."""
        return {**self.parts, "metadata": None if self.metadata is None else list(self.metadata)}


def read_source_fields(connection: Connection) -> SourceFields | None:
    """Return the names of fields in the sources; None if no run has recorded them."""
    stored = read_setting(connection, SOURCE_FIELDS)
    if stored is None:
        return None
    metadata = stored.get("metadata") if isinstance(stored, Mapping) else ()
    if not isinstance(metadata, list | None) or not _are_names(stored, metadata or []):
        raise setting_damage(SOURCE_FIELDS)
    kept = None if metadata is None else tuple(metadata)
    return SourceFields(stored["text"], stored["id"], stored["label"], kept)


def read_date_formats(connection: Connection) -> dict[str, str]:
    """Return the declared forms of dates by field, as `datetime.strptime` takes them."""
    stored = read_setting(connection, DATE_FORMATS)
    if stored is None:
        return {}
    if not isinstance(stored, dict) or not all(isinstance(form, str) for form in stored.values()):
        raise setting_damage(DATE_FORMATS)
    return stored


def _are_names(stored: object, metadata: list[object]) -> bool:
    return (
        isinstance(stored, Mapping)
        and set(stored) == {"text", "id", "label", "metadata"}
        and isinstance(stored["text"], str)
        and isinstance(stored["id"], str | None)
        and isinstance(stored["label"], str | None)
        and all(isinstance(name, str) for name in metadata)
    )
