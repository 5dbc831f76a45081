"""Which fields of a source are the text, the id, the label and the metadata."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from shlex import quote
from types import NoneType

from layerdex.arguments import check_type
from layerdex.errors import SourceError
from layerdex.indexer.readers.common_names import COMMON_NAMES, DEFAULT_TEXT_NAME, TEXT
from layerdex.indexer.readers.values import text_value
from layerdex.records import UNSET, Unset

SPREAD = "metadata"
"""The field in which ``export`` writes a document's metadata, as an object."""

MISSING = object()
"""Stands for a field that a row does not have, as None is a value."""

CHOICES = "choices"
"""Label Studio's key for the labels of a text."""

OF_ONE = (CHOICES, "0")
"""Steps of a path that lead from a single value to itself, as tools write one label bare."""

_EMBEDDED = ('{"choices"', "[{")
"""How Label Studio's CSV begins a cell with several labels, and one with spans."""

MAX_NAMES_SHOWN = 12
MAX_NAMES_COMPARED = 100
MAX_NAME_LENGTH = 40


@dataclass(frozen=True, slots=True)
class Fields:
    """The names of a document's fields in a source.

    By default (None) ``id`` and ``label`` are the fields of these names, if they exist. A field
    that is named explicitly must exist. Either is `UNSET` if no field is to be read as such.
    ``metadata`` are the names of the fields to keep, or None for all other scalar fields.

    A name with dots that no field has is a path into nested fields: ``data.text`` is the field
    ``text`` of the object in ``data``, and ``labels.0`` the first in the list ``labels``, or what
    is there without a list.
    """

    text: str = DEFAULT_TEXT_NAME
    id: str | Unset | None = None
    label: str | Unset | None = None
    metadata: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        listed = (
            tuple,
            list,
            set,
            frozenset,
            NoneType,
        )  # each character of a string would be one
        check_type(self.metadata, listed, what="metadata fields are a tuple of names")
        optional = [name for name in (self.id, self.label) if name not in (None, UNSET)]
        for name in (self.text, *optional, *(self.metadata or ())):
            check_type(name, str, what="a field's name is a string")

    def of(self, names: Collection[object]) -> Fields:  # noqa: ARG002
        """Return the fields as a source has them, by the names in its header, or those of a row."""
        return self

    @property
    def text_names(self) -> tuple[str, ...]:
        """The names that the text may have in a source."""
        return (self.text,)

    def whose_name(self, option: str) -> str:  # noqa: ARG002
        """Return where the name of a part comes from, for a message; empty if it was asked for."""
        return ""

    @property
    def id_name(self) -> str | None:
        """The field of the id, None if there is none."""
        if self.id is UNSET:
            return None
        return "id" if self.id is None else self.id

    @property
    def label_name(self) -> str | None:
        """The field of the label, None if there is none."""
        if self.label is UNSET:
            return None
        return "label" if self.label is None else self.label

    @property
    def own_names(self) -> tuple[str | None, ...]:
        """The fields of text, id and label: metadata only if ``metadata`` names them."""
        return (self.text, self.id_name, self.label_name, self.other_id)

    @property
    def other_id(self) -> str | None:
        """The field of the id in rows without ``id_name``, None if there is none."""
        return None

    @property
    def keeps_row(self) -> bool:
        """Whether a row is wanted as it is, not as a document."""
        return False

    @property
    def text_option(self) -> str:
        """The option that names the text, without ``--`` and ``-field``."""
        return TEXT

    @property
    def line_name(self) -> str:
        """The field that a line of txt is."""
        return DEFAULT_TEXT_NAME

    def to_text(self, value: object) -> str:
        """Return the text of a document for the value of its field; raises `BadValueError`."""
        return text_value(value, field=self.text_option)

    @property
    def kept_empty(self) -> str | None:
        """The column of a table whose empty cells are no nulls, so that the reason says so."""
        return self.text

    @property
    def optional_names(self) -> tuple[str, ...]:
        """Metadata that is kept besides ``metadata``, and may be missing."""
        return ()

    @property
    def required_names(self) -> list[tuple[str, str]]:
        """The explicitly named fields, each as (option, name)."""
        text = None if self.text == DEFAULT_TEXT_NAME else self.text
        id_ = None if self.id is UNSET else self.id
        label = None if self.label is UNSET else self.label
        named: list[tuple[str, str | None]] = [(TEXT, text), ("id", id_), ("label", label)]
        named += [("metadata", name) for name in self.metadata or ()]
        return [(option, name) for option, name in named if name is not None]

    @property
    def stand_ins(self) -> Mapping[str, tuple[str, ...]]:
        """The fields that may be there instead of the one that an option names."""
        return {}

    def suggest(self, option: str, name: str, names: Collection[object]) -> str:
        """Return the options to try instead of a missing field, empty if no name is like it."""
        likely = self.likely_name(option, name, names)
        return "" if likely is None else f"--{option}-field {quote(likely)}"

    def likely_name(self, option: str, name: str, names: Collection[object]) -> str | None:
        """Return the existing name that most likely is the field that ``option`` names."""
        others = _suggestible(names)
        if option == self.text_option:
            others = [other for other in others if other not in (self.id_name, self.label_name)]
        return _most_like(name, others, common=COMMON_NAMES.get(option, ()))


