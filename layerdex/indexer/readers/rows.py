"""A row of any source to a document, or the reason for its rejection."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from shlex import quote

import numpy as np

from layerdex.errors import SourceError
from layerdex.indexer.readers.annotations import flatten_export
from layerdex.indexer.readers.fields import (
    MISSING,
    SPREAD,
    Fields,
    find_field,
    missing_field,
    names_of,
)
from layerdex.indexer.readers.labels import label_value
from layerdex.indexer.readers.missing_fields import MissingFields
from layerdex.indexer.readers.values import (
    BadKindError,
    BadValueError,
    BlankError,
    NullError,
    clean_string,
    id_value,
    kind,
    metadata_value,
)
from layerdex.records import UNSET, Blank, Origin, Rejected, Scalar, SourceDocument, Unset


@dataclass(frozen=True, slots=True)
class InputRow(SourceDocument):
    """A row as it is, instead of its document: the fields in their order, null for empty cells."""

    row: Mapping[object, object] = field(default_factory=dict)


Reading = SourceDocument | Rejected
"""A reader yields one for each row; for `Fields` that keep rows the document is an `InputRow`."""

Nested = Mapping[object, object] | Sequence[object]
RawField = tuple[object, object]
RawRow = tuple[Origin, object]
"""The origin of a row, and the decoded row or a `Rejected`."""

VECTOR = "vector_"
"""Prefix of the fields in which ``export`` writes vectors; the layer's number follows."""

VECTOR_TYPES = (list, np.ndarray)
_VECTOR_NAME = re.compile(VECTOR + r"\d{1,4}", re.ASCII)

MAX_ROWS_SEARCHED = 1000
"""Documents are held back meanwhile: a misspelt field is an error before the first commit."""

_MAX_CHARACTERS_HELD = 8_000_000


def read_rows(rows: Iterable[RawRow], *, source: str, fields: Fields) -> Iterator[Reading]:
    """Read the rows of a source without a header, in which each row may have other fields.

    The rows of an annotation tool's export are recognised by the first. Raises `SourceError` if
    none of the first 1,000 rows has a field that was named explicitly, or if all of them have a
    field of a kind that it cannot have.
    """
    rows, fields = flatten_export(rows, source=source, fields=fields)
    yield from refuse_once(_read_checked(rows, source=source, fields=fields))


def refuse_once(readings: Iterable[Reading]) -> Iterator[Reading]:
    """Pass readings on; raise `SourceError` if the first 1,000, or all of several, are bad."""
    remaining = iter(readings)
    held: list[Reading] = []
    for reading in remaining:
        held.append(reading)
        if not isinstance(reading, BadColumn):
            yield from held
            yield from remaining
            return
        if len(held) == MAX_ROWS_SEARCHED:
            break
    if len(held) > 1:
        raise SourceError(str(held[0]))
    yield from held


def _read_checked(rows: Iterable[RawRow], *, source: str, fields: Fields) -> Iterator[Reading]:
    missing, held, n_characters = MissingFields(fields), list[Reading](), 0
    line = None
    for n, (origin, row) in enumerate(rows, start=1):
        if missing.names and isinstance(row, Mapping):
            missing.update(row)
            if missing.n_rows == MAX_ROWS_SEARCHED:
                searched = f" in the first {MAX_ROWS_SEARCHED:,} rows"
                missing.check(source, searched=searched)
        # The line alone does not tell which of its rows this is.
        place = replace(origin, row=n) if origin.line == line is not None else origin
        line = origin.line
        if isinstance(row, Rejected):
            reading: Reading = replace(row, origin=place)
        else:
            own = fields.of(row) if isinstance(row, Mapping) else fields
            reading = read_row(row, origin=place, fields=own)
        held.append(reading)
        n_characters += 0 if isinstance(reading, Rejected) else len(reading.text)
        # A rejected row may end the run, and does not wait.
        may_hold = not isinstance(reading, Rejected) and n_characters < _MAX_CHARACTERS_HELD
        if not (missing.names and may_hold):
            yield from held
            held, n_characters = [], 0
    missing.check(source)
    yield from held


class BadColumn(Rejected):
    """A row with a field of a kind that it cannot have; in most sources every row has it."""

    __slots__ = ()


def read_row(row: object, *, origin: Origin, fields: Fields) -> Reading:
    """Return the document of a row, or a `Rejected`; the rules are the same for every format."""
    try:
        if not isinstance(row, Mapping):
            raise BadValueError(f"the row is not an object ({kind(row)})")
        if fields.keeps_row:
            return InputRow("", origin=origin, row=row)
        return SourceDocument(
            text=_text(row, fields),
            id=_id(row, fields),
            label=_label(row, fields),
            metadata=_metadata(row, fields),
            origin=origin,
        )
    except BadKindError as error:
        return BadColumn(origin, str(error), id_of_rejected(row, fields))
    except BlankError as error:
        is_null = isinstance(error, NullError)
        return Blank(origin, str(error), id_of_rejected(row, fields), is_null=is_null)
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
    value = find_field(row, fields.text)
    if value is MISSING:
        names = names_of(row)
        raise BadValueError(missing_field(fields, fields.text_option, fields.text, names))
    option = fields.text_option
    if isinstance(value, Mapping) and value:
        path = quote(f"{fields.text}.{next(iter(value))}")
        advice = f"name the field inside it, such as --{option}-field {path}"
        raise BadKindError(f"{option} is not a string (object); {advice}")
    return fields.to_text(value)


