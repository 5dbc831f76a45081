"""The rows of a file of texts to label, with all of their columns as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from layerdex.choices import Format
from layerdex.errors import RowError
from layerdex.indexer.readers.dialect import Dialect
from layerdex.indexer.readers.fields import MISSING, Fields, find_field
from layerdex.indexer.readers.labels import label_value
from layerdex.indexer.readers.rows import InputRow
from layerdex.indexer.readers.sources import read_all
from layerdex.indexer.readers.values import BadValueError, clean_string
from layerdex.records import UNSET, Rejected, Source, Unset


@dataclass(frozen=True, slots=True)
class InputFields(Fields):
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
    unless a label was asked for.
    """

    names: tuple[str, ...]
    rows: Sequence[Mapping[str, object]]
    texts: Sequence[str | None]
    labels: Sequence[str | None]


def read_input(
    source: Source,
    *,
    text_field: str,
    label_field: str | None = None,
    format: Format | str = Format.AUTO,
    dialect: Dialect | None = None,
) -> InputTable:
    """Read a file whole; cells of csv and tsv are text, exactly as they are given.

    Raises `SourceError`, also where no row has the text or the label, and `RowError` for a row that
    cannot be read.
    """
    fields = InputFields(text=text_field, label=UNSET if label_field is None else label_field)
    rows: list[Mapping[str, object]] = []
    texts: list[str | None] = []
    labels: list[str | None] = []
    for reading in _read(source, fields, format, dialect):
        try:
            texts.append(_text(reading.row, fields))
            labels.append(_label(reading.row, fields))
        except BadValueError as error:
            raise RowError(f"{reading.origin}: {error}") from None
        rows.append({str(name): value for name, value in reading.row.items()})
    names = dict.fromkeys(name for row in rows for name in row)
    return InputTable(tuple(names), rows, texts, labels)


def _read(
    source: Source, fields: Fields, format: Format | str, dialect: Dialect | None
) -> Iterator[InputRow]:
    for reading in read_all([source], format=format, fields=fields, dialect=dialect):
        if isinstance(reading, Rejected):
            raise RowError(str(reading))
        yield cast(InputRow, reading)


def _text(row: Mapping[object, object], fields: Fields) -> str | None:
    value = find_field(row, fields.text)
    if value is MISSING or value is None or value != value:  # NaN
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
