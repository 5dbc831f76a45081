"""Which field of documents a name means."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from sqlalchemy import Column, Connection, Select, select

from layerdex.errors import FilterError
from layerdex.storage.catalog.schema import DOCUMENT, LIVE, METADATUM
from layerdex.storage.catalog.source_fields import read_source_fields

METADATA_PREFIX = "metadata."
_MAX_FIELDS = 50
_MAX_CHARACTERS = 60
_COLUMNS: dict[str, Column[str] | Column[str | None]] = {
    "id": DOCUMENT.c.id,
    "label": DOCUMENT.c.label,
}


@dataclass(frozen=True, slots=True)
class Field:
    """``label``, ``id`` or, without a ``column``, a metadata field."""

    name: str
    column: Column[str] | Column[str | None] | None = None

    @property
    def is_label(self) -> bool:
        """Whether it is the label of documents."""
        return self.column is _COLUMNS["label"]

    @property
    def reference(self) -> str:
        """The name by which `lookup_field` finds it, whatever it is called in the sources."""
        is_hidden = self.column is None and self.name in _COLUMNS
        return METADATA_PREFIX + self.name if is_hidden else self.name


def find_field(connection: Connection, name: str, *, is_quoted: bool) -> Field:
    """Return the field that a name means; raises `FilterError` if no document has it."""
    found = lookup_field(connection, name, is_quoted=is_quoted)
    if found is None:
        raise _unknown_field(connection, name, is_quoted=is_quoted)
    return found


def lookup_field(connection: Connection, name: str, *, is_quoted: bool = False) -> Field | None:
    """Return the field that a name means, None if no document has it.

    ``label`` and ``id`` are columns of the document. ``metadata.NAME`` is short for NAME, unless
    documents have a field that is called so; ``is_quoted`` says that it is part of the name. The
    name that the label or the id has in the sources means these, unless a field is called so.
    """
    if name in _COLUMNS:
        return Field(name, _COLUMNS[name])
    for meant in (name,) if is_quoted else (name, name.removeprefix(METADATA_PREFIX)):
        if _has_field(connection, meant):
            return Field(meant)
    part = _aliases(connection).get(name)
    return None if part is None else Field(part, _COLUMNS[part])


def _aliases(connection: Connection) -> dict[str, str]:
    fields = read_source_fields(connection)
    return {} if fields is None else fields.aliases


def _has_field(connection: Connection, name: str) -> bool:
    query = _live_fields().where(METADATUM.c.name == name).limit(1)
    return connection.execute(query).first() is not None


def _live_fields() -> Select[str]:
    # Dead versions keep their metadata until a compaction.
    return select(METADATUM.c.name).join(DOCUMENT, DOCUMENT.c.row == METADATUM.c.row).where(LIVE)


def _unknown_field(connection: Connection, name: str, *, is_quoted: bool) -> FilterError:
    fields = connection.scalars(_live_fields().distinct()).all()
    others = ["label", *_aliases(connection)]
    likely = [field for field in [*fields, *others] if len(field) <= _MAX_CHARACTERS]
    close = get_close_matches(name[: 2 * _MAX_CHARACTERS], likely, n=1)
    if not is_quoted:
        name = name.removeprefix(METADATA_PREFIX)
        close = close or get_close_matches(name[: 2 * _MAX_CHARACTERS], likely, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    known = ", ".join(_shown(field) for field in sorted(fields)[:_MAX_FIELDS]) or "none"
    if len(fields) > _MAX_FIELDS:
        known += f" and {len(fields) - _MAX_FIELDS} more"
    asked = repr(name) if len(name) <= _MAX_CHARACTERS else f"{name[:_MAX_CHARACTERS]!r}…"
    return FilterError(f"no document has a field {asked} (label, and metadata: {known}){hint}")


def _shown(name: str) -> str:
    """Return a field's name, quoted if a terminal would not show it as it is."""
    if len(name) > _MAX_CHARACTERS:
        return f"{name[:_MAX_CHARACTERS]!r}…"
    return name if name.isprintable() and name == name.strip() != "" else repr(name)