def _id(row: Mapping[object, object], fields: Fields) -> str | None:
    name = fields.id_name
    value = MISSING if name is None else find_field(row, name)
    if fields.other_id is not None and (value is MISSING or value is None):
        other = find_field(row, fields.other_id)
        value = MISSING if isinstance(other, (Mapping, list)) else other
    if name is None or value is MISSING:
        if fields.id not in (None, UNSET):
            raise BadValueError(missing_field(fields, "id", str(name), names_of(row)))
        return None
    advice = "; leave it out or use null for an id made from the text"
    return id_value(value, field="id", empty_advice=advice)


def _label(row: Mapping[object, object], fields: Fields) -> str | Unset | None:
    name = fields.label_name
    value = MISSING if name is None else find_field(row, name)
    return UNSET if name is None or value is MISSING else label_value(value, name=name)


def _metadata(row: Mapping[object, object], fields: Fields) -> dict[str, Scalar | None]:
    metadata: dict[str, Scalar | None] = {}
    for name, value in _candidates(row, fields):
        checked = _metadata_name(name)
        if checked in metadata:
            raise BadValueError(f"metadata field {name!r} is there twice, once in {SPREAD!r}")
        try:
            metadata[checked] = metadata_value(value, field="")
        except BadValueError as error:
            advice = metadata_advice(fields) if isinstance(error, BadKindError) else ""
            raise type(error)(f"metadata field {name!r}{error}{advice}") from None
    return metadata


def metadata_advice(fields: Fields) -> str:
    """Return what to do about a metadata field of a bad kind, empty where it was asked for."""
    is_unasked = fields.metadata is None
    return "; name the fields to keep with --metadata-field" if is_unasked else ""


def _candidates(row: Mapping[object, object], fields: Fields) -> Iterator[RawField]:
    """Yield the fields to keep as metadata, those of the ``metadata`` object last."""
    own = fields.own_names
    inner = row.get(SPREAD) if SPREAD not in own else None
    spread = inner if isinstance(inner, Mapping) else {}
    if fields.metadata is not None:
        yield from _named(row, spread, fields.metadata)
        yield from _named(row, {}, fields.optional_names)
        return
    paths = [name for name in own if name and "." in name and name not in row]
    roots, read = set[str](), set[str]()
    if paths:
        roots = {path.partition(".")[0] for path in paths}
        read = {path.partition(".")[0] for path in paths if find_field(row, path) is not MISSING}
    for name, value in row.items():
        if name in own or (isinstance(value, VECTOR_TYPES) and is_vector_name(name)):
            continue
        if name in roots and isinstance(value, (Mapping, list, tuple)):
            yield from _beside(name, value, own)
        elif name not in read and not (name == SPREAD and isinstance(inner, Mapping)):
            yield name, value
    if SPREAD not in roots:
        yield from spread.items()


def _named(
    row: Mapping[object, object], spread: Mapping[object, object], names: Iterable[str]
) -> Iterator[RawField]:
    for name in names:
        is_spread = name == SPREAD and isinstance(row.get(SPREAD), Mapping)
        value = MISSING if is_spread else find_field(row, name)
        if value is not MISSING:
            yield name, value
        if name in spread:
            yield name, spread[name]


def _beside(root: object, value: Nested, own: Collection[str | None]) -> Iterator[RawField]:
    """Yield what is beside a field in its object or list, under the paths that lead there."""
    for inner, member in value.items() if isinstance(value, Mapping) else enumerate(value):
        path = f"{root}.{inner}"
        leads_on = any(name.startswith(f"{path}.") for name in own if name)
        if leads_on and isinstance(member, (Mapping, list, tuple)):
            yield from _beside(path, member, own)
        elif path not in own:
            yield path, member


def is_vector_name(name: object) -> bool:
    """Return whether a field has a name that ``export`` gives to the vectors of a layer."""
    return isinstance(name, str) and _VECTOR_NAME.fullmatch(name) is not None


def _metadata_name(name: object) -> str:
    if type(name) is str and name.isidentifier() and name.isascii():  # as most names are
        return name
    if not isinstance(name, str):
        raise BadValueError(f"metadata field {name!r} has a name that is no string ({kind(name)})")
    if not name:
        raise BadKindError(
            "a metadata field has an empty name; name the fields to keep with --metadata-field"
        )
    return clean_string(name, field=f"the name of metadata field {name!a}")
