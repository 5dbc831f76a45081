"""``where`` predicates as SQL: values and field names are always bound, never spliced."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Select,
    and_,
    case,
    cast,
    func,
    literal,
    not_,
    or_,
    select,
)

from layerdex.choices import Operator
from layerdex.errors import FilterError
from layerdex.predicates import And, Condition, Not, Or, Predicate, conditions_of
from layerdex.storage.catalog.date_fields import (
    DateField,
    check_bound,
    check_year,
    parse_date,
)
from layerdex.storage.catalog.field_names import Field, find_field, lookup_field
from layerdex.storage.catalog.field_texts import compile_pattern, distinct_texts, is_one_of
from layerdex.storage.catalog.metadata import ValueType, parse_number
from layerdex.storage.catalog.schema import DOCUMENT, LIVE, METADATUM
from layerdex.storage.catalog.source_fields import read_date_formats

Where = tuple[Predicate, ...]
"""Predicates that must all hold."""

ReadDates = Callable[[Field, str | None], DateField]
"""Reads the dates of a field in the declared form."""

_FIRST_INEXACT, _PAST_INTEGERS = 1 << 53, 1 << 63
"""Integers from here on, up to SQLite's largest, are not exact as floats."""
_EXACT = (Operator.EQUAL, Operator.IN)
"""Comparisons of an id, which is a name, never as dates."""

_COMPARISONS: dict[Operator, Callable[[Any, Any], ColumnElement[bool]]] = {
    Operator.LESS: operator.lt,
    Operator.GREATER: operator.gt,
    Operator.LESS_EQUAL: operator.le,
    Operator.GREATER_EQUAL: operator.ge,
}


def where_clauses(
    connection: Connection, where: Where, read_dates: ReadDates | None = None
) -> list[ColumnElement[bool]]:
    """Return the SQL clauses over `DOCUMENT` for the predicates in ``where``.

    Fields are named as `find_field` says. A document that lacks a field matches ``!=``, ``is null``
    and what is negated, as NOT is the plain complement. Raises `FilterError` for a field that no
    document has, and for dates that cannot be compared.
    """
    compiler = FilterCompiler.of(connection, where, read_dates)
    return [compiler.clause(predicate) for predicate in where]


def negated(condition: Condition) -> Not:
    """Return what ``!=`` means: the complement of ``=``."""
    return Not(replace(condition, operator=Operator.EQUAL))


def _check_unicode(condition: Condition) -> None:
    for text in (condition.field, *condition.values):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise FilterError(f"{text!a} in a condition is not valid Unicode") from error


@dataclass(slots=True)
class FilterCompiler:
    """What is read of the catalog for one filter, once for each field."""

    connection: Connection
    read_dates: ReadDates
    _stored_formats: dict[str, str] | None = None
    _forms: dict[tuple[tuple[str, str], ...], dict[str, str]] = field(default_factory=dict)
    _dates: dict[tuple[str, str | None], DateField] = field(default_factory=dict)

    @classmethod
    def of(
        cls, connection: Connection, where: Where, read_dates: ReadDates | None = None
    ) -> FilterCompiler:
        """Return one for ``where``, whose conditions are checked."""
        for condition in conditions_of(*where):
            _check_unicode(condition)
        return cls(connection, read_dates or partial(DateField.read, connection))

    def clause(self, predicate: Predicate) -> ColumnElement[bool]:
        """Return a clause that is true, or else false or null."""
        match predicate:
            case And(parts):
                return and_(*map(self.clause, parts))
            case Or(parts):
                return or_(*map(self.clause, parts))
            case Not(part):
                # A label that is null makes a comparison null, whose complement would be null too.
                return not_(func.coalesce(self.clause(part), literal(False)))
            case Condition(operator=Operator.NOT_EQUAL):
                return self.clause(negated(predicate))
            case Condition():
                found = self._field(predicate)
                if found.column is not None:
                    return self._of_column(found, found.column, predicate)
                rows, is_complement = self._of_metadata(found, predicate)
                is_listed = DOCUMENT.c.row.in_(rows)
                return not_(is_listed) if is_complement else is_listed

    def rows_query(self, condition: Condition) -> tuple[Select[int], bool]:
        """Return a query for the rows that meet a condition, and whether for all others instead.

        It is none with ``!=``. Rows of dead versions may be among them.
        """
        found = self._field(condition)
        if found.column is None:
            return self._of_metadata(found, condition)
        query = select(DOCUMENT.c.row).where(self._of_column(found, found.column, condition))
        # SQLite's index of ids has live documents only; that of labels is enough without the rest.
        return query if found.is_label else query.where(LIVE), False

    def _field(self, condition: Condition) -> Field:
        return find_field(self.connection, condition.field, is_quoted=condition.is_quoted)

    def _of_column(
        self, found: Field, column: Column[str] | Column[str | None], condition: Condition
    ) -> ColumnElement[bool]:
        if condition.operator is Operator.IS_NULL:
            return column.is_(None)
        return self._comparison(found, condition)

    def _of_metadata(self, found: Field, condition: Condition) -> tuple[Select[int], bool]:
        rows = select(METADATUM.c.row).where(METADATUM.c.name == found.name)
        if condition.operator is Operator.IS_NULL:
            return rows, True
        return rows.where(self._comparison(found, condition)), False

    def _comparison(self, found: Field, condition: Condition) -> ColumnElement[bool]:
        text = METADATUM.c.text if found.column is None else found.column
        if condition.operator in (Operator.LIKE, Operator.ILIKE):
            return is_one_of(text, self._like(found, condition))
        if found.name == "id" and found.column is not None and condition.operator in _EXACT:
            return _plain(found, condition.operator, condition.values)
        form = self._date_format(found, condition)
        dates = [date for value in condition.values if (date := parse_date(value, form))]
        others = [value for value in condition.values if parse_date(value, form) is None]
        for value in others:
            is_ordered = condition.operator in _COMPARISONS
            check_bound(found, value, is_ordered=is_ordered, form=form)
            if is_ordered and form is None:
                check_year(self.connection, found, value)
        if not dates:
            return _plain(found, condition.operator, condition.values)
        key = (found.reference, form)  # the label is no metadata field that is called label
        if (field := self._dates.get(key)) is None:
            field = self._dates[key] = self.read_dates(found, form)
        texts = field.matching(self.connection, condition.operator, dates)
        clause = is_one_of(text, texts)
        return or_(clause, _plain(found, Operator.IN, tuple(others))) if others else clause

    def _like(self, found: Field, condition: Condition) -> list[str]:
        ignores_case = condition.operator is Operator.ILIKE
        matches = compile_pattern(condition.values[0], ignores_case=ignores_case).fullmatch
        texts = distinct_texts(self.connection, found)
        return [text for text in texts if matches(text.casefold() if ignores_case else text)]

    def _date_format(self, found: Field, condition: Condition) -> str | None:
        if self._stored_formats is None:
            self._stored_formats = read_date_formats(self.connection)
        for formats in (condition.date_formats, tuple(self._stored_formats.items())):
            if form := self._by_field(formats).get(found.reference):
                return form
        return None

    def _by_field(self, formats: tuple[tuple[str, str], ...]) -> dict[str, str]:
        """Return forms by the fields that their names mean, as names in conditions do."""
        if formats not in self._forms:
            fields = ((lookup_field(self.connection, name), form) for name, form in formats)
            self._forms[formats] = {found.reference: form for found, form in fields if found}
        return self._forms[formats]


