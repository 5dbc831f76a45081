"""Why no document matches a filter."""

from __future__ import annotations

import heapq
from difflib import SequenceMatcher

from sqlalchemy import Connection, select

from layerdex.choices import Operator
from layerdex.predicates import Condition, Predicate
from layerdex.storage.catalog.date_fields import guess_format, parse_date
from layerdex.storage.catalog.field_names import Field, find_field
from layerdex.storage.catalog.field_texts import live_texts
from layerdex.storage.catalog.filters import Where, where_clauses
from layerdex.storage.catalog.schema import DOCUMENT, LIVE

_N_COMPARED = 2_000
_LEAST_RATIO = 0.6  # as get_close_matches
_MAX_CHARACTERS = 200


def describe_no_match(connection: Connection, where: Where) -> str | None:
    """Return why no live document matches ``where``; None if one does.

    It names the first predicate that matches nothing by itself, and a close value of its field.
    """
    if not where or _matches(connection, where):
        return None
    for predicate in where:
        if not _matches(connection, (predicate,)):
            hint = _hint(connection, predicate)
            return f"no document matches the filter ({_shortened(str(predicate))}){hint}"
    conditions = _shortened(", ".join(map(str, where)))
    return f"no document matches all conditions of the filter ({conditions})"


def _matches(connection: Connection, where: Where) -> bool:
    clauses = where_clauses(connection, where)
    query = select(DOCUMENT.c.row).where(LIVE, *clauses).limit(1)
    return connection.execute(query).first() is not None


def _hint(connection: Connection, predicate: Predicate) -> str:
    if not isinstance(predicate, Condition):
        return ""
    if predicate.operator not in (Operator.EQUAL, Operator.IN):
        return ""
    field = find_field(connection, predicate.field, is_quoted=predicate.is_quoted)
    for value in predicate.values:
        form = guess_format(value)  # not declared, or it would be compared as a date
        if form is not None and parse_date(value, form) is not None:
            declaration = f"--date-format '{field.reference}={form}'"
            return f": if {value} is a date, say so with {declaration} (date_formats in Python)"
    close = _close_value(connection, field, predicate)
    return "" if close is None else f": did you mean {close}?"


def _close_value(connection: Connection, field: Field, predicate: Condition) -> str | None:
    texts = live_texts(connection, field, _N_COMPARED)
    texts = [text for text in texts if 0 < len(text) <= _MAX_CHARACTERS]
    wanted = [value.casefold() for value in predicate.values[:10] if len(value) <= _MAX_CHARACTERS]
    for text in texts:
        if text.casefold() in wanted:
            return text
    close = ((_ratio(text.casefold(), value), text) for value in wanted for text in texts)
    best = heapq.nlargest(1, close)
    return best[0][1] if best and best[0][0] >= _LEAST_RATIO else None


def _ratio(text: str, wanted: str) -> float:
    matcher = SequenceMatcher(None, wanted, text)
    return matcher.ratio() if matcher.real_quick_ratio() >= _LEAST_RATIO else 0.0


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}…"
