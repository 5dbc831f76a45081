"""Python objects to documents: mappings and data frames."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol, cast

from layerdex.indexer.readers.fields import SPREAD, Fields, check_columns
from layerdex.indexer.readers.rows import Reading, read_rows
from layerdex.indexer.readers.values import are_whole, plain
from layerdex.records import Origin

SOURCE = "<memory>"
CHUNK_ROWS = 1024


class Frame(Protocol):
    """The part of a pandas data frame that is used."""

    @property
    def columns(self) -> Iterable[object]:
        """The names of the columns."""
        ...

    def __getitem__(self, name: Any, /) -> Any: ...

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
    """Read a data frame's rows in their order; NaN, NaT and NA are null.

    Floats that are all whole in a column of ids or labels are integers. Raises
    `SourceError` for repeated columns, and if the text or a named column is missing.
    """
    fields = fields or Fields()
    columns = list(frame.columns)
    # The objects of a metadata column may have the named fields, which only its rows show.
    checked = replace(fields, metadata=None) if SPREAD in columns else fields
    inner = [name for _, name in fields.required_names if name.partition(".")[0] in columns]
    check_columns(columns, fields=checked, source=SOURCE, inner=inner)
    return read_mappings(_records(frame, names=fields.own_names), fields=fields)


def _records(frame: Frame, *, names: Collection[object]) -> Iterator[dict[str, object]]:
    whole = [name for name in names if name in frame.columns and _is_whole(frame[name])]
    for start in range(0, len(frame), CHUNK_ROWS):
        for record in frame.iloc[start : start + CHUNK_ROWS].to_dict("records"):
            for name in whole:
                cell = plain(record[name], field=str(name))
                record[name] = None if cell is None else int(cast(float, cell))
            yield record


def _is_whole(column: Any) -> bool:
    """Return whether floats are all integers, as pandas makes of integers with gaps."""
    return column.dtype.kind == "f" and are_whole(column[column.notna()].to_numpy())
