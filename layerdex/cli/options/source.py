"""How files of texts are read, as one object: fields, format and dialect."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import click

from layerdex.choices import Format, Quoting
from layerdex.cli.options.grouping import collect, combine
from layerdex.cli.options.types import EnumChoice, SizeType
from layerdex.options import EncoderOptions

if TYPE_CHECKING:
    from layerdex.index.files import Dialect, Fields


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatOptions:
    """What a file does not say of itself."""

    format: Format
    delimiter: str | None
    encoding: str | None
    quoting: Quoting
    sheet: str | None
    max_row_size: int

    @property
    def dialect(self) -> Dialect:
        """How tables and text are written; raises `OptionError` for a value that cannot be one."""
        from layerdex.index.files import Dialect

        return Dialect(
            delimiter=self.delimiter,
            encoding=self.encoding,
            quoting=self.quoting,
            sheet=self.sheet,
            max_row_bytes=self.max_row_size,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions(FormatOptions):
    """How a source of documents is read."""

    text_field: str | None
    id_field: str | None
    label_field: str | None
    metadata_fields: tuple[str, ...]

    @property
    def names(self) -> dict[str, Any]:
        """The names that are given of a document's parts, None for any other."""
        return {
            "text": self.text_field,
            "id": self.id_field,
            "label": self.label_field,
            "metadata": self.metadata_fields or None,
        }

    @property
    def fields(self) -> Fields:
        """The names of a document's parts."""
        from layerdex.index.files import Fields

        return Fields(
            text="text" if self.text_field is None else self.text_field,
            id=self.id_field,
            label=self.label_field,
            metadata=self.metadata_fields or None,
        )

    def with_calibration(self, encoder: EncoderOptions) -> EncoderOptions:
        """Return the options of an encoder whose calibrating texts are read as the source is."""
        if encoder.calibration is None:
            return encoder
        texts = replace(
            encoder.calibration,
            text_field=self.text_field,
            format=self.format,
            delimiter=self.delimiter,
            encoding=self.encoding,
            quoting=self.quoting,
            sheet=self.sheet,
        )
        return replace(encoder, calibration=texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputOptions(FormatOptions):
    """A file of texts to ask about, and how it is read."""

    input_: str | None
    text_field: str | None

    def read(self, stored_text_field: str) -> list[tuple[str | None, str]]:
        """Return the ids (None for none) and texts of the file, none without a file."""
        from layerdex.index.files import read_queries

        if self.input_ is None:
            return []
        return read_queries(
            self.input_,
            text_field=self.text_field,
            stored_text_field=stored_text_field,
            format=self.format,
            dialect=self.dialect,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class IdsOptions(FormatOptions):
    """A file of ids, and how it is read."""

    ids_file: str | None
    id_field: str | None

    def read(self, default_field: str) -> list[str]:
        """Return the ids of the file, none without a file; raises `SourceError`, also for none."""
        from layerdex.index.files import read_ids

        if self.ids_file is None:
            return []
        return read_ids(
            self.ids_file,
            id_field=self.id_field or default_field,
            format=self.format,
            dialect=self.dialect,
        )


_format_options = combine(
    click.option(
        "--format",
        type=EnumChoice(Format),
        default=Format.AUTO.value,
        help="Format of the file. [default: by its name; - is jsonl if it begins with {, json "
        "with [{, csv or tsv if its first line names the text field, else txt]",
    ),
    click.option(
        "--delimiter",
        metavar="CHARACTER",
        help="What separates the cells of csv and tsv, such as ';' or tab. [default: for csv the "
        "comma, semicolon, tab or bar by which the header names the text field; for tsv tab]",
    ),
    click.option(
        "--quoting",
        type=EnumChoice(Quoting),
        default=Quoting.AUTO.value,
        help="Whether quotes enclose cells of csv and tsv, or are part of the text. [default: they "
        "enclose cells; in tsv only where the table shows it]",
    ),
    click.option(
        "--encoding",
        metavar="NAME",
        help="Encoding of text without a byte order mark, such as cp1252. [default: utf-8]",
    ),
    click.option(
        "--sheet", metavar="NAME", help="Sheet of xlsx. [default: the first that is not hidden]"
    ),
    click.option(
        "--max-row-size",
        type=SizeType(),
        default="256MB",
        show_default=True,
        help="Reject a larger row, or file of a folder; in bytes, kB, MB, GB, KiB, MiB or GiB.",
    ),
)

source_options = combine(
    click.option(
        "--text-field",
        help="Field of the text, or a path such as data.text. [default: text]",
    ),
    click.option("--id-field", help="Field of the id. [default: id, if there is one]"),
    click.option("--label-field", help="Field of the label. [default: label, if there is one]"),
    click.option(
        "--metadata-field",
        "metadata_fields",
        multiple=True,
        help="Keep only this other field; repeatable. [default: all; a nested field is an error]",
    ),
    _format_options,
    collect(SourceOptions, "source"),
)
"""The options of a `SourceOptions`, which the command gets as ``source``."""

FORMAT_OPTIONS = tuple(field.name for field in fields(FormatOptions))
"""The parameters of a `FormatOptions`."""

ids_options = combine(
    click.option(
        "--ids",
        "ids_file",
        metavar="FILE",
        help="Read ids from a file, or - for standard input: one per line (txt), or a field of a "
        "csv, jsonl, xlsx, ... file.",
    ),
    click.option(
        "--id-field",
        help="Field of the id in --ids FILE. [default: that of INDEX's sources, or id]",
    ),
    _format_options,
    collect(IdsOptions, "source"),
)
"""The options of an `IdsOptions`, which the command gets as ``source``."""

format_options = combine(_format_options, collect(FormatOptions, "source"))
"""The options of a `FormatOptions`, which the command gets as ``source``."""

input_options = combine(
    click.option(
        "--input", "input_", metavar="FILE", help="Read texts from a file (jsonl, txt, ...) or -."
    ),
    click.option(
        "--text-field",
        help="Field of the text in --input FILE. [default: that of INDEX's sources, or text]",
    ),
    _format_options,
    collect(InputOptions, "source"),
)
"""The options of an `InputOptions`, which the command gets as ``source``."""
