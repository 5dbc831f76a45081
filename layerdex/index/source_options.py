"""What a run says of its sources, and what an index has stored of earlier ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import NoneType
from typing import TYPE_CHECKING, Any

from layerdex.arguments import check_type, format_value, to_list
from layerdex.errors import OptionError
from layerdex.storage.catalog.date_formats import check_date_format
from layerdex.storage.catalog.source_fields import (
    DATE_FORMATS,
    SOURCE_FIELDS,
    SourceFields,
    read_date_formats,
    read_source_fields,
)
from layerdex.storage.store import Store

if TYPE_CHECKING:
    from layerdex.indexer.readers.fields import Fields


def resolve_fields(
    store: Store,
    *,
    text: str | None,
    id: str | None,
    label: str | None,
    metadata: Iterable[str] | None,
    may_derive_ids: bool,
) -> Fields:
    """Return the fields to read: those that are named, else those that the index has stored."""
    from layerdex.indexer.readers.fields import Fields
    from layerdex.indexer.readers.stored_fields import StoredFields

    named: dict[str, Any] = {"text": text, "id": id, "label": label, "metadata": to_names(metadata)}
    given = {part: name for part, name in named.items() if name is not None}
    stored = store.query(lambda snapshot: read_source_fields(snapshot.connection))
    # A stored name that is the plain one stays a default: no source must have it.
    defaults = {
        part: name
        for part, name in ({} if stored is None else stored.parts).items()
        if part not in given and name not in (None, part)
    }
    if not defaults:
        return Fields(**given)
    return StoredFields(
        **defaults | given, stored=frozenset(defaults), may_derive_ids=may_derive_ids
    )


def resolve_test_fields(
    store: Store,
    *,
    text: str | None = None,
    id: str | None = None,
    label: str | None = None,
    metadata: Iterable[str] | None = None,
    by: str = "label",
) -> Fields:
    """Return the fields of a test set: as `resolve_fields` does, but only text and label matter.

    The stored name of the label is that of the label, not of another field to predict, ``by``.
    """
    from layerdex.indexer.readers.stored_fields import StoredFields

    fields = resolve_fields(
        store, text=text, id=id, label=label, metadata=metadata, may_derive_ids=True
    )
    if not isinstance(fields, StoredFields):
        return fields
    stored = fields.stored & {"text", "label"}
    if by not in ("label", fields.label):
        stored, fields = stored - {"label"}, replace(fields, label=label)
    return replace(fields, id=id, metadata=to_names(metadata), stored=stored)


def to_names(metadata: Iterable[str] | None) -> tuple[str, ...] | None:
    """Return the names of metadata fields; a single string is refused, as it may be one name."""
    if metadata is None:
        return None
    what = "metadata is a list of names"
    if isinstance(metadata, str):
        raise OptionError(f"{what}, not {format_value(metadata)}")
    names = tuple(to_list(metadata, what=what))
    for name in names:
        check_type(name, str, what="a field's name is a string")
    return names


def declare(
    store: Store,
    *,
    text: str | None,
    id: str | None,
    label: str | None,
    metadata: Iterable[str] | None,
    date_formats: Mapping[str, str] | None,
    lock_timeout_s: float,
) -> None:
    """Store names and forms of dates; see `Index.declare`."""
    for name in (text, id, label):
        check_type(name, (str, NoneType), what="a field's name is a string")
    named: dict[str, Any] = {"text": text, "id": id, "label": label, "metadata": to_names(metadata)}
    given = {part: name for part, name in named.items() if name is not None}
    formats = check_date_formats(date_formats)
    with store.write(lock_timeout_s=lock_timeout_s) as writer:
        with writer.transaction() as connection:
            fields = read_source_fields(connection) or SourceFields("text", None, None, None)
            stored_formats = read_date_formats(connection)
        if given:
            writer.set_with_next(SOURCE_FIELDS, SourceFields(**fields.parts | given).to_setting())
        if formats:
            writer.set_with_next(DATE_FORMATS, {**stored_formats, **formats})
        writer.set_deferred()


def check_date_formats(formats: Mapping[str, str] | None) -> dict[str, str]:
    """Return forms of dates by field; raises `OptionError` for one that no date is read by."""
    check_type(formats, (Mapping, NoneType), what="date formats are a mapping of fields to forms")
    checked = dict(formats or {})
    for name, form in checked.items():
        check_type(name, str, what="a field's name is a string")
        if not name:
            raise OptionError("a date format is for a field, such as Datum=%d.%m.%Y")
        check_date_format(form, field=name)
    return checked