def _plain(found: Field, comparison: Operator, values: tuple[str, ...]) -> ColumnElement[bool]:
    """Compare as numbers or text."""
    if found.column is None:
        return _metadata_clause(comparison, values)
    if comparison in _COMPARISONS:
        number: ColumnElement[float | None] = func.parse_number(found.column)
        return _ordered(comparison, number, found.column, values[0])
    return found.column.in_(values) if len(values) > 1 else found.column == values[0]


def _metadata_clause(comparison: Operator, values: tuple[str, ...]) -> ColumnElement[bool]:
    if comparison not in _COMPARISONS:
        return _metadata_equal(*values)
    [value] = values
    ordered = _ordered(comparison, METADATUM.c.number, METADATUM.c.text, value)
    if not _is_integer(value) or abs(bound := int(Decimal(value))) < _FIRST_INEXACT:
        return ordered
    return case(
        (METADATUM.c.kind == ValueType.INTEGER, _ordered_integer(comparison, bound)),
        else_=ordered,
    )


def _ordered_integer(comparison: Operator, bound: int) -> ColumnElement[bool]:
    compare = _COMPARISONS[comparison]
    if abs(bound) >= _PAST_INTEGERS:  # above or below all that are stored
        return literal(compare(0, bound))
    return compare(cast(METADATUM.c.text, BigInteger), bound)


def _metadata_equal(*values: str) -> ColumnElement[bool]:
    numbers = [number for value in values if (number := parse_number(value)) is not None]
    integers = [str(int(Decimal(value))) for value in values if _is_integer(value)]
    booleans = [lower for value in values if (lower := value.lower()) in ("true", "false")]
    is_boolean = and_(METADATUM.c.kind == ValueType.BOOLEAN, METADATUM.c.text.in_(booleans))
    # The text "007" is not the number 7, but the number 7.0 is; beyond 2^53 only the digits of an
    # integer are exact.
    is_real = and_(METADATUM.c.kind == ValueType.REAL, METADATUM.c.number.in_(numbers))
    is_integer = and_(METADATUM.c.kind == ValueType.INTEGER, METADATUM.c.text.in_(integers))
    return or_(METADATUM.c.text.in_(values), is_real, is_integer, is_boolean)


def _is_integer(value: str) -> bool:
    number = parse_number(value)
    return number is not None and abs(number) < 1e19 and Decimal(value) % 1 == 0


def _ordered(
    comparison: Operator,
    number: ColumnElement[float | None] | Column[float | None],
    text: Column[str] | Column[str | None],
    value: str,
) -> ColumnElement[bool]:
    compare = _COMPARISONS[comparison]
    bound = parse_number(value)
    if bound is None:
        return compare(text, value)
    # Numerically if both sides are numbers, else as text.
    return or_(compare(number, bound), and_(number.is_(None), compare(text, value)))
