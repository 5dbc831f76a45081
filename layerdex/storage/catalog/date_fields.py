"""The dates of a field, and what is wrong with comparing them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from layerdex.choices import Operator
from layerdex.errors import FilterError
from layerdex.storage.catalog.date_formats import FORM_SEPARATOR, example_in, parse_in_forms
from layerdex.storage.catalog.dates import (
    COMPARISONS,
    Interval,
    looks_iso,
    looks_like_month,
    parse_iso,
    parse_year,
)
from layerdex.storage.catalog.field_names import Field
from layerdex.storage.catalog.field_texts import distinct_texts, find_day, find_live

_OTHER_FORMS = re.compile(
    r"(?P<a>[0-9]{1,2})(?P<sep>[./-])(?P<b>[0-9]{1,2})(?P=sep)(?P<year>[0-9]{4})"
    r"|(?P<a2>[0-9]{1,2})/(?P<b2>[0-9]{1,2})/[0-9]{2}"
    r"|[0-9]{2}\.[0-9]{2}\.[0-9]{2}"
    r"|(?P<first>[0-9]{4})(?P<sep2>[./])[0-9]{1,2}(?P=sep2)[0-9]{1,2}"
)
_CLOCK = r"(?P<clock>,? [0-9]{1,2}:[0-9]{2}(?P<seconds>:[0-9]{2})?)?"
_OTHER_FORM = re.compile(rf"(?:{_OTHER_FORMS.pattern}){_CLOCK}")


_TEXT_BYTES, _DATE_BYTES = 60, 300
"""Of Python's objects for a text, and for one that is a date."""


def parse_date(text: str, form: str | None) -> Interval | None:
    """Read a date in the declared forms, if there are any, or in ISO 8601.

    A bare year is one where a form is declared, as the field is one of dates then.
    """
    if form is None:
        return parse_iso(text)
    return parse_in_forms(text, form) or parse_iso(text) or parse_year(text)


def guess_format(text: str) -> str | None:
    """Return the form of a text that looks like a date in another form than ISO, else None."""
    found = _OTHER_FORM.fullmatch(text)
    if found is None:
        return None
    clock = ""
    if found["clock"]:
        clock = f"{',' * found['clock'].startswith(',')} %H:%M{':%S' if found['seconds'] else ''}"
    if found["first"]:
        return f"%Y{found['sep2']}%m{found['sep2']}%d{clock}"
    separator = found["sep"] or ("/" if found["a2"] else ".")
    year = "%Y" if found["year"] else "%y"
    second = found["b"] or found["b2"]
    # 6/30/2026 has its month first, 01.06.2026 its day; 6/1/2026 may be either.
    is_month_first = separator == "/" and second is not None and int(second) > 12
    days = ("%m", "%d") if is_month_first else ("%d", "%m")
    return separator.join((*days, year)) + clock


