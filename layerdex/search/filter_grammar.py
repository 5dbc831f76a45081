"""The grammar of ``where`` expressions, read by recursive descent.

    either     = all {OR all}
    all        = negation {AND negation}
    negation   = NOT negation | ( either ) | condition
    condition  = FIELD = != < <= > >= VALUE | FIELD [NOT] IN LIST | FIELD [NOT] BETWEEN A AND B
               | FIELD [NOT] LIKE PATTERN | FIELD [NOT] ILIKE PATTERN | FIELD IS [NOT] NULL

A value needs no quotes, and then goes on to the end, to the parenthesis that closes a group, or to
an AND or OR before what begins as a condition does. Where an AND or OR is followed by anything
else, it could be part of the value or a mistake: that is an error, never a guess.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from layerdex.choices import Operator
from layerdex.errors import FilterError, FilterSyntaxError
from layerdex.predicates import And, Condition, Not, Or, Predicate
from layerdex.search.filter_places import show_place

MAX_DEPTH = 50
"""Python and SQLite both read nested expressions recursively."""

_MAX_NAME = 1_000
"""Of a field in no quotes that does not come first; it bounds how far each AND looks ahead."""

_STRING = r"""(?:"(?:[^"]|"")*"|'(?:[^']|'')*')"""
_QUOTED = re.compile(_STRING)
_FIELD = re.compile(r'"((?:[^"]|"")*)"')
_OPERATOR = re.compile(
    r"(?P<symbol>!=|<=|>=|=|<|>)"
    r"|(?<=\s)(?:(?P<null>is\s+(?P<is_not>not\s+)?null)(?=[\s)]|$)"
    r"|(?P<not>not\s+)?(?P<word>in|between|i?like)(?=[\s(\"']|$))",
    re.IGNORECASE,
)
_BLANKS = re.compile(r"\s*")
_NOT = re.compile(r"not(?=[\s(])", re.IGNORECASE)
_JOIN = re.compile(r"\s*\b(?P<word>and|or)(?=[\s(\"']|$)", re.IGNORECASE)
_JOIN_IN_VALUE = re.compile(r"\s(?:and|or)(?=[\s(]|$)", re.IGNORECASE)
_JOIN_OF_BOUNDS = re.compile(r"\sand(?=[\s\"'])", re.IGNORECASE)
_MARK = re.compile(r"[(),]|\s(?:and|or)(?=[\s(]|$)", re.IGNORECASE)
_OPERATORS = "= != < <= > >=, in, between, like, ilike or is null"


