"""Declared forms of dates, as `datetime.strptime` takes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from layerdex.arguments import format_value
from layerdex.errors import FilterError
from layerdex.storage.catalog.dates import Precision

_DIRECTIVE = re.compile(r"%(.)", re.DOTALL)
_USABLE = frozenset("YymdbBjHIMSfpzaA%")
_PRECISIONS = (
    ("f", Precision.MICROSECOND),
    ("S", Precision.SECOND),
    ("M", Precision.MINUTE),
    ("HI", Precision.HOUR),
    ("dj", Precision.DAY),
)
_SAMPLE = datetime(2026, 6, 30, 14, 5, 7, tzinfo=UTC)


def check_date_format(form: object, *, field: str) -> str:
    """Return a form that can be used; raises `FilterError`.

    It must have a year, a month and perhaps a day. Refused are ``%c %x %X``, which depend on the
    machine, ``%Z``, whose zone is dropped by `datetime.strptime`, and weeks.
    """
    about = f"the date format {format_value(form)} of the field {format_value(field)}"
    if not isinstance(form, str):
        raise FilterError(f"{about} must be a string such as '%d.%m.%Y'")
    directives = set(_DIRECTIVE.findall(form))
    if unusable := sorted(directives - _USABLE):
        raise FilterError(
            f"{about} cannot be used: %{unusable[0]} is none of "
            f"{' '.join('%' + letter for letter in sorted(_USABLE, key=str.lower))}"
        )
    has_date = directives & set("Yy") and directives & set("mbBj")
    if not has_date:
        raise FilterError(f"{about} needs a year (%Y) and a month (%m), such as '%d.%m.%Y'")
    try:
        datetime.strptime(_SAMPLE.strftime(form), form)
    except (ValueError, re.error) as error:
        raise FilterError(f"{about} cannot be used: {error}") from error
    return form


def precision_of(form: str) -> Precision:
    """Return how exactly a form states a time."""
    directives = set(_DIRECTIVE.findall(form))
    stated = (each for letters, each in _PRECISIONS if directives & set(letters))
    return next(stated, Precision.MONTH)
