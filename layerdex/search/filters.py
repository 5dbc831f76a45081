"""Reading ``where`` expressions such as ``label=ham``, ``year>2020`` or ``label in a,b``."""

from __future__ import annotations

import re
from collections.abc import Iterable

from layerdex.arguments import check_kind, to_list
from layerdex.errors import FilterError
from layerdex.records import Condition, Operator

Expressions = str | Iterable[str] | None

_WHAT = "a condition is a string such as 'label=ham'"

_EXPRESSION = re.compile(
    r"\s*(?P<field>\S.*?)\s*(?:(?P<operator>!=|<=|>=|=|<|>)|\s(?P<in>in)\s)\s*(?P<value>.*?)\s*",
    re.DOTALL,
)


_CELL = re.compile(r"""(?:^|(?<=,))((?:\s*"(?:[^"]|"")*"\s*(?=,|$))|[^,]*)""", re.DOTALL)


def parse_where(where: Expressions) -> tuple[Condition, ...]:
    """Read one expression or several, which are joined by AND; None is no condition.

    An expression is ``FIELD OP VALUE`` with OP one of = != < > <= >= or ``in`` (values separated
    by commas). Quotes around a value keep its spaces. Raises `FilterError`,
    or `OptionError` for what is no string.
    """
    if where is None:
        return ()
    expressions = [where] if isinstance(where, str) else to_list(where, what=_WHAT)
    return tuple(_parse(expression) for expression in expressions)


def _parse(expression: str) -> Condition:
    check_kind(expression, str, what=_WHAT)
    match = _EXPRESSION.fullmatch(expression)
    if match is None or match["value"] == "":
        raise FilterError(
            f"cannot read the condition {expression!r}: write FIELD=VALUE, !=, <, >, <=, >=, "
            "or 'FIELD in A,B'"
        )
    value = match["value"]
    try:
        expression.encode()
    except UnicodeEncodeError as error:
        raise FilterError(f"the condition {expression!a} is not Unicode") from error
    if match["field"][0] in "=!<>":
        raise FilterError(f"cannot read the condition {expression!r}: a field comes first")
    if match["in"]:
        return Condition(match["field"], Operator.IN, _split(value))
    if value[0] in "=<>":
        raise FilterError(
            f"cannot read the condition {expression!r}: operators are = != < > <= >= and in; "
            "quote a value that begins like one"
        )
    return Condition(match["field"], Operator(match["operator"]), (_unquote(value),))


def _split(values: str) -> tuple[str, ...]:
    return tuple(_unquote(cell.strip()).replace('""', '"') for cell in _CELL.findall(values))


def _unquote(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value
