"""Which fields of a source are the text, the id, the label and the metadata."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import islice
from shlex import quote
from types import NoneType

from layerdex.arguments import check_type
from layerdex.errors import SourceError
from layerdex.records import UNSET, Unset

DEFAULT_TEXT_NAME = "text"
COMMON_TEXT_NAMES = (
    DEFAULT_TEXT_NAME,
    "body",
    "content",
    "sentence",
    "question",
    "review",
    "comment",
    "message",
    "description",
    "document",
    "passage",
    "title",
)
"""Names of the text in other data sets, likeliest first."""

MAX_NAMES_SHOWN = 12
MAX_NAMES_COMPARED = 100
MAX_NAME_LENGTH = 40


@dataclass(frozen=True, slots=True)
class Fields:
    """The names of a document's fields in a source.

    By default (None) ``id`` and ``label`` are the fields of these names, if they exist. A field
    that is named explicitly must exist. ``label`` is `UNSET` if no field is a label. ``metadata``
    are the names of the fields to keep, or None for all other scalar fields. ``other_id`` is the
    id of a row without the field ``id``.
    """

    text: str = DEFAULT_TEXT_NAME
    id: str | None = None
    label: str | Unset | None = None
    metadata: tuple[str, ...] | None = None
    other_id: str | None = None

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

    @property
    def id_name(self) -> str:
        """The field of the id."""
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
    def required_names(self) -> list[tuple[str, str]]:
        """The explicitly named fields, each as (option, name)."""
        text = None if self.text == DEFAULT_TEXT_NAME else self.text
        label = None if self.label is UNSET else self.label
        named = [("text", text), ("id", self.id), ("label", label)]
        named += [("metadata", name) for name in self.metadata or ()]
        return [(option, name) for option, name in named if name is not None]


def check_columns(
    names: Collection[object], *, fields: Fields, source: str, nested: Collection[str] = ()
) -> None:
    """Check a table's header before its rows are read.

    ``nested`` are the names inside a ``metadata`` column of objects. Raises `SourceError` for
    repeated columns, and if the text or an explicitly named field is missing.
    """
    repeated = [name for name, n in Counter(names).items() if n > 1]
    if repeated:
        raise SourceError(f"{source}: {_listed(repeated)} is the name of more than one column")
    if fields.text not in names:
        raise SourceError(f"{source}: {missing_text(fields, names)}")
    for option, name in fields.required_names:
        existing = [*names, *nested] if option == "metadata" else names
        if name not in existing:
            raise SourceError(f"{source}: {missing_field(option, name, existing)}")


def missing_text(fields: Fields, names: Collection[object], *, searched: str = "") -> str:
    """Return a reason: the text field is missing, which fields exist, and which may be the text."""
    message = f"no text field {fields.text!r}{searched}; there is {_listed(names)}"
    likely = _likely_text(fields, names)
    return message if likely is None else f"{message}; try --text-field {quote(likely)}"


def missing_field(option: str, name: str, names: Collection[object], *, searched: str = "") -> str:
    """Return a reason: a named field is missing, which fields exist, and which is nearest to it.

    ``searched`` tells where it was searched for, if that was not everywhere.
    """
    message = f"no {option} field {name!r}{searched}; there is {_listed(names)}"
    close = difflib.get_close_matches(name, _suggestible(names), 1)
    return f"{message}; try --{option}-field {quote(close[0])}" if close else message


def _likely_text(fields: Fields, names: Collection[object]) -> str | None:
    own = (fields.id_name, fields.label_name)
    others = [name for name in _suggestible(names) if name not in own]
    by_lower_case = {name.lower(): name for name in reversed(others)}
    for wanted in (fields.text.lower(), *COMMON_TEXT_NAMES):
        if wanted in by_lower_case:
            return by_lower_case[wanted]
    close = difflib.get_close_matches(fields.text, others, 1)
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
