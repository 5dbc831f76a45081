"""What a ``where`` expression says of a document, as a tree of conditions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from layerdex.choices import Operator

_PLAIN = re.compile(r"[^\s()\"',=<>!][^\s()\"',]*(?: [^\s()\"',]+)*")
_JOINS = re.compile(r"\b(?:and|or)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of one field.

    ``is_quoted`` says that the field was written in quotes, so that no part of it is a prefix.
    ``date_formats`` are the forms of dates that the filter declares, by field; they beat those that
    the index holds.
    """

    field: str
    operator: Operator
    values: tuple[str, ...]
    is_quoted: bool = False
    date_formats: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        field = f'"{_doubled(self.field)}"' if self.is_quoted else self.field
        match self.operator:
            case Operator.IS_NULL:
                return f"{field} is null"
            case Operator.IN:
                return f"{field} in ({', '.join(map(_written, self.values))})"
            case Operator.LIKE | Operator.ILIKE:
                return f"{field} {self.operator} {_written(self.values[0])}"
            case symbol:
                return f"{field}{symbol}{_written(self.values[0])}"


@dataclass(frozen=True, slots=True)
class Not:
    """The documents that ``part`` does not match, also those that lack its field."""

    part: Predicate

    def __str__(self) -> str:
        return f"not ({self.part})"


@dataclass(frozen=True, slots=True)
class And:
    """The documents that all ``parts`` match; there are at least two."""

    parts: tuple[Predicate, ...]

    def __str__(self) -> str:
        written = (f"({part})" if isinstance(part, Or) else str(part) for part in self.parts)
        return " and ".join(written)


@dataclass(frozen=True, slots=True)
class Or:
    """The documents that any of ``parts`` matches; there are at least two."""

    parts: tuple[Predicate, ...]

    def __str__(self) -> str:
        return " or ".join(map(str, self.parts))


Predicate = Condition | Not | And | Or
"""A node of the tree."""


def conditions_of(*predicates: Predicate) -> Iterator[Condition]:
    """Yield the conditions of trees from left to right."""
    for predicate in predicates:
        match predicate:
            case Condition():
                yield predicate
            case Not(part):
                yield from conditions_of(part)
            case And(parts) | Or(parts):
                yield from conditions_of(*parts)


def _written(value: str) -> str:
    is_plain = _PLAIN.fullmatch(value) is not None and _JOINS.search(value) is None
    return value if is_plain else f'"{_doubled(value)}"'


def _doubled(text: str) -> str:
    return text.replace('"', '""')
