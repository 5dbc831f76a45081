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


def find_field(connection: Connection, name: str, *, is_quoted: bool) -> Field:
    """Return the field that a name in a condition means.

    ``label`` and ``id`` are columns of the document, any other name is looked up as by
    `field_name`; ``is_quoted`` says that ``metadata.`` is part of the name. Raises `FilterError`
    for a field that no document has.
    """
    if name in _COLUMNS:
        return Field(name, _COLUMNS[name])
    found = _known(connection, name) if is_quoted else field_name(connection, name)
    if found is None:
        raise _unknown_field(connection, name, is_quoted=is_quoted)
    # A field that is called label is named metadata.label, unlike an alias.
    is_metadata = found == name or name == METADATA_PREFIX + found
    return Field(found, None if is_metadata else _COLUMNS.get(found))


def field_name(connection: Connection, name: str) -> str | None:
    """Return the field that ``name`` stands for, None if no document has it.

    ``metadata.NAME`` is short for NAME, unless documents have a field that is called so. The name
    that the label or the id has in the sources means these, unless a field is called so.
    """
    return _known(connection, name, name.removeprefix(METADATA_PREFIX))


def _known(connection: Connection, *meant: str) -> str | None:
    known = (each for each in meant if _has_field(connection, each))
    return next(known, None) or _aliases(connection).get(meant[0])


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
