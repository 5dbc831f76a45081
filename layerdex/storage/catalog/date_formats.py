"""Declared forms of dates, as `datetime.strptime` takes them; several are joined by ``|``."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache

from layerdex.arguments import format_value
from layerdex.errors import FilterError
from layerdex.storage.catalog.dates import Interval, Precision, interval_of

FORM_SEPARATOR = "|"

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


def check_date_format(forms: object, *, field: str) -> str:
    """Return forms that can be used; raises `FilterError`.

    Each must have a year, a month and perhaps a day. Refused are ``%c %x %X``, which depend on the
    machine, ``%Z``, whose zone is dropped by `datetime.strptime`, and weeks.
    """
    for form in forms.split(FORM_SEPARATOR) if isinstance(forms, str) else [forms]:
        _check_form(form, field=field)
    return str(forms)


def _check_form(form: object, *, field: str) -> None:
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
    if "I" in directives and "p" not in directives:
        raise FilterError(f"{about} does not say whether the hour is before noon: add %p")
    try:
        datetime.strptime(_SAMPLE.strftime(form), form)
    except (ValueError, re.error) as error:
        raise FilterError(f"{about} cannot be used: {error}") from error


def parse_in_forms(text: str, forms: str) -> Interval | None:
    """Read a date in the first of the declared forms that fits; None if none does."""
    for form, precision in _expand(forms):
        with suppress(ValueError, OverflowError):
            return interval_of(datetime.strptime(text, form), precision)
    return None


def example_in(forms: str) -> str:
    """Return a time as the first of the declared forms writes it."""
    return _SAMPLE.strftime(forms.partition(FORM_SEPARATOR)[0])


@lru_cache(maxsize=64)
def _expand(forms: str) -> tuple[tuple[str, Precision], ...]:
    """Return single forms; that of a day also stands for a day with a time behind it."""
    expanded = []
    for form in forms.split(FORM_SEPARATOR):
        precision = _precision_of(form)
        expanded.append((form, precision))
        if precision is Precision.DAY:
            expanded.append((f"{form} %H:%M", Precision.MINUTE))
            expanded.append((f"{form} %H:%M:%S", Precision.SECOND))
    return tuple(expanded)


def _precision_of(form: str) -> Precision:
    """Return how exactly a form states a time."""
    directives = set(_DIRECTIVE.findall(form))
    stated = (each for letters, each in _PRECISIONS if directives & set(letters))
    return next(stated, Precision.MONTH)
