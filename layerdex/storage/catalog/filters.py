"""``where`` conditions as SQL: values and field names are always bound, never spliced."""

from __future__ import annotations

import operator
from collections.abc import Callable
from decimal import Decimal
from difflib import get_close_matches
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
    or_,
    select,
)

from layerdex.choices import Operator
from layerdex.errors import FilterError
from layerdex.records import Condition
from layerdex.storage.catalog.metadata import ValueType, parse_number
from layerdex.storage.catalog.schema import DOCUMENT, LIVE, METADATUM

Where = tuple[Condition, ...]
"""Conditions that must all hold."""

METADATA_PREFIX = "metadata."
_FIRST_INEXACT, _PAST_INTEGERS = 1 << 53, 1 << 63
"""Integers from here on, up to SQLite's largest, are not exact as floats."""
_MAX_FIELDS = 50
_MAX_CHARACTERS = 60
_COMPARISONS: dict[Operator, Callable[[Any, Any], ColumnElement[bool]]] = {
    Operator.LESS: operator.lt,
    Operator.GREATER: operator.gt,
    Operator.LESS_EQUAL: operator.le,
    Operator.GREATER_EQUAL: operator.ge,
}
_COLUMNS: dict[str, Column[str] | Column[str | None]] = {
    "id": DOCUMENT.c.id,
    "label": DOCUMENT.c.label,
}


def where_clauses(connection: Connection, where: Where) -> list[ColumnElement[bool]]:
    """Return the SQL clauses over `DOCUMENT` for the conditions in ``where``.

    ``label`` and ``id`` are columns of the document; any other name is a metadata field (see
    `field_name`). A document without the field matches ``!=`` only. Raises `FilterError` for a
    field that no document has.
    """
    for condition in where:
        _check_unicode(condition)
    return [_clause(connection, condition) for condition in where]


def field_name(connection: Connection, name: str) -> str | None:
    """Return the metadata field that ``name`` stands for, None if no document has it.

    ``metadata.NAME`` is short for NAME, unless documents have a field that is called so.
    """
    meant = (name, name.removeprefix(METADATA_PREFIX))
    return next((each for each in meant if _has_field(connection, each)), None)


def _check_unicode(condition: Condition) -> None:
    for text in (condition.field, *condition.values):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise FilterError(f"{text!a} in a condition is not valid Unicode") from error


def _clause(connection: Connection, condition: Condition) -> ColumnElement[bool]:
    column = _COLUMNS.get(condition.field)
    if column is not None:
        return _column_clause(column, condition)
    find = _exact_name if condition.is_quoted else field_name
    name = find(connection, condition.field)
    if name is None:
        raise _unknown_field(connection, condition)
    rows = select(METADATUM.c.row).where(METADATUM.c.name == name)
    if condition.operator is Operator.NOT_EQUAL:
        return DOCUMENT.c.row.not_in(rows.where(_metadata_equal(condition.values[0])))
    return DOCUMENT.c.row.in_(rows.where(_metadata_clause(condition)))


def _column_clause(
    column: Column[str] | Column[str | None], condition: Condition
) -> ColumnElement[bool]:
    value = condition.values[0]
    match condition.operator:
        case Operator.EQUAL:
            return column == value
        case Operator.NOT_EQUAL:
            return column.is_distinct_from(value)
        case Operator.IN:
            return column.in_(condition.values)
        case _:
            number: ColumnElement[float | None] = func.parse_number(column)
            return _ordered(condition.operator, number, column, value)


def _metadata_clause(condition: Condition) -> ColumnElement[bool]:
    if condition.operator not in _COMPARISONS:
        return _metadata_equal(*condition.values)
    [value] = condition.values
    ordered = _ordered(condition.operator, METADATUM.c.number, METADATUM.c.text, value)
    if not _is_integer(value) or abs(bound := int(Decimal(value))) < _FIRST_INEXACT:
        return ordered
    return case(
        (METADATUM.c.kind == ValueType.INTEGER, _ordered_integer(condition.operator, bound)),
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


def _exact_name(connection: Connection, name: str) -> str | None:
    return name if _has_field(connection, name) else None


def _has_field(connection: Connection, name: str) -> bool:
    return (
        connection.execute(_live_fields().where(METADATUM.c.name == name).limit(1)).first()
        is not None
    )


def _live_fields() -> Select[str]:
    # Dead versions keep their metadata until a compaction.
    return select(METADATUM.c.name).join(DOCUMENT, DOCUMENT.c.row == METADATUM.c.row).where(LIVE)


def _unknown_field(connection: Connection, condition: Condition) -> FilterError:
    name = condition.field
    fields = connection.scalars(_live_fields().distinct()).all()
    likely = [field for field in [*fields, "label"] if len(field) <= _MAX_CHARACTERS]
    close = get_close_matches(name[: 2 * _MAX_CHARACTERS], likely, n=1)
    if not condition.is_quoted:
        name = name.removeprefix(METADATA_PREFIX)
        close = close or get_close_matches(name[: 2 * _MAX_CHARACTERS], likely, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    known = ", ".join(_shown(field) for field in sorted(fields)[:_MAX_FIELDS]) or "none"
    if len(fields) > _MAX_FIELDS:
        known += f" and {len(fields) - _MAX_FIELDS} more"
    asked = repr(name) if len(name) <= _MAX_CHARACTERS else f"{name[:_MAX_CHARACTERS]!r}…"
    return FilterError(f"no document has a field {asked} (label, and metadata: {known}){hint}")


def _shown(name: str) -> str:
    """Return a field's name, quoted if a terminal would not show it as it is."""
    if len(name) > _MAX_CHARACTERS:
        return f"{name[:_MAX_CHARACTERS]!r}…"
    return name if name.isprintable() and name == name.strip() != "" else repr(name)
