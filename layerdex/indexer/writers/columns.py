"""Metadata fields as columns of their own, beside those of every document."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time

from layerdex.arguments import format_value
from layerdex.errors import OptionError
from layerdex.indexer.readers.fields import SPREAD
from layerdex.indexer.readers.rows import VECTOR
from layerdex.indexer.readers.values import BadValueError
from layerdex.records import Document, Scalar

OWN_COLUMNS = ("id", "text", "label")


def metadata_columns(names: Iterable[str], *, layers: tuple[int, ...] = ()) -> list[str]:
    """Return the names of metadata fields, sorted, that can all be columns.

    Raises `OptionError` for a name that is taken, or that a header cannot have.
    """
    taken = {*OWN_COLUMNS, SPREAD, *(f"{VECTOR}{layer}" for layer in layers)}
    columns = sorted(names)
    for name in columns:
        if name in taken or name != name.strip() or not name:
            raise OptionError(
                f"the metadata field {format_value(name)} cannot be a column of its own: "
                "export to .jsonl or .parquet with one metadata object"
            )
    return columns


def flat_row(document: Document, columns: Iterable[str]) -> Mapping[str, Scalar | None]:
    """Return a document with its metadata as fields, None for what it does not have."""
    metadata = {name: document.metadata.get(name) for name in columns}
    return {"id": document.id, "text": document.text, "label": document.label, **metadata}


def to_cell(value: object) -> str | None:
    """Return a value as the text of a cell, None for null: truth values and lists as in JSON.

    Raises `BadValueError` for bytes.
    """
    match value:
        case None | str():
            return value
        case bool():
            return "true" if value else "false"
        case datetime() | date() | time():
            return value.isoformat()
        case dict() | list() | tuple():
            return json.dumps(value, ensure_ascii=False, default=to_cell)
        case bytes():
            raise BadValueError("bytes are no text")
        case _:
            return str(value)
