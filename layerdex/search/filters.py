"""Reading ``where`` expressions such as ``label=ham``, ``year>2020`` or ``label in a,b``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from layerdex.arguments import check_type, to_list
from layerdex.choices import Operator
from layerdex.errors import FilterError
from layerdex.records import Condition

Expressions = str | Iterable[str] | None

MAX_CONDITIONS = 500
"""SQLite joins fewer than 1,000, those that come with every question included."""

MAX_VALUES = 50_000
"""Each can be bound three times, and usual builds of SQLite bind 250,000."""

_WHAT = "a condition is a string such as 'label=ham'"

_QUOTED = r"""(?:"(?:[^"]|"")*")"""
_EXPRESSION = re.compile(
    rf"\s*(?P<field>{_QUOTED}|[^\s\"].*?)\s*"
    r"(?:(?P<operator>!=|<=|>=|=|<|>)|\s(?P<in>(?i:in))\s)\s*(?P<value>.*?)\s*",
    re.DOTALL,
)
_CELL = re.compile(rf"""(?:^|(?<=,))(\s*(?:{_QUOTED}|'(?:[^']|'')*')\s*(?=,|$)|[^,]*)""", re.DOTALL)


def parse_where(where: Expressions) -> tuple[Condition, ...]:
    """Read one expression or several, which are joined by AND; None is no condition.

    An expression is ``FIELD OP VALUE`` with OP one of = != < > <= >= or ``in`` (values separated
    by commas). Double quotes around a field keep an operator or the prefix ``metadata.`` in its
    name, quotes around a value its spaces and commas; a quote within is doubled, as in SQL. Raises
    `FilterError`, or `OptionError` for what is no string.
    """
    if where is None:
        return ()
    expressions = [where] if isinstance(where, str) else to_list(where, what=_WHAT)
    if len(expressions) > MAX_CONDITIONS:
        raise FilterError(
            f"{len(expressions):,} conditions are given, and at most {MAX_CONDITIONS} can be "
            "joined: 'FIELD in A,B' is one for many values"
        )
    conditions = tuple(_parse(expression) for expression in expressions)
    n_values = sum(len(condition.values) for condition in conditions)
    if n_values > MAX_VALUES:
        raise FilterError(
            f"the conditions have {n_values:,} values, and at most {MAX_VALUES:,} can be compared"
        )
    return conditions


def _parse(expression: str) -> Condition:
    check_type(expression, str, what=_WHAT)
    match = _EXPRESSION.fullmatch(expression)
    if match is None or match["value"] == "":
        raise FilterError(
            f"cannot read the condition {expression!r}: write FIELD=VALUE, !=, <, >, <=, >=, "
            "or 'FIELD in A,B'; double quotes around FIELD allow any name"
        )
    value = match["value"]
    try:
        expression.encode()
    except UnicodeEncodeError as error:
        raise FilterError(f"the condition {expression!a} is not Unicode") from error
    if match["field"] == '""' or match["field"][0] in "=!<>":
        raise FilterError(f"cannot read the condition {expression!r}: a field comes first")
    is_quoted = match["field"][0] == '"'
    field = _unquote(match["field"]) if is_quoted else match["field"]
    if match["in"]:
        return Condition(field, Operator.IN, _split(value), is_quoted)
    if value[0] in "=<>":
        raise FilterError(
            f"cannot read the condition {expression!r}: operators are = != < > <= >= and in; "
            "quote a value that begins like one"
        )
    operator = Operator(match["operator"])
    if operator not in (Operator.EQUAL, Operator.NOT_EQUAL) and _is_infinite_or_nan(value):
        raise FilterError(
            f"cannot read the condition {expression!r}: {value} is no finite number; "
            "quote it to compare as text"
        )
    return Condition(field, operator, (_unquote(value),), is_quoted)


def _is_infinite_or_nan(value: str) -> bool:
    try:
        return not math.isfinite(float(value))
    except ValueError:
        return False


def _split(values: str) -> tuple[str, ...]:
    return tuple(_unquote(cell.strip()) for cell in _CELL.findall(values))


def _unquote(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1].replace(value[0] * 2, value[0])
    return value