@dataclass(frozen=True, slots=True)
class DateField:
    """The distinct texts of a field that are dates, and those that are not."""

    field: Field
    dates: Sequence[tuple[str, Interval]]
    others: Sequence[str]
    form: str | None

    @classmethod
    def read(cls, connection: Connection, field: Field, form: str | None) -> DateField:
        """Read the texts of a field; ``form`` is the declared one."""
        dates, others = [], []
        for text in distinct_texts(connection, field):
            if (interval := parse_date(text, form)) is None:
                others.append(text)
            else:
                dates.append((text, interval))
        return cls(field, dates, others, form)

    def size_bytes(self) -> int:
        """Return about how much memory it takes."""
        n_characters = sum(map(len, self.others)) + sum(len(text) for text, _ in self.dates)
        return n_characters + _TEXT_BYTES * len(self.others) + _DATE_BYTES * len(self.dates)

    def matching(
        self, connection: Connection, operator: Operator, bounds: Sequence[Interval]
    ) -> list[str]:
        """Return the texts whose dates compare so with one of ``bounds``.

        Raises `FilterError` for dates that are not recognised, and where one side has a zone.
        """
        self._check_forms(connection)
        compare = COMPARISONS[operator]
        found: list[str] = []
        for bound in bounds:
            same = [(text, date) for text, date in self.dates if date.is_aware == bound.is_aware]
            if len(same) < len(self.dates):
                self._check_zones(connection, bound)
            found += [text for text, date in same if compare(date, bound)]
        return found

    def _check_forms(self, connection: Connection) -> None:
        # Not what no form could read, such as 31.06.2025: it is no date.
        similar = [
            text
            for text in self.others
            if (form := guess_format(text)) is not None and parse_in_forms(text, form) is not None
        ]
        example = find_live(connection, self.field, similar) if similar else None
        if example is not None:
            raise undeclared_form(self.field, example, "has values such as", self.form)

    def _check_zones(self, connection: Connection, bound: Interval) -> None:
        naive = find_live(connection, self.field, self._texts(is_aware=False))
        aware = find_live(connection, self.field, self._texts(is_aware=True))
        name, day = self.field.reference, bound.begin.date().isoformat()
        if naive is not None and aware is not None:
            raise FilterError(
                f"{name} has values in a zone, such as {aware!r}, and values without one, such as "
                f"{naive!r}, which cannot be compared with the same time: write all of them in a "
                "zone or none, and index them again"
            )
        if bound.is_aware and naive is not None:
            raise FilterError(
                f"{name} has values without a zone, such as {naive!r}, which cannot be compared "
                f"with a time in a zone: leave the zone out, such as {day}"
            )
        if not bound.is_aware and aware is not None:
            raise FilterError(
                f"{name} has values in a zone, such as {aware!r}, which cannot be compared with a "
                f"time without one: add the zone that you mean, such as {day}Z (UTC), {day}+02:00 "
                f"or {day}T14:05+02:00"
            )

    def _texts(self, *, is_aware: bool) -> list[str]:
        return [text for text, date in self.dates if date.is_aware is is_aware]


def check_bound(field: Field, value: str, *, is_ordered: bool, form: str | None) -> None:
    """Raise `FilterError` for a bound that is no date where one is meant.

    That is one that looks like a date, and any bound of an order comparison of a field with a
    declared form.
    """
    if not is_ordered and form is None:
        return
    guess = guess_format(value)
    if guess is not None and parse_in_forms(value, guess) is not None:
        raise undeclared_form(field, value, "is compared with", form)
    is_meant = form is not None and (is_ordered or looks_like_month(value))
    if guess is not None or looks_iso(value) or is_meant:
        declared = "" if form is None else f", or as declared, such as {example_in(form)}"
        raise FilterError(
            f"{field.reference} is compared with {value!r}, which is no date: write a day such as "
            f"2026-06-30{declared}"
        )


def check_year(connection: Connection, field: Field, value: str) -> None:
    """Raise `FilterError` for a bare year that orders a field of ISO dates, as text would."""
    if parse_year(value) is None:
        return
    day = find_day(connection, field)
    if day is not None and parse_iso(day) is not None:
        raise FilterError(
            f"{field.reference} has dates such as {day!r} and is compared with {value!r}: write a "
            f"day such as {value}-01-01, or between {value}-01-01 and {value}-12-31"
        )


def undeclared_form(field: Field, example: str, has: str, declared: str | None) -> FilterError:
    """Return the error for a date in a form that is not among the ``declared`` ones."""
    form, either = guess_format(example) or "", ""
    before = "" if declared is None else declared + FORM_SEPARATOR
    if form.startswith("%d/%m") and int(example.partition("/")[0]) <= 12:
        either = f", or {form.replace('%d/%m', '%m/%d')!r} if the month comes first"
    name = field.reference
    return FilterError(
        f"{name} {has} {example!r}, which may be a date: say how dates are written there with "
        f"--date-format '{name}={before}{form}' (date_formats in Python){either}; a bound may then "
        "be an ISO date, such as 2026-06-30"
    )