def find_field(row: Mapping[object, object], name: str) -> object:
    """Return the value of a field, or where a dotted path leads; `MISSING` if there is none."""
    if name in row:
        return row[name]
    if "." not in name:
        return MISSING
    value: object = row
    for part in name.split("."):
        value = _member(value, part)
    return value


def _member(value: object, part: str) -> object:
    if isinstance(value, Mapping):
        return value.get(part, MISSING)
    if isinstance(value, (list, tuple)) and part.isdecimal():
        return value[int(part)] if int(part) < len(value) else None
    if part in OF_ONE and isinstance(value, (str, int, float, NoneType)):
        decoded = decode_choices(value)
        return value if decoded is value else _member(decoded, part)
    return MISSING


def decode_choices(cell: object) -> object:
    """Return what a cell of Label Studio's CSV holds, and any other value as it is."""
    if not isinstance(cell, str) or not cell.startswith(_EMBEDDED):
        return cell
    try:
        value: object = json.loads(cell)
    except (ValueError, RecursionError):
        return cell
    return value


def check_columns(
    names: Collection[object],
    *,
    fields: Fields,
    source: str,
    nested: Collection[str] = (),
    inner: Collection[str] = (),
) -> None:
    """Check a table's header before its rows are read.

    ``nested`` are the names inside a ``metadata`` column of objects, ``inner`` the paths into other
    columns of objects. Raises `SourceError` for repeated columns, and if the text or an explicitly
    named field is missing.
    """
    repeated = [name for name, n in Counter(names).items() if n > 1]
    if repeated:
        raise SourceError(f"{source}: {_listed(repeated)} is the name of more than one column")
    required = [(fields.text_option, fields.text), *fields.required_names]
    for option, name in dict.fromkeys(required):
        existing = [*names, *nested] if option == "metadata" else names
        if not {name, *fields.stand_ins.get(option, ())} & {*existing, *inner}:
            raise SourceError(f"{source}: {missing_field(fields, option, name, existing)}")


def missing_field(
    fields: Fields, option: str, name: str, names: Collection[object], *, searched: str = ""
) -> str:
    """Return a reason: a field is missing, which fields exist, and which may be meant.

    ``searched`` tells where it was searched for, if that was not everywhere.
    """
    whose = fields.whose_name(option)
    message = f"no {option} field {name!r}{whose}{searched}; there is {_listed(names)}"
    suggested = fields.suggest(option, name, names)
    return f"{message}; try {suggested}" if suggested else message


def names_of(row: Mapping[object, object]) -> list[object]:
    """Return the fields of a row, those of an object as paths, but not of ``metadata``."""
    names: list[object] = []
    for name, value in row.items():
        if name != SPREAD and isinstance(name, str) and isinstance(value, Mapping) and value:
            names += [f"{name}.{inner}" for inner in islice(value, MAX_NAMES_COMPARED)]
        else:
            names.append(name)
    return names


def _most_like(name: str, others: Sequence[str], *, common: Sequence[str]) -> str | None:
    by_lower_case = {other.rpartition(".")[2].lower(): other for other in reversed(others)}
    by_lower_case |= {other.lower(): other for other in reversed(others)}
    for wanted in (name.lower(), *common):
        if wanted in by_lower_case:
            return by_lower_case[wanted]
    close = difflib.get_close_matches(name, others, 1)
    return close[0] if close else None


def _suggestible(names: Iterable[object]) -> list[str]:
    """Return the names that may be suggested; more or longer ones would make difflib slow."""
    return [
        name
        for name in islice(names, MAX_NAMES_COMPARED)
        if isinstance(name, str) and len(name) <= MAX_NAME_LENGTH and name.isprintable()
    ]


def _listed(names: Collection[object]) -> str:
    if not names:
        return "none"
    shown = [_cut(repr(name)) for name in islice(names, MAX_NAMES_SHOWN)]
    n_more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {n_more} more" if n_more else "")


def _cut(name: str) -> str:
    return name if len(name) <= MAX_NAME_LENGTH else name[:MAX_NAME_LENGTH] + "…"
