"""Names of fields that an index has stored, in place of those that a run does not name."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Self

from layerdex.indexer.readers.common_names import DEFAULT_TEXT_NAME, TEXT
from layerdex.indexer.readers.fields import Fields

ID, LABEL, METADATA = "id", "label", "metadata"


@dataclass(frozen=True, slots=True)
class StoredFields(Fields):
    """Fields whose names are stored ones in the parts that ``stored`` lists.

    A source that has none of the stored names of text, id and label may have the plain ones
    (``text``, ``id``, ``label``), as the export of an index has; no other field stands in, and in
    one that has some of the stored names a field called ``label`` is metadata. A source without
    either may lack label and metadata; without the text it is an error, and also without the id,
    unless ``may_derive_ids``.
    """

    stored: frozenset[str] = frozenset()
    may_derive_ids: bool = False

    @classmethod
    def of_texts(cls, text: str | None, *, stored: str) -> Self:
        """Return fields whose text is ``text`` or, where that is None, the stored name."""
        is_stored = text is None and stored != DEFAULT_TEXT_NAME
        names = frozenset({TEXT}) if is_stored else frozenset[str]()
        return cls(text=stored if text is None else text, stored=names)

    def of(self, names: Collection[object]) -> Fields:
        """Return the fields as a source has them, by the names in its header, or those of a row."""
        own: Fields = self
        if self.may_derive_ids and ID in self.stored and not _has(names, self.id):
            own = replace(own, id=None)
        named = {TEXT: self.text, ID: self.id, LABEL: self.label}
        if any(_has(names, named[part]) for part in named.keys() & self.stored):
            return own
        if TEXT in self.stored and DEFAULT_TEXT_NAME in names:
            own = replace(own, text=DEFAULT_TEXT_NAME)
        if ID in self.stored and ID in names:
            own = replace(own, id=None)
        if LABEL in self.stored and LABEL in names:
            own = replace(own, label=None)
        return own

    @property
    def text_names(self) -> tuple[str, ...]:
        """The names that the text may have in a source."""
        return (self.text, DEFAULT_TEXT_NAME) if TEXT in self.stored else (self.text,)

    @property
    def required_names(self) -> list[tuple[str, str]]:
        """The fields that must exist, each as (option, name)."""
        optional = {LABEL, METADATA} & self.stored
        named = Fields.required_names.__get__(self)
        return [(option, name) for option, name in named if option not in optional]

    def whose_name(self, option: str) -> str:
        """Return where the name of a part comes from, for a message."""
        return ", as in the index's first run" if option in self.stored else ""

    def suggest(self, option: str, name: str, names: Collection[object]) -> str:
        """Return the options to try instead of a missing field."""
        found = Fields.suggest(self, option, name, names)
        if option not in self.stored:
            return found
        found = found or f"--{option}-field NAME"
        return f"{found}, or --mix-ids for ids made from texts" if option == ID else found


def _has(names: Collection[object], name: object) -> bool:
    return isinstance(name, str) and (name in names or name.partition(".")[0] in names)
