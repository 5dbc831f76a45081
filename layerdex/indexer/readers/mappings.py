"""Python objects to documents: mappings and data frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

from layerdex.indexer.readers.fields import Fields, check_columns
from layerdex.indexer.readers.rows import SPREAD, Reading, read_rows
from layerdex.records import Origin

SOURCE = "<memory>"
CHUNK_ROWS = 1024


class Frame(Protocol):
    """The part of a pandas data frame that is used."""

    @property
    def columns(self) -> Iterable[object]:
        """The names of the columns."""
        ...

    @property
    def iloc(self) -> Any:
        """Rows by position."""
        ...

    def __len__(self) -> int: ...


def read_mappings(
    rows: Iterable[Mapping[str, object]], *, fields: Fields | None = None
) -> Iterator[Reading]:
    """Read mappings in their order; ``origin.line`` is the row's number from 1."""
    numbered = ((Origin(SOURCE, number), row) for number, row in enumerate(rows, start=1))
    return read_rows(numbered, source=SOURCE, fields=fields or Fields())


def read_frame(frame: Frame, *, fields: Fields | None = None) -> Iterator[Reading]:
    """Read a data frame's rows in their order; NaN, NaT and NA become None.

    Raises `SourceError` for repeated columns, and if the text or a named column is missing.
    """
    fields = fields or Fields()
    columns = list(frame.columns)
    # The objects of a metadata column may have the named fields, which only its rows show.
    checked = replace(fields, metadata=None) if SPREAD in columns else fields
    check_columns(columns, fields=checked, source=SOURCE)
    return read_mappings(_records(frame), fields=fields)


def _records(frame: Frame) -> Iterator[dict[str, object]]:
    for start in range(0, len(frame), CHUNK_ROWS):
        for record in frame.iloc[start : start + CHUNK_ROWS].to_dict("records"):
            yield {name: None if _is_missing(cell) else cell for name, cell in record.items()}


def _is_missing(cell: object) -> bool:
    try:
        return bool(cell != cell)  # noqa: PLR0124 - NaN and NaT are unequal to themselves
    except TypeError:  # the truth of pandas.NA
        return True
    except (ValueError, ArithmeticError):  # the truth of an array, a signalling NaN
        return False
