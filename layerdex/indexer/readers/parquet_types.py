"""The types of parquet columns, and their cells as Python values."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from layerdex.indexer.readers.values import Unreadable

_NS_PER_US = 1_000


def read_cells(column: Any) -> list[object]:
    """Return the values of a column; a cell that has none is `Unreadable`.

    Times keep their nanoseconds, as ISO 8601 strings where Python's types have no room for them.
    A time in a zone that this machine does not know is in UTC.
    """
    column = _in_known_zone(column)
    if _is_nanoseconds(column.type):
        return _nanosecond_cells(column)
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError):  # not UTF-8, or a date after the year 9999
        return [_cell(cell) for cell in column]


def has_path(type_: Any, parts: Sequence[str]) -> bool:
    """Return whether a path of names, and of numbers in lists, leads to a field of a type."""
    import pyarrow as pa

    if not parts:
        return True
    if pa.types.is_struct(type_):
        inner = type_.get_field_index(parts[0])
        return inner >= 0 and has_path(type_.field(inner).type, parts[1:])
    is_list = pa.types.is_list(type_) or pa.types.is_large_list(type_)
    return is_list and parts[0].isdecimal() and has_path(type_.value_type, parts[1:])


def _cell(cell: Any) -> object:
    try:
        value: object = cell.as_py()
    except (ValueError, OverflowError) as error:
        return Unreadable(str(error))
    return value


def _in_known_zone(column: Any) -> Any:
    import pyarrow as pa

    type_ = column.type
    if not pa.types.is_timestamp(type_):
        return column
    try:
        # The name itself may be no UTF-8.
        pa.scalar(0, pa.timestamp("us", type_.tz)).as_py()
    except (ValueError, LookupError, OSError, pa.ArrowException):
        # The moment is stored in UTC; the zone only says how to show it.
        return column.cast(pa.timestamp(type_.unit, "UTC"))
    return column


def _is_nanoseconds(type_: Any) -> bool:
    import pyarrow as pa

    is_time = pa.types.is_timestamp(type_) or pa.types.is_time64(type_)
    return bool(is_time and type_.unit == "ns")


def _nanosecond_cells(column: Any) -> list[object]:
    """Return times as Python's, which end at microseconds, or as strings with all digits."""
    import pyarrow as pa

    type_ = column.type
    exact = pa.timestamp("us", type_.tz) if pa.types.is_timestamp(type_) else pa.time64("us")
    try:
        return list(column.cast(exact).to_pylist())
    except (ValueError, OverflowError):  # some have nanoseconds, which the cast would lose
        counts = column.cast(pa.int64()).to_pylist()
    micros = [None if n is None else n // _NS_PER_US for n in counts]
    times = pa.array(micros, pa.int64()).cast(exact).to_pylist()
    return [
        time if n is None or n % _NS_PER_US == 0 else _with_nanoseconds(time, n)
        for time, n in zip(times, counts, strict=True)
    ]


def _with_nanoseconds(time: dt.datetime | dt.time, n_ns: int) -> str:
    """Return the ISO string of a time cut to microseconds, with the digits that were cut."""
    micro = time.isoformat(timespec="microseconds")
    end = micro.index(".") + 7
    return f"{micro[:end]}{n_ns % _NS_PER_US:03}{micro[end:]}"
