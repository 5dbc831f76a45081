"""Data frames of pandas and polars to documents; neither is imported."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol, TypeGuard, cast

from layerdex.indexer.readers.fields import SPREAD, Fields, check_columns
from layerdex.indexer.readers.mappings import SOURCE, read_mappings
from layerdex.indexer.readers.rows import Reading
from layerdex.indexer.readers.values import BadKindError, are_whole, metadata_value, plain

CHUNK_ROWS = 1024

Record = dict[str, object]


class Frame(Protocol):
    """The part of a pandas data frame that is used."""

    @property
    def columns(self) -> Iterable[object]:
        """The names of the columns."""
        ...

    @property
    def index(self) -> Any:
        """The names of the rows, in levels that may have names themselves."""
        ...

    def reset_index(self, *, level: Any) -> Any:
        """Make columns of levels of the index."""
        ...

    def __getitem__(self, name: Any, /) -> Any: ...

    @property
    def iloc(self) -> Any:
        """Rows by position."""
        ...

    def __len__(self) -> int: ...


class PolarsFrame(Protocol):
    """The part of a polars data frame that is used."""

    @property
    def schema(self) -> Mapping[str, Any]:
        """The types of the columns by their names."""
        ...

    def __getitem__(self, name: str, /) -> Any: ...

    def iter_rows(self, *, named: bool) -> Iterator[Record]:
        """Return the rows as mappings."""
        ...


def is_frame(source: object) -> TypeGuard[Frame]:
    """Return whether a source is a data frame of pandas."""
    return hasattr(source, "iloc") and hasattr(source, "columns")


def is_polars_frame(source: object) -> TypeGuard[PolarsFrame]:
    """Return whether a source is a data frame of polars."""
    return hasattr(source, "iter_rows") and hasattr(source, "schema")


def read_frame(frame: Frame, *, fields: Fields | None = None) -> Iterator[Reading]:
    """Read a data frame's rows in their order; NaN, NaT and NA are null.

    Levels of the index that have a name of their own are columns, as in parquet. Floats that are
    all whole in a column of ids or labels are integers. Raises `SourceError` for repeated columns,
    and if the text or a named column is missing.
    """
    columns = list(frame.columns)
    fields = (fields or Fields()).of([*columns, *frame.index.names])
    if levels := _levels(frame, fields):
        frame = frame.reset_index(level=levels)
        columns = list(frame.columns)
    _check(columns, fields)
    whole = [name for name in fields.own_names if name in columns and _is_whole(frame[name])]
    return read_mappings(_with_integers(_records(frame), whole), fields=fields)


def read_polars(frame: PolarsFrame, *, fields: Fields | None = None) -> Iterator[Reading]:
    """Read a polars data frame's rows in their order; the rules are those of `read_frame`."""
    types = frame.schema
    fields = (fields or Fields()).of([*types])
    _check(list(types), fields)
    own = [name for name in fields.own_names if name is not None and name in types]
    floats = [name for name in own if types[name].is_float()]
    whole = [name for name in floats if are_whole(frame[name].to_numpy())]
    return read_mappings(_with_integers(frame.iter_rows(named=True), whole), fields=fields)


def _levels(frame: Frame, fields: Fields) -> list[str]:
    """Return the levels of the index to read as columns: those of a kind that a document can have.

    Any that the fields name is read, so that an error says what is wrong with it.
    """
    names = list(frame.index.names)
    own = [
        name
        for name in names
        if isinstance(name, str) and names.count(name) == 1 and name not in frame.columns
    ]
    asked = {*fields.own_names, *(fields.metadata or ())}
    return [
        name
        for name in own
        if name in asked or _is_metadata(frame.index.get_level_values(name)[:1].tolist())
    ]


def _is_metadata(values: Iterable[object]) -> bool:
    try:
        for value in values:
            metadata_value(value, field="")
    except BadKindError:
        return False
    return True


def _check(columns: Collection[object], fields: Fields) -> None:
    # The objects of a metadata column may have the named fields, which only its rows show.
    checked = replace(fields, metadata=None) if SPREAD in columns else fields
    inner = [name for _, name in fields.required_names if name.partition(".")[0] in columns]
    check_columns(columns, fields=checked, source=SOURCE, inner=inner)


def _records(frame: Frame) -> Iterator[Record]:
    for start in range(0, len(frame), CHUNK_ROWS):
        yield from frame.iloc[start : start + CHUNK_ROWS].to_dict("records")


def _is_whole(column: Any) -> bool:
    """Return whether floats are all integers, as pandas makes of integers with gaps."""
    return column.dtype.kind == "f" and are_whole(column[column.notna()].to_numpy())


def _with_integers(records: Iterable[Record], names: Collection[str | None]) -> Iterator[Record]:
    for record in records:
        for name in names:
            cell = plain(record[str(name)], field=str(name))
            record[str(name)] = None if cell is None else int(cast(float, cell))
        yield record
