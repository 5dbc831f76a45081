"""Dates and times as values have them: each is the interval that its precision covers.

The day ``2026-06-30`` is [June 30, July 1), the minute ``14:05`` is [14:05, 14:06). So a day covers
its hours, and a comparison is one of beginnings and ends; see `COMPARISONS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import Enum
from typing import NamedTuple

from layerdex.choices import Operator


class Precision(Enum):
    """How exactly a time is stated: how long it lasts, and years and months by their days."""

    YEAR = "year"
    MONTH = "month"
    DAY = timedelta(days=1)
    HOUR = timedelta(hours=1)
    MINUTE = timedelta(minutes=1)
    SECOND = timedelta(seconds=1)
    MICROSECOND = timedelta(microseconds=1)


class Interval(NamedTuple):
    """A stated time from its beginning to its end, which is not part of it."""

    begin: datetime
    end: datetime

    @property
    def is_aware(self) -> bool:
        """Whether it is in a stated zone."""
        return self.begin.tzinfo is not None


# With a zone a day is written as in XML Schema: 2026-06-30Z, 2026-06-30+02:00.
_ISO = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{1,2}-[0-9]{1,2})"
    r"(?:(?P<zone>Z|[+-][0-9]{2}:[0-9]{2})?|"
    r"[T ](?P<hour>[0-9]{2})(?P<minute>:[0-9]{2}(?P<second>:[0-9]{2}(?P<fraction>[.,][0-9]+)?)?)?"
    r"(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)?)"
)
_MONTH = re.compile(r"[12][0-9]{3}-(?:0[1-9]|1[0-2])")
_YEAR = re.compile(r"[12][0-9]{3}")
_LIKE_ISO = re.compile(r"[12][0-9]{3}-[0-9]{1,2}-[0-9]{1,2}(?:[T ][0-9:.,]+)?(?:Z|[+-][0-9:]+)?")
_LIKE_MONTH = re.compile(r"[12][0-9]{3}-[0-9]{2}")
_LENGTHS = {
    10: timedelta(days=1),
    16: timedelta(minutes=1),
    19: timedelta(seconds=1),
    23: timedelta(microseconds=1),
    26: timedelta(microseconds=1),
}
"""By the number of characters without a zone, as times are usually written."""
_parse = datetime.fromisoformat


def parse_iso(text: str) -> Interval | None:
    """Read a date, a time or a month in ISO 8601; None for any other text.

    Months and days may have one digit (2026-6-1), a blank may stand for the T.
    """
    try:
        if text[4] != "-" or text[7] != "-":  # not 20260630, a number, nor a week
            return _parse_slowly(text)
        n_zone = 1 if text[-1] == "Z" else 6 if len(text) > 16 and text[-6] in "+-" else 0
        lasts = _LENGTHS[len(text) - n_zone]
        begin = _parse(text)
        if (begin.tzinfo is None) is not (n_zone == 0) or text[10:11] not in ("T", " ", ""):
            return _parse_slowly(text)
        return Interval(begin, begin + lasts)
    except (ValueError, KeyError, IndexError, OverflowError):
        return _parse_slowly(text)


def parse_year(text: str) -> Interval | None:
    """Read a bare year, which is a date only in a field of dates."""
    is_year = _YEAR.fullmatch(text) is not None
    return interval_of(datetime(int(text), 1, 1), Precision.YEAR) if is_year else None


def looks_iso(text: str) -> bool:
    """Return whether a text is written as a day in ISO 8601, which need not exist."""
    return _LIKE_ISO.fullmatch(text) is not None


def looks_like_month(text: str) -> bool:
    """Return whether a text is written as a month, or as a season such as 2020-21."""
    return _LIKE_MONTH.fullmatch(text) is not None


def interval_of(begin: datetime, precision: Precision) -> Interval:
    """Return what a time covers; the last moment of the year 9999 ends with it."""
    try:
        if isinstance(precision.value, timedelta):
            return Interval(begin, begin + precision.value)
        if precision is Precision.YEAR:
            return Interval(begin, begin.replace(year=begin.year + 1))
        month = begin.year * 12 + begin.month
        return Interval(begin, begin.replace(year=month // 12, month=month % 12 + 1))
    except (OverflowError, ValueError):
        return Interval(begin, datetime.max.replace(tzinfo=begin.tzinfo))


def is_within(value: Interval, bound: Interval) -> bool:
    """Return whether a time lies within another: ``=``."""
    return bound.begin <= value.begin and value.end <= bound.end


COMPARISONS: dict[Operator, Callable[[Interval, Interval], bool]] = {
    Operator.EQUAL: is_within,
    Operator.IN: is_within,
    Operator.LESS: lambda value, bound: value.end <= bound.begin,
    Operator.GREATER: lambda value, bound: value.begin >= bound.end,
    Operator.LESS_EQUAL: lambda value, bound: value.end <= bound.end,
    Operator.GREATER_EQUAL: lambda value, bound: value.begin >= bound.begin,
}
"""A value against a bound of the same kind, both with zones or both without.

``=`` is ``<=`` and ``>=``; a day is neither before nor within one of its minutes.
"""


def _parse_slowly(text: str) -> Interval | None:
    found = _ISO.fullmatch(text)
    try:
        if found is None:
            is_month = _MONTH.fullmatch(text) is not None
            return interval_of(_parse(f"{text}-01"), Precision.MONTH) if is_month else None
        year, month, day = found["date"].split("-")
        clock = text[found.end("date") + 1 :] if found["hour"] else f"00:00{found['zone'] or ''}"
        begin = _parse(f"{year}-{month:0>2}-{day:0>2}T{clock}")
    except ValueError:
        return None
    return interval_of(begin, _precision(found))


def _precision(found: re.Match[str]) -> Precision:
    stated = (
        ("fraction", Precision.MICROSECOND),
        ("second", Precision.SECOND),
        ("minute", Precision.MINUTE),
        ("hour", Precision.HOUR),
    )
    return next((each for part, each in stated if found[part]), Precision.DAY)
