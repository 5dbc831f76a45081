"""Conversion of the values of a row, with a reason for each that is not allowed."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Set
from decimal import Decimal

import numpy as np

from layerdex.records import Scalar

INT64_LIMIT = 2**63
NESTED = (Mapping, list, tuple, Set, np.ndarray)
KIND_NAMES = {"NoneType": "null", "dict": "object", "str": "string", "bool": "true/false"}


class BadValueError(ValueError):
    """A value that is not allowed; the message becomes the reason for the row's rejection."""


class Unreadable:
    """A cell that its file format could not decode."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def kind(value: object) -> str:
    """Return the name of a value's type for messages, such as ``null`` or ``object``."""
    name = type(value).__name__
    return KIND_NAMES.get(name, name)


def plain(value: object, *, field: str) -> object:
    """Turn NumPy scalars into Python's; raise `BadValueError` on an unreadable cell."""
    if isinstance(value, Unreadable):
        raise BadValueError(f"{field} cannot be read: {value.reason}")
    # .item() of nanoseconds would be an int
    is_time = isinstance(value, (np.datetime64, np.timedelta64))
    return value.item() if isinstance(value, np.generic) and not is_time else value


def clean_string(value: str, *, field: str) -> str:
    """Return the plain string; NUL and lone surrogates raise `BadValueError`."""
    if "\0" in value:
        raise BadValueError(f"{field} contains a NUL character")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            code = ord(value[error.start])
            raise BadValueError(f"{field} contains a lone surrogate (U+{code:04X})") from None
    # str() of an enum with a str mixin would be its name, not its value
    return value if type(value) is str else str.__str__(value)


def text_value(value: object, *, field: str) -> str:
    """Return a document's text as given; anything else raises `BadValueError`."""
    value = plain(value, field=field)
    if not isinstance(value, str):
        what = "null" if value is None else f"not a string ({kind(value)})"
        raise BadValueError(f"{field} is {what}")
    _require_content(value, field=field, advice="")
    return clean_string(value, field=field)


def name_value(value: object, *, field: str, empty_advice: str) -> str | None:
    """Return an id or a label as a string, or None for null; whole numbers are converted.

    Floats such as 3.0 count as whole numbers, as pandas converts integers in a column with gaps.
    From 2^53 on a float may have lost digits, and is not allowed.
    """
    value = plain(value, field=field)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    if value is None:
        return None
    if isinstance(value, str):
        _require_content(value, field=field, advice=empty_advice)
        return clean_string(value, field=field)
    if isinstance(value, int) and not isinstance(value, bool):
        return _digits(value, field=field)
    raise BadValueError(f"{field} is neither a string nor a whole number ({kind(value)})")


def metadata_value(value: object, *, field: str) -> Scalar | None:
    """Return a metadata value as JSON can hold it; dates become ISO 8601 strings."""
    value = plain(value, field=field)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return clean_string(value, field=field)
    if isinstance(value, int):
        return _int64(value, field=field)
    if isinstance(value, (float, Decimal)):
        return _number(value, field=field)
    if isinstance(value, (dt.date, dt.time, np.datetime64)):
        return _iso(value, field=field)
    if isinstance(value, NESTED):
        advice = "name the fields to keep with --metadata-field"
        raise BadValueError(f"{field} is nested ({kind(value)}); {advice}")
    raise BadValueError(f"{field} is neither text, a number, true/false nor a date ({kind(value)})")


def _require_content(value: str, *, field: str, advice: str) -> None:
    if not value:
        raise BadValueError(f"{field} is empty{advice}")
    if value.isspace():
        raise BadValueError(f"{field} is blank{advice}")


def _digits(value: int, *, field: str) -> str:
    try:
        return str(int(value))
    except ValueError:  # Python's limit is 4300 digits
        raise BadValueError(f"{field} is an integer of too many digits") from None


def _int64(value: int, *, field: str) -> int:
    if not -INT64_LIMIT <= value < INT64_LIMIT:
        raise BadValueError(f"{field} is an integer beyond 64 bits")
    return int(value)


def _number(value: float | Decimal, *, field: str) -> int | float:
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        if abs(value) > INT64_LIMIT:  # before int(), which would write 1E+999999999 out
            raise BadValueError(f"{field} is an integer beyond 64 bits")
        return _int64(int(value), field=field)
    # float() of a signalling NaN raises
    number = math.nan if isinstance(value, Decimal) and value.is_nan() else float(value)
    if not math.isfinite(number):
        raise BadValueError(f"{field} is not a finite number ({number})")
    return number


def _iso(value: dt.date | dt.time | np.datetime64, *, field: str) -> str:
    if value != value:  # noqa: PLR0124 - NaT is unequal to itself
        raise BadValueError(f"{field} is not a date ({value})")
    return _numpy_iso(value) if isinstance(value, np.datetime64) else value.isoformat()


def _numpy_iso(value: np.datetime64) -> str:
    exact = value.astype("datetime64[us]")
    moment = exact.item() if exact == value else None
    return moment.isoformat() if isinstance(moment, dt.date) else str(value)
