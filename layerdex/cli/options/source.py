"""How a source of documents is read: fields and format, as one object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from layerdex.choices import Format
from layerdex.cli.options.grouping import collect, combine
from layerdex.cli.options.types import EnumChoice

if TYPE_CHECKING:
    from layerdex.index.files import Fields


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How a source of documents is read."""

    text_field: str
    id_field: str | None
    label_field: str | None
    metadata_fields: tuple[str, ...]
    format: Format

    @property
    def fields(self) -> Fields:
        """The names of a document's parts."""
        from layerdex.index.files import Fields

        return Fields(
            text=self.text_field,
            id=self.id_field,
            label=self.label_field,
            metadata=self.metadata_fields or None,
        )


source_options = combine(
    click.option(
        "--text-field",
        default="text",
        show_default=True,
        help="Field of the text, or a path such as data.text.",
    ),
    click.option("--id-field", help="Field of the id. [default: id, if there is one]"),
    click.option("--label-field", help="Field of the label. [default: label, if there is one]"),
    click.option(
        "--metadata-field",
        "metadata_fields",
        multiple=True,
        help="Keep only this other field; repeatable. [default: all; a nested field is an error]",
    ),
    click.option(
        "--format",
        type=EnumChoice(Format),
        default=Format.AUTO.value,
        help="Format of the source. [default: by file name; - is jsonl if it begins with {, "
        "json with [{, else txt]",
    ),
    collect(SourceOptions, "source"),
)
"""The options of a `SourceOptions`, which the command gets as ``source``."""
