"""Which field of a source is read where only ids are wanted."""

from __future__ import annotations

from dataclasses import dataclass

from layerdex.indexer.readers.fields import Fields
from layerdex.indexer.readers.values import NullError, id_value
from layerdex.records import UNSET, Unset


@dataclass(frozen=True, slots=True)
class IdFields(Fields):
    """The field of the id, which is read in place of a text; no others are read."""

    text: str = "id"
    id: str | Unset | None = UNSET
    label: str | Unset | None = UNSET
    metadata: tuple[str, ...] | None = ()

    @property
    def text_option(self) -> str:
        """The option that names the id."""
        return "id"

    @property
    def line_name(self) -> str:
        """A line of txt is an id."""
        return self.text

    @property
    def kept_empty(self) -> None:
        """None: an empty cell is no id."""

    def to_text(self, value: object) -> str:
        """Return the id as documents have it, such as the digits of a number."""
        identifier = id_value(value, field="id", empty_advice="")
        if identifier is None:
            raise NullError("id is null")
        return identifier
