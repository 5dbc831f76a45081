"""Conversion of the values of a row, with a reason for each that is not allowed."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerdex.missing import NESTED, is_missing
from layerdex.records import Scalar

INT64_LIMIT = 2**63
FIRST_INEXACT = 2**53
"""From here on a float may have lost the last digits of an integer."""

KIND_NAMES = {"NoneType": "null", "dict": "object", "str": "string", "bool": "true/false"}


class BadValueError(ValueError):
    """A value that is not allowed; the message becomes the reason for the row's rejection."""


class BadKindError(BadValueError):
    """A value of a kind that its field never allows: most often true of the whole column."""


class BlankError(BadValueError):
    """A text that is empty or only white space."""


class NullError(BlankError):
    """A value that is missing where there must be one."""


_PLAIN_TYPES = (str, int, bool)


class Unreadable:
    """A cell that its file format could not decode."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def kind(value: object) -> str:
    """Return the name of a value's type for messages, such as ``null`` or ``object``."""
    name = type(value).__name__
    return KIND_NAMES.get(name, name)


def plain(value: object, *, field: str) -> object:
    """Turn NumPy scalars into Python's, and NaN, NaT and NA into None.

    Raises `BadValueError` for an unreadable cell.
    """
    if type(value) in _PLAIN_TYPES:  # as most values are
        return value
    if isinstance(value, Unreadable):
        raise BadValueError(f"{field} cannot be read: {value.reason}")
    # .item() of nanoseconds would be an int
    if isinstance(value, np.generic) and not isinstance(value, (np.datetime64, np.timedelta64)):
        value = value.item()
    return None if is_missing(value) else value


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
    if value is None:
        raise NullError(f"{field} is null")
    if not isinstance(value, str):
        raise BadKindError(f"{field} is not a string ({kind(value)})")
    _require_content(value, field=field, advice="", error=BlankError)
    return clean_string(value, field=field)


def name_value(value: object, *, field: str, empty_advice: str) -> str | None:
    """Return a scalar as the text that a table would have for it, or None for null.

    A whole number has its digits, a float what Python writes (``4.0``), a Boolean is ``true`` or
    ``false``, a time is in ISO 8601. Raises `BadValueError`.
    """
    value = plain(value, field=field)
    if isinstance(value, str):
        _require_content(value, field=field, advice=empty_advice)
        return clean_string(value, field=field)
    if isinstance(value, Decimal) and value.is_finite():
        return str(value)
    scalar = metadata_value(value, field=field)
    if scalar is None or isinstance(scalar, str):
        return scalar
    if isinstance(scalar, bool):
        return "true" if scalar else "false"
    return repr(scalar)


def id_value(value: object, *, field: str, empty_advice: str) -> str | None:
    """Return an id as `name_value` does, but a whole number as an integer, also from a float.

    pandas makes floats of the integers in a column with gaps. Raises `BadValueError`, also for a
    float that may have lost digits.
    """
    value = plain(value, field=field)
    if isinstance(value, float) and value.is_integer():
        if abs(value) >= FIRST_INEXACT:
            raise BadValueError(f"{field} is a float beyond 2^53, which may have lost digits")
        value = int(value)
    return name_value(value, field=field, empty_advice=empty_advice)


def metadata_value(value: object, *, field: str) -> Scalar | None:
    """Return a metadata value as JSON can hold it, None for null and missing values.

    Dates become ISO 8601 strings. A number that neither a 64-bit integer nor a float holds exactly
    becomes the string of its digits, which conditions still compare as a number. Raises
    `BadValueError`.
    """
    value = plain(value, field=field)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return clean_string(value, field=field)
    if isinstance(value, int):
        return int(value) if -INT64_LIMIT <= value < INT64_LIMIT else _digits(value, field=field)
    if isinstance(value, (float, Decimal)):
        return _number(value, field=field)
    if isinstance(value, (dt.date, dt.time, np.datetime64)):
        return _numpy_iso(value) if isinstance(value, np.datetime64) else value.isoformat()
    raise BadKindError(f"{field} is {describe_kind(value)}")


def are_whole(cells: NDArray[np.floating[Any]]) -> bool:
    """Return whether all floats, (n,), but NaN are integers that have lost no digits."""
    present = cells[~np.isnan(cells)].astype(np.float64, copy=False)
    is_exact = (present == np.floor(present)) & (np.abs(present) < FIRST_INEXACT)
    return bool(is_exact.all())


def describe_kind(value: object) -> str:
    """Return why a value of this kind can neither be metadata nor an id or a label."""
    if isinstance(value, NESTED):
        return f"nested ({kind(value)})"
    return f"neither text, a number, true/false nor a date ({kind(value)})"


def _require_content(
    value: str, *, field: str, advice: str, error: type[BadValueError] = BadValueError
) -> None:
    """Raise an error for a string that is empty or blank."""
    if not value:
        raise error(f"{field} is empty{advice}")
    if value.isspace():
        raise error(f"{field} is blank{advice}")


def _digits(value: int, *, field: str) -> str:
    try:
        return str(int(value))
    except ValueError:  # Python's limit is 4300 digits
        raise BadValueError(f"{field} is an integer of too many digits") from None


def _number(value: float | Decimal, *, field: str) -> Scalar:
    is_finite = math.isfinite(value) if isinstance(value, float) else value.is_finite()
    if not is_finite:
        raise BadValueError(f"{field} is not a finite number ({float(value)})")
    return value if isinstance(value, float) else _exact(value)


def _exact(value: Decimal) -> Scalar:
    """Return a decimal as a number where one holds it exactly, else its digits."""
    if value == value.to_integral_value():
        # before int(), which would write 1E+999999999 out
        return int(value) if abs(value) < INT64_LIMIT else str(value)
    number = float(value)
    return number if Decimal(repr(number)) == value else str(value)


def _numpy_iso(value: np.datetime64) -> str:
    exact = value.astype("datetime64[us]")
    moment = exact.item() if exact == value else None
    return moment.isoformat() if isinstance(moment, dt.date) else str(value)
