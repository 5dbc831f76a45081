"""The dates of a field, and what is wrong with comparing them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from layerdex.choices import Operator
from layerdex.errors import FilterError
from layerdex.storage.catalog.date_formats import FORM_SEPARATOR, parse_in_forms
from layerdex.storage.catalog.dates import COMPARISONS, Interval, parse_iso
from layerdex.storage.catalog.field_names import Field
from layerdex.storage.catalog.field_texts import distinct_texts, find_live

_OTHER_FORMS = re.compile(
    r"(?P<a>[0-9]{1,2})(?P<sep>[./-])(?P<b>[0-9]{1,2})(?P=sep)(?P<year>[0-9]{4})"
    r"|(?P<a2>[0-9]{1,2})/(?P<b2>[0-9]{1,2})/[0-9]{2}"
    r"|[0-9]{2}\.[0-9]{2}\.[0-9]{2}"
    r"|(?P<first>[0-9]{4})(?P<sep2>[./])[0-9]{1,2}(?P=sep2)[0-9]{1,2}"
)
_CLOCK = r"(?P<clock>,? [0-9]{1,2}:[0-9]{2}(?P<seconds>:[0-9]{2})?)?"
_OTHER_FORM = re.compile(rf"(?:{_OTHER_FORMS.pattern}){_CLOCK}")


def parse_date(text: str, form: str | None) -> Interval | None:
    """Read a date in the declared forms, if there are any, or in ISO 8601."""
    declared = None if form is None else parse_in_forms(text, form)
    return parse_iso(text) if declared is None else declared


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
        similar = [text for text in self.others if guess_format(text) is not None]
        example = find_live(connection, self.field, similar) if similar else None
        if example is not None:
            raise undeclared_form(self.field, example, "has values such as", self.form)

    def _check_zones(self, connection: Connection, bound: Interval) -> None:
        different = (text for text, date in self.dates if date.is_aware != bound.is_aware)
        example = find_live(connection, self.field, different)
        if example is None:
            return
        day = bound.begin.date().isoformat()
        if bound.is_aware:
            raise FilterError(
                f"{self.field.reference} has values without a zone, such as {example!r}, which cannot "
                f"be compared with a time in a zone: leave the zone out, such as {day}"
            )
        raise FilterError(
            f"{self.field.reference} has values in a zone, such as {example!r}, which cannot be "
            f"compared with a time without one: add the zone that you mean, such as {day}Z "
            f"(UTC), {day}+02:00 or {day}T14:05+02:00"
        )


def undeclared_form(field: Field, example: str, has: str, declared: str | None) -> FilterError:
    """Return the error for a date in a form that is not among the ``declared`` ones."""
    form, either = guess_format(example) or "", ""
    before = "" if declared is None else declared + FORM_SEPARATOR
    if form.startswith("%d/%m") and int(example.partition("/")[0]) <= 12:
        either = f", or {form.replace('%d/%m', '%m/%d')!r} if the month comes first"
    return FilterError(
        f"{field.reference} {has} {example!r}, which may be a date: say how dates are written there "
        f"with --date-format '{field.reference}={before}{form}' (date_formats in Python){either}; a "
        "bound may then be an ISO date, such as 2026-06-30"
    )