def parse_expression(text: str, date_formats: Mapping[str, str]) -> Predicate:
    """Read one expression; ``date_formats`` are declared forms of dates by field.

    Raises `FilterError` with the place of the fault.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise FilterError(f"the condition {text!a} is not Unicode") from error
    return _Parser(text, date_formats).parse()


@dataclass(frozen=True, slots=True)
class _Head:
    """How a condition begins: its field, and the match of its operator."""

    field: str
    operator: re.Match[str]
    is_quoted: bool


class _Parser:
    def __init__(self, text: str, date_formats: Mapping[str, str]) -> None:
        self._text = text
        self._date_formats = tuple(date_formats.items())
        self._at = self._past_blanks(0)
        self._begin = self._at
        self._n_open = 0

    def parse(self) -> Predicate:
        found = self._either(0)
        if self._past_blanks(self._at) < len(self._text):
            raise self._expected("AND, OR or the end")
        return found

    def _either(self, depth: int) -> Predicate:
        parts = [self._all(depth)]
        while self._take_join("or"):
            parts.append(self._all(depth))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _all(self, depth: int) -> Predicate:
        parts = [self._negation(depth)]
        while self._take_join("and"):
            parts.append(self._negation(depth))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _negation(self, depth: int) -> Predicate:
        self._at = self._past_blanks(self._at)
        if depth > MAX_DEPTH:
            raise self._expected(f"at most {MAX_DEPTH} levels of parentheses and NOT")
        if (found := _NOT.match(self._text, self._at)) and self._opens(found.end()):
            self._at = found.end()
            return Not(self._negation(depth + 1))
        if not self._text.startswith("(", self._at):
            return self._condition()
        self._at += 1
        self._n_open += 1
        inside = self._either(depth + 1)
        self._at = self._past_blanks(self._at)
        if not self._text.startswith(")", self._at):
            raise self._expected("AND, OR or the parenthesis that closes")
        self._at += 1
        self._n_open -= 1
        return inside

    def _condition(self) -> Predicate:
        # What comes first may be called anything, as there is nothing that it could join.
        head = self._head(self._at, strict=self._at > self._begin)
        if head is None:
            at_end = self._at == len(self._text)
            raise self._expected("a condition" if at_end else f"FIELD and {_OPERATORS}")
        if not head.field:
            raise self._expected("a field with a name")
        found, self._at = head.operator, head.operator.end()

        def condition(operator: Operator, *values: str) -> Condition:
            return Condition(head.field, operator, values, head.is_quoted, self._date_formats)

        made: Predicate
        if found["null"]:
            made = condition(Operator.IS_NULL)
            return Not(made) if found["is_not"] else made
        if found["symbol"]:
            operator = Operator(found["symbol"])
            is_ordered = operator not in (Operator.EQUAL, Operator.NOT_EQUAL)
            return condition(operator, self._value(is_ordered=is_ordered))
        match found["word"].lower():
            case "in":
                made = condition(Operator.IN, *self._list())
            case "between":
                low = self._low()
                high = condition(Operator.LESS_EQUAL, self._value(is_ordered=True))
                made = And((condition(Operator.GREATER_EQUAL, low), high))
            case word:
                made = condition(Operator(word), self._pattern())
        return Not(made) if found["not"] else made

    def _head(self, at: int, *, strict: bool) -> _Head | None:
        """Return the field and the operator at a place; None if no condition begins there.

        A ``strict`` field in no quotes has neither AND nor OR in its name, and no lone parenthesis.
        """
        if quoted := _FIELD.match(self._text, at):
            operator = _OPERATOR.match(self._text, self._past_blanks(quoted.end()))
            return operator and _Head(quoted[1].replace('""', '"'), operator, is_quoted=True)
        end = at + _MAX_NAME if strict else len(self._text)
        operator = _OPERATOR.search(self._text, at, end)
        if operator and operator.start() == at and not operator["symbol"]:
            # A field may be called "like" or "not": a word that comes first is no operator.
            operator = _OPERATOR.search(self._text, at + 1, end)
        field = self._text[at : operator.start()].rstrip() if operator else ""
        if operator is None or field[:1] in ("", '"'):
            return None
        is_whole = field.count("(") == field.count(")")
        if strict and not (is_whole and _JOIN_IN_VALUE.search(f" {field} ") is None):
            return None
        return _Head(field, operator, is_quoted=False)

    def _opens(self, at: int) -> bool:
        """Return whether a condition begins at a place, after NOTs and parentheses."""
        at = self._past_blanks(at)
        for _ in range(MAX_DEPTH + 1):
            if found := _NOT.match(self._text, at):
                if self._head(at, strict=True) and not self._opens_directly(found.end()):
                    return True  # a field whose name begins with "not"
                at = self._past_blanks(found.end())
            elif self._text.startswith("(", at):
                at = self._past_blanks(at + 1)
            else:
                return self._head(at, strict=True) is not None
        return True  # which is too deep

    def _opens_directly(self, at: int) -> bool:
        at = self._past_blanks(at)
        return self._text.startswith("(", at) or self._head(at, strict=True) is not None

    def _take_join(self, word: str) -> bool:
        found = _JOIN.match(self._text, self._at)
        if found is None or found["word"].lower() != word:
            return False
        self._at = self._past_blanks(found.end())
        if not self._opens(self._at):
            raise self._expected(f"a condition after {word.upper()}: FIELD and {_OPERATORS}")
        return True

    def _value(self, *, is_ordered: bool = False) -> str:
        self._at = start = self._past_blanks(self._at)
        quoted = self._take_quoted(commas=False)
        if quoted is not None:
            return quoted
        if self._text.startswith("==", start - 1):
            raise self._expected("one = only, as in FIELD = VALUE")
        if start < len(self._text) and self._text[start] in "=<>":
            raise self._expected("a value, in quotes if it begins like an operator")
        join = _JOIN.match(self._text, start)
        if join is not None and self._opens(join.end()):
            raise self._expected(f"a value before {join['word']!r}")
        value = self._take_plain(commas=False, in_list=False)
        return self._checked(value, start, is_ordered=is_ordered)

    def _checked(self, value: str, start: int, *, is_ordered: bool) -> str:
        if not value:
            self._at = start
            raise self._expected("a value")
        if is_ordered and _is_infinite_or_nan(value):
            self._at = start
            raise self._expected(
                f"a value: {value} is no finite number; quote it to compare as text"
            )
        return _unquote(value)

    def _low(self) -> str:
        """Take the lower bound of BETWEEN and the AND behind it."""
        self._at = start = self._past_blanks(self._at)
        quoted = _QUOTED.match(self._text, start)
        join = _JOIN_OF_BOUNDS.search(self._text, quoted.end() if quoted else start)
        if join is None:
            raise self._expected("two bounds with AND between them")
        self._at = join.end()
        return self._checked(self._text[start : join.start()].strip(), start, is_ordered=True)

    def _pattern(self) -> str:
        start = self._past_blanks(self._at)
        pattern = self._value()
        if (len(pattern) - len(pattern.rstrip("\\"))) % 2:
            self._at = start
            raise self._expected("a pattern that does not end with its escape, a backslash")
        return pattern

    def _list(self) -> list[str]:
        self._at = start = self._past_blanks(self._at)
        in_list = self._text.startswith("(", start)
        self._at += in_list
        values = [self._cell(in_list=in_list)]
        while self._text.startswith(",", self._at):
            self._at += 1
            values.append(self._cell(in_list=in_list))
        if in_list:
            if not self._text.startswith(")", self._at):
                raise self._expected("a comma or the parenthesis that closes the list")
            self._at += 1
        if values == [""] and not set("\"'") & set(self._text[start : self._at]):
            self._at = start
            raise self._expected("values with commas between them")
        return values

    def _cell(self, *, in_list: bool) -> str:
        self._at = self._past_blanks(self._at)
        quoted = self._take_quoted(commas=True, in_list=in_list)
        if quoted is None:
            return _unquote(self._take_plain(commas=True, in_list=in_list))
        self._at = self._past_blanks(self._at)
        return quoted

    def _take_quoted(self, *, commas: bool, in_list: bool = False) -> str | None:
        """Take a value in quotes, if nothing of it stands behind them."""
        found = _QUOTED.match(self._text, self._at)
        if found is None:
            return None
        after = self._past_blanks(found.end())
        following = self._text[after : after + 1]
        ends = following == "" or (commas and following == ",")
        ends = ends or (following == ")" and (in_list or self._n_open > 0))
        if not ends and not in_list:
            join = _JOIN.match(self._text, found.end())
            ends = join is not None and self._opens(join.end())
        if not ends:
            return None
        self._at = found.end()
        return _unquote(found[0])

    def _take_plain(self, *, commas: bool, in_list: bool) -> str:
        start, n_open = self._at, 0
        for mark in _MARK.finditer(self._text, start):
            match mark[0]:
                case "(":
                    n_open += 1
                case ")":
                    if n_open == 0 and (in_list or self._n_open > 0):
                        return self._take_until(mark.start())
                    n_open = max(n_open - 1, 0)
                case ",":
                    if commas and not (in_list and n_open > 0):
                        return self._take_until(mark.start())
                case _ if not in_list:
                    if self._opens(mark.end()):
                        return self._take_until(mark.start())
                    self._at = mark.start() + 1
                    word = mark[0].strip()
                    raise self._expected(
                        f"a condition after {word!r}, or quotes around a value with this word"
                    )
        return self._take_until(len(self._text))

    def _take_until(self, end: int) -> str:
        start, self._at = self._at, end
        return self._text[start:end].strip()

    def _past_blanks(self, at: int) -> int:
        found = _BLANKS.match(self._text, at)
        return at if found is None else found.end()

    def _expected(self, what: str) -> FilterSyntaxError:
        return FilterSyntaxError(
            f"cannot read the filter: expected {what}\n{show_place(self._text, self._at)}"
        )


def _is_infinite_or_nan(value: str) -> bool:
    try:
        return not math.isfinite(float(value))
    except ValueError:
        return False


def _unquote(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1].replace(value[0] * 2, value[0])
    return value
