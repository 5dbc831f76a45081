"""A row of any source to a document, or the reason for its rejection."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from layerdex.errors import SourceError
from layerdex.indexer.readers.fields import (
    MAX_NAMES_COMPARED,
    Fields,
    missing_field,
    missing_text,
)
from layerdex.indexer.readers.values import (
    BadValueError,
    clean_string,
    kind,
    metadata_value,
    name_value,
    text_value,
)
from layerdex.records import UNSET, Origin, Rejected, Scalar, SourceDocument, Unset

Reading = SourceDocument | Rejected
"""A reader yields one for each row."""

RawRow = tuple[Origin, object]
"""The origin of a row, and the decoded row or a `Rejected`."""

SPREAD = "metadata"
"""The field in which ``export`` writes a document's metadata, as an object."""

VECTOR = "vector_"
"""Prefix of the fields in which ``export`` writes vectors; the layer's number follows."""

VECTOR_TYPES = (list, np.ndarray)
_VECTOR_NAME = re.compile(VECTOR + r"\d{1,4}", re.ASCII)

MAX_ROWS_SEARCHED = 1000
"""Fewer than a window, so that a misspelt field is an error before the first commit."""


def read_rows(rows: Iterable[RawRow], *, source: str, fields: Fields) -> Iterator[Reading]:
    """Read the rows of a source without a header, in which each row may have other fields.

    Raises `SourceError` if none of the first 1,000 rows has a field that was named explicitly.
    """
    missing = _MissingFields(fields)
    for origin, row in rows:
        if missing.names and isinstance(row, Mapping):
            missing.update(row)
            if missing.n_rows == MAX_ROWS_SEARCHED:
                searched = f" in the first {MAX_ROWS_SEARCHED:,} rows"
                missing.check(source, searched=searched)
        yield row if isinstance(row, Rejected) else read_row(row, origin=origin, fields=fields)
    missing.check(source)


class _MissingFields:
    """The explicitly named fields that no row has had so far."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self.names = fields.required_names
        self.n_rows = 0
        self._existing: dict[object, None] = {}
        self._nested: dict[object, None] = {}

    def update(self, row: Mapping[object, object]) -> None:
        """Remove the fields that a row has."""
        self.n_rows += 1
        inner = row.get(SPREAD)
        nested = inner if isinstance(inner, Mapping) else {}
        self.names = [
            (option, name)
            for option, name in self.names
            if name not in row and (option != "metadata" or name not in nested)
        ]
        if len(self._existing) < MAX_NAMES_COMPARED:
            self._existing.update(dict.fromkeys(row))
            self._nested.update(dict.fromkeys(nested))

    def check(self, source: str, *, searched: str = "") -> None:
        """Raise `SourceError` for a field that is still missing."""
        if self.names and self.n_rows:
            option, name = self.names[0]
            existing = [*self._existing, *(self._nested if option == "metadata" else ())]
            if option == "text":
                reason = missing_text(self._fields, existing, searched=searched)
            else:
                reason = missing_field(option, name, existing, searched=searched)
            raise SourceError(f"{source}: {reason}")


def read_row(row: object, *, origin: Origin, fields: Fields) -> Reading:
    """Return the document of a row, or a `Rejected`; the rules are the same for every format."""
    try:
        if not isinstance(row, Mapping):
            raise BadValueError(f"the row is not an object ({kind(row)})")
        return SourceDocument(
            text=_text(row, fields),
            id=_id(row, fields),
            label=_label(row, fields),
            metadata=_metadata(row, fields),
            origin=origin,
        )
    except BadValueError as error:
        return Rejected(origin, str(error), id_of_rejected(row, fields))


def id_of_rejected(row: object, fields: Fields) -> str | Unset | None:
    """Return the id of the document that a bad row stands for; see `Rejected`."""
    if not isinstance(row, Mapping):
        return UNSET
    try:
        identifier = _id(row, fields)
    except BadValueError:
        return UNSET
    if identifier is not None:
        return identifier
    try:
        _text(row, fields)
    except BadValueError:
        return None
    return UNSET


def _text(row: Mapping[object, object], fields: Fields) -> str:
    if fields.text not in row:
        raise BadValueError(missing_text(fields, row.keys()))
    return text_value(row[fields.text], field="text")


def _id(row: Mapping[object, object], fields: Fields) -> str | None:
    if fields.id is not None and fields.id not in row:
        raise BadValueError(missing_field("id", fields.id, row.keys()))
    advice = "; leave it out or use null for an id made from the text"
    value = row.get(fields.id_name)
    if value is None and fields.other_id is not None:
        value = row.get(fields.other_id)
    return name_value(value, field="id", empty_advice=advice)


def _label(row: Mapping[object, object], fields: Fields) -> str | Unset | None:
    if fields.label_name not in row:
        return UNSET
    advice = "; use null for none"
    return name_value(row[fields.label_name], field="label", empty_advice=advice)


def _metadata(row: Mapping[object, object], fields: Fields) -> dict[str, Scalar | None]:
    metadata: dict[str, Scalar | None] = {}
    for name, value in _candidates(row, fields):
        checked = _metadata_name(name)
        if checked in metadata:
            raise BadValueError(f"metadata field {name!r} is there twice, once in {SPREAD!r}")
        metadata[checked] = metadata_value(value, field=f"metadata field {name!r}")
    return metadata


def _candidates(row: Mapping[object, object], fields: Fields) -> Iterator[tuple[object, object]]:
    """Yield the fields to keep as metadata, those of the ``metadata`` object last."""
    own, wanted = fields.own_names, fields.metadata
    inner = row.get(SPREAD) if SPREAD not in own else None
    is_spread = isinstance(inner, Mapping)
    for name, value in row.items():
        is_wanted = name not in own if wanted is None else name in wanted
        if wanted is None and is_vector_name(name) and isinstance(value, VECTOR_TYPES):
            continue
        if is_wanted and not (is_spread and name == SPREAD):
            yield name, value
    if isinstance(inner, Mapping):
        for name, value in inner.items():
            if wanted is None or name in wanted:
                yield name, value


def is_vector_name(name: object) -> bool:
    """Return whether a field has a name that ``export`` gives to the vectors of a layer."""
    return isinstance(name, str) and _VECTOR_NAME.fullmatch(name) is not None


def _metadata_name(name: object) -> str:
    if not isinstance(name, str):
        raise BadValueError(f"metadata field {name!r} has a name that is no string ({kind(name)})")
    if not name:
        raise BadValueError(
            "a metadata field has an empty name; name the fields to keep with --metadata-field"
        )
    return clean_string(name, field=f"the name of metadata field {name!a}")
