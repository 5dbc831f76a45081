"""The rows of a file of texts to label, with all of their columns as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from layerdex.arguments import to_choice
from layerdex.choices import Format
from layerdex.errors import RowError
from layerdex.indexer.readers.columns import strip_names
from layerdex.indexer.readers.common_names import DEFAULT_TEXT_NAME
from layerdex.indexer.readers.dialect import Dialect
from layerdex.indexer.readers.fields import MISSING, Fields, find_field
from layerdex.indexer.readers.formats import resolve_format
from layerdex.indexer.readers.labels import label_value
from layerdex.indexer.readers.rows import InputRow
from layerdex.indexer.readers.sources import read_all
from layerdex.indexer.readers.stored_fields import StoredFields
from layerdex.indexer.readers.streams import (
    encoding_of,
    first_window,
    is_stdin,
    open_stream,
    source_name,
)
from layerdex.indexer.readers.style import recognise_style
from layerdex.indexer.readers.values import BadValueError, clean_string, plain
from layerdex.records import UNSET, Rejected, Source, Unset


@dataclass(frozen=True, slots=True)
class InputFields(StoredFields):
    """The fields of a text, and of its label where there is one; all others are kept as well."""

    id: str | Unset | None = UNSET
    label: str | Unset | None = UNSET

    @property
    def keeps_row(self) -> bool:
        """Rows are wanted as they are."""
        return True


@dataclass(frozen=True, slots=True)
class InputTable:
    """The n rows of a file, in its order.

    ``names`` are the columns in their order. ``texts`` (n) has None where a row has no text, or a
    blank one. ``labels`` (n) are the true labels, None where a row has none; they are all None
    unless a label was asked for. ``delimiter`` is that of a csv file, else None.
    """

    names: tuple[str, ...]
    rows: Sequence[Mapping[str, object]]
    texts: Sequence[str | None]
    labels: Sequence[str | None]
    delimiter: str | None = None


def read_input(
    source: Source,
    *,
    text_field: str | None,
    stored_text_field: str = DEFAULT_TEXT_NAME,
    label_field: str | None = None,
    format: Format | str = Format.AUTO,
    dialect: Dialect | None = None,
) -> InputTable:
    """Read a file whole; cells of csv and tsv are text, exactly as they are given.

    The text is in ``text_field`` or, where that is None, in the stored field, else in ``text``.
    Raises `SourceError`, also where no row has the text or the label, and `RowError` for a row that
    cannot be read.
    """
    fields = replace(
        InputFields.of_texts(text_field, stored=stored_text_field),
        label=UNSET if label_field is None else label_field,
    )
    dialect, delimiter = dialect or Dialect(), None
    if isinstance(source, str | Path) and _is_csv_file(source, to_choice(Format, format)):
        # What is recognised here is noted here, and not once more when the rows are read.
        dialect = _recognise(source, fields, dialect)
        delimiter = dialect.delimiter
    rows: list[Mapping[str, object]] = []
    texts: list[str | None] = []
    labels: list[str | None] = []
    for reading in read_input_rows(source, fields, format=format, dialect=dialect):
        try:
            texts.append(_text(reading.row, fields.of(reading.row)))
            labels.append(_label(reading.row, fields))
        except BadValueError as error:
            raise RowError(f"{reading.origin}: {error}") from None
        rows.append({str(name): value for name, value in reading.row.items()})
    names = dict.fromkeys(name for row in rows for name in row)
    return InputTable(tuple(names), rows, texts, labels, delimiter)


def read_input_rows(
    source: Source,
    fields: InputFields,
    *,
    format: Format | str = Format.AUTO,
    dialect: Dialect | None = None,
) -> Iterator[InputRow]:
    """Yield the rows of a source; raises `SourceError`, `RowError` for one that cannot be read."""
    for reading in read_all([source], format=format, fields=fields, dialect=dialect):
        if isinstance(reading, Rejected):
            raise RowError(str(reading))
        yield cast(InputRow, reading)


def _is_csv_file(source: str | Path, format: Format) -> bool:
    return not is_stdin(source) and resolve_format(source, format) is Format.CSV


def _recognise(source: str | Path, fields: Fields, dialect: Dialect) -> Dialect:
    with open_stream(source, encoding=dialect.encoding) as stream:
        window, _ = first_window(stream)
        encoding = encoding_of(stream, dialect.encoding)
    style = recognise_style(
        window,
        source=source_name(source),
        fields=strip_names(fields),
        format=Format.CSV,
        dialect=dialect,
    )
    return replace(dialect, delimiter=style.delimiter, encoding=encoding)


def _text(row: Mapping[object, object], fields: Fields) -> str | None:
    value = find_field(row, fields.text)
    value = None if value is MISSING else plain(value, field="the text")
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadValueError(f"the text is not a string ({type(value).__name__})")
    return clean_string(value, field="the text") if value.strip() else None


def _label(row: Mapping[object, object], fields: Fields) -> str | None:
    name = fields.label_name
    value = None if name is None else find_field(row, name)
    if value is MISSING or value is None or value == "":
        return None
    return label_value(value, name=str(name))
