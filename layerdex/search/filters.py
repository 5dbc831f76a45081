"""``where`` expressions such as ``label=ham`` or ``year>2020 and (lang in (de, fr))``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from layerdex.arguments import check_type, format_value, to_list
from layerdex.errors import FilterError, OptionError
from layerdex.predicates import And, Predicate, conditions_of
from layerdex.search.filter_grammar import parse_expression
from layerdex.storage.catalog.date_formats import check_date_format

MAX_CONDITIONS = 500
"""SQLite joins fewer than 1,000, those that come with every question included."""

MAX_VALUES = 50_000
"""Each can be bound three times, and usual builds of SQLite bind 250,000."""

_WHAT = "a condition is a string such as 'label=ham'"
_NO_FORMATS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, init=False)
class Filter:
    """Expressions that must all hold, with the declared forms of dates.

    ``Filter("Datum >= 2026-06-01", date_formats={"Datum": "%d.%m.%Y"})`` is taken wherever
    ``where`` is. A form is one of `datetime.strptime`; it beats the one that the index holds. Dates
    in ISO 8601 need none. Raises `FilterError` for a form that cannot be used, `OptionError` for
    what is no string.
    """

    expressions: tuple[str, ...]
    date_formats: Mapping[str, str]

    def __init__(self, *expressions: str, date_formats: Mapping[str, str] = _NO_FORMATS) -> None:
        """Check what is given."""
        for expression in expressions:
            check_type(expression, str, what=_WHAT)
        if not isinstance(date_formats, Mapping):
            raise OptionError(
                "date_formats is a mapping such as {'Datum': '%d.%m.%Y'}, "
                f"not {format_value(date_formats)}"
            )
        for field, form in date_formats.items():
            check_type(field, str, what="a field is a string")
            check_date_format(form, field=field)
        object.__setattr__(self, "expressions", expressions)
        object.__setattr__(self, "date_formats", dict(date_formats))

    def parse(self) -> tuple[Predicate, ...]:
        """Return the predicates that must all hold; raises `FilterError`."""
        return tuple(
            part
            for expression in self.expressions
            for part in _parts(parse_expression(expression, self.date_formats))
        )


Expressions = Filter | str | Iterable[str] | None


def parse_where(where: Expressions) -> tuple[Predicate, ...]:
    """Read one expression or several, which are joined by AND; None is no condition.

    docs/filters.md has the grammar. Raises `FilterError` with the place of the fault, or
    `OptionError` for what is no string.
    """
    predicates = _to_filter(where).parse()
    conditions = list(conditions_of(*predicates))
    if len(conditions) > MAX_CONDITIONS:
        raise FilterError(
            f"{len(conditions):,} conditions are given, and at most {MAX_CONDITIONS} can be "
            "joined: 'FIELD in A,B' is one for many values"
        )
    n_values = sum(len(condition.values) for condition in conditions)
    if n_values > MAX_VALUES:
        raise FilterError(
            f"the conditions have {n_values:,} values, and at most {MAX_VALUES:,} can be compared"
        )
    return predicates


def _to_filter(where: Expressions) -> Filter:
    if isinstance(where, Filter):
        return where
    if where is None:
        return Filter()
    if isinstance(where, str):
        return Filter(where)
    given = to_list(where, what=_WHAT)
    if hasattr(where, "dtype") and not all(isinstance(one, str) for one in given):
        raise OptionError(
            "where takes expressions such as 'stars >= 3', which are compared with the documents "
            f"of the index, and no {type(where).__name__} of verdicts"
        )
    return Filter(*given)


def _parts(predicate: Predicate) -> Iterator[Predicate]:
    """Yield what must hold, one by one, so that a filter without matches can name the cause."""
    if isinstance(predicate, And):
        for part in predicate.parts:
            yield from _parts(part)
    else:
        yield predicate
