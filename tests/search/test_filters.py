"""Reading ``where`` expressions."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerdex.choices import Operator
from layerdex.errors import FilterError, FilterSyntaxError, OptionError
from layerdex.predicates import And, Condition, Not, Or, Predicate, conditions_of
from layerdex.search.filters import Filter, parse_where

_SYMBOLS = [Operator(symbol) for symbol in ("=", "!=", "<", ">", "<=", ">=")]


@pytest.mark.parametrize(
    ("expression", "field", "operator", "values"),
    [
        ("label=ham", "label", "=", ["ham"]),
        ("label = ham", "label", "=", ["ham"]),
        ("  label  =  ham  ", "label", "=", ["ham"]),
        ("label!=ham", "label", "!=", ["ham"]),
        ("year<2020", "year", "<", ["2020"]),
        ("year>2020", "year", ">", ["2020"]),
        ("year<=2020", "year", "<=", ["2020"]),
        ("year >= 2020", "year", ">=", ["2020"]),
        ("year=-1", "year", "=", ["-1"]),
        ("label in ham", "label", "in", ["ham"]),
        ("label in ham,spam", "label", "in", ["ham", "spam"]),
        ("label in ham , spam", "label", "in", ["ham", "spam"]),
        ('label in "ham, spam",eggs', "label", "in", ["ham, spam", "eggs"]),
        ('label in " ham ",eggs', "label", "in", [" ham ", "eggs"]),
        ('label in "say ""hi""",b', "label", "in", ['say "hi"', "b"]),
        ("label IN ham,spam", "label", "in", ["ham", "spam"]),
        ("label In ham", "label", "in", ["ham"]),
        ("label in 'ham, spam','it''s'", "label", "in", ["ham, spam", "it's"]),
        ("metadata.label=x", "metadata.label", "=", ["x"]),
        ('"metadata.label"=x', "metadata.label", "=", ["x"]),
        ("my field=a b", "my field", "=", ["a b"]),
        ("a=b=c", "a", "=", ["b=c"]),
        ("a=b!=c", "a", "=", ["b!=c"]),
        ("a=x in y", "a", "=", ["x in y"]),
        ("a in x=y", "a", "in", ["x=y"]),
        ("in=1", "in", "=", ["1"]),
        ("in in a,b", "in", "in", ["a", "b"]),
        ("main=1", "main", "=", ["1"]),
        ("within in a", "within", "in", ["a"]),
        ('label=" ham "', "label", "=", [" ham "]),
        ("label=' ham '", "label", "=", [" ham "]),
        ('label=""', "label", "=", [""]),
        ("label!=''", "label", "!=", [""]),
        ('label="say ""hi"""', "label", "=", ['say "hi"']),
        ('"a=b"=x', "a=b", "=", ["x"]),
        ('"a < b" <= 3', "a < b", "<=", ["3"]),
        ('"born in"="x y"', "born in", "=", ["x y"]),
        ('"born in city" in a,b', "born in city", "in", ["a", "b"]),
        ('" a "!=x', " a ", "!=", ["x"]),
        ('"say ""hi"""=x', 'say "hi"', "=", ["x"]),
        ('"a"="b"="c"', "a", "=", ['b"="c']),
        ('a "b"=x', 'a "b"', "=", ["x"]),
        ('year>"nan"', "year", ">", ["nan"]),
        ("year=nan", "year", "=", ["nan"]),
        ("year>nancy", "year", ">", ["nancy"]),
        ('label="it\'s"', "label", "=", ["it's"]),
        ('label="', "label", "=", ['"']),
        ("label=\"a'", "label", "=", ["\"a'"]),
        ("label=a\nb", "label", "=", ["a\nb"]),
        ("ключ=значение 🙂", "ключ", "=", ["значение 🙂"]),
        ("x'; DROP TABLE document; --=1", "x'; DROP TABLE document; --", "=", ["1"]),
    ],
)
def test_expression_is_read_as(
    expression: str, field: str, operator: str, values: list[str]
) -> None:
    is_quoted = expression.startswith('"')
    assert parse_where(expression) == (
        Condition(field, Operator(operator), tuple(values), is_quoted),
    )


@pytest.mark.parametrize(
    "expression",
    [
        *("", " ", "label", "label=", "=ham", "label in", "label in ", "in a,b", "label==ham"),
        *('""=x', '"a=b', '"a=b"', '"a"b=c', "f>nan", "f<= -Infinity", "f<inf", "f<1e999"),
    ],
)
def test_expression_that_cannot_be_read_is_an_error_that_shows_it(expression: str) -> None:
    with pytest.raises(FilterSyntaxError) as caught:
        parse_where(expression)
    said, shown, caret = str(caught.value).split("\n")
    assert said.startswith("cannot read the filter: expected ")
    assert shown == f"  {expression}"
    assert caret.strip() == "^"
    assert len(caret) <= len(shown) + 1


@pytest.mark.parametrize("expression", ["label in a\nb,c", 'label in "a\nb",c'])
def test_line_break_in_a_list_is_a_value_or_a_clear_error(expression: str) -> None:
    try:
        (condition,) = conditions_of(*parse_where(expression))
    except FilterError:
        return
    assert condition.values == ("a\nb", "c")


def test_very_long_value_in_a_list_is_a_value_or_a_clear_error() -> None:
    try:
        (condition,) = conditions_of(*parse_where(f"label in {'x' * 200_000},b"))
    except FilterError:
        return
    assert [len(value) for value in condition.values] == [200_000, 1]


def test_several_expressions_are_several_conditions() -> None:
    assert parse_where([]) == parse_where(()) == ()
    assert parse_where(["a=1", "b in x,y"]) == (*parse_where("a=1"), *parse_where("b in x,y"))
    assert parse_where(one for one in ["a=1"]) == parse_where("a=1")
    with pytest.raises(FilterError):
        parse_where(["a=1", "b"])


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_comparison_with_what_no_number_is_says_how_to_compare_text(value: str) -> None:
    with pytest.raises(FilterError, match=f"{value} is no finite number; quote it to compare as t"):
        parse_where(f"year>{value}")


@pytest.mark.parametrize("expression", ["not in a", " not in a", "b=1 and not in a"])
def test_field_may_be_called_as_a_word_of_the_grammar(expression: str) -> None:
    *_, last = parse_where(expression)
    assert last == Condition("not", Operator.IN, ("a",))
    assert (
        parse_where(" in  in a")
        == parse_where("in in a")
        == (Condition("in", Operator.IN, ("a",)),)
    )


_WORDS = st.sampled_from(["and", "OR", "not", "in", "between", "LIKE", "ilike", "is", "null"])
_NAMES = _WORDS | st.text(
    st.characters(exclude_characters="=<>!", exclude_categories=["Z", "C"]), min_size=1
).filter(lambda name: name[0] not in '"(')
_VALUES = _WORDS | st.text(
    st.characters(exclude_characters="\"'=", exclude_categories=["Z", "C"]), min_size=1
).filter(lambda value: re.match(r"[<>]|[+-]?(nan|inf)", value, re.I) is None)  # to be quoted


@given(_NAMES, st.sampled_from(_SYMBOLS), _VALUES)
def test_any_name_and_value_are_read_back(name: str, operator: Operator, value: str) -> None:
    expected = (Condition(name, operator, (value,)),)
    assert parse_where(f"{name}{operator}{value}") == expected
    assert parse_where(f" {name}  {operator} {value} ") == expected
    assert parse_where(f'{name}{operator}" {value} "') == (
        Condition(name, operator, (f" {value} ",)),
    )


@given(
    st.text(min_size=1),
    st.sampled_from([each for each in Operator if each is not Operator.IS_NULL]),
    st.text(),
)
def test_any_name_and_value_are_read_back_from_quotes(
    name: str, operator: Operator, value: str
) -> None:
    if operator in (Operator.LIKE, Operator.ILIKE):
        value = value.replace("\\", "")  # which may not come last
    field, text = ('"' + part.replace('"', '""') + '"' for part in (name, value))
    assert parse_where(f"{field} {operator} {text}") == (
        Condition(name, operator, (value,), is_quoted=True),
    )


@given(
    st.lists(
        st.sampled_from(
            [*"ab=<>!\"', ()\\%", " and ", " or ", "not ", " in ", " like ", " is null"]
        ),
        max_size=12,
    ).map("".join)
)
def test_any_text_is_read_or_refused(expression: str) -> None:
    with contextlib.suppress(FilterError):
        predicates = parse_where(expression)
        assert predicates
        for condition in conditions_of(*predicates):
            assert condition.field != ""
            n_values = len(condition.values)
            assert n_values == (0 if condition.operator is Operator.IS_NULL else max(n_values, 1))
            assert condition.operator is Operator.IN or n_values <= 1


def _is(field: str, value: str = "1", operator: Operator = Operator.EQUAL) -> Condition:
    return Condition(field, operator, (value,))


_A, _B, _C = _is("a"), _is("b"), _is("c")
_NULL = Condition("a", Operator.IS_NULL, ())


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("a=1 and b=1", (_A, _B)),
        ("a=1 AND (b=1 And c=1)", (_A, _B, _C)),
        ("a=1 or b=1 and c=1", (Or((_A, And((_B, _C)))),)),
        ("(a=1 or b=1) and c=1", (Or((_A, _B)), _C)),
        ("((a=1))", (_A,)),
        ("not a=1 and b=1", (Not(_A), _B)),
        ("NOT(a=1 or b=1)", (Not(Or((_A, _B))),)),
        ("not not a=1", (Not(Not(_A)),)),
        ("a is null", (_NULL,)),
        ("a IS NOT NULL or b=1", (Or((Not(_NULL), _B)),)),
        ("(a is null)", (_NULL,)),
        ("a not in (x, 'y, z')", (Not(Condition("a", Operator.IN, ("x", "y, z"))),)),
        (
            "a in (rock and roll, f(x, y))",
            (Condition("a", Operator.IN, ("rock and roll", "f(x, y)")),),
        ),
        ("a in x,y and b=1", (Condition("a", Operator.IN, ("x", "y")), _B)),
        (
            "a between 1 and 2 and b=1",
            (_is("a", "1", Operator.GREATER_EQUAL), _is("a", "2", Operator.LESS_EQUAL), _B),
        ),
        ("a like x% or b=1", (Or((_is("a", "x%", Operator.LIKE), _B)),)),
        ("a not ilike 'x and y%'", (Not(_is("a", "x and y%", Operator.ILIKE)),)),
        ("a='rock and roll' and b=1", (_is("a", "rock and roll"), _B)),
        ("a=f(x)", (_is("a", "f(x)"),)),
        ("(a=f(x))", (_is("a", "f(x)"),)),
        ("a=:)", (_is("a", ":)"),)),
        ("R and D=1", (_is("R and D"),)),
        ("not=1", (_is("not"),)),
        ("not in x", (Condition("not", Operator.IN, ("x",)),)),
        ("a=1 and price (EUR)=1", (_A, _is("price (EUR)"))),
        ("a=and", (_is("a", "and"),)),
        ("a=band or b=1", (Or((_is("a", "band"), _B)),)),
    ],
)
def test_conditions_are_joined(expression: str, expected: tuple[Predicate, ...]) -> None:
    assert parse_where(expression) == expected


@pytest.mark.parametrize(
    ("expression", "what", "at"),
    [
        ("label=rock and roll", "a condition after 'and', or quotes around a value", 11),
        ("label=rock and roll and stars>=3", "a condition after 'and', or quotes", 11),
        ("label=ham or spam", "a condition after 'or', or quotes around a value", 10),
        ("label in ham or spam,eggs", "a condition after 'or', or quotes around", 13),
        ("a=1 and", "a condition after 'and'", 4),
        ("a= and b=1", "a value before 'and'", 3),
        ("(a=1) and more", "a condition after AND", 10),
        ("(a=1", "AND, OR or the parenthesis that closes", 4),
        ("(a=1))", "AND, OR or the end", 5),
        ("()", "FIELD and = !=", 1),
        ("a in (x, y", "a comma or the parenthesis", 10),
        ("a in ()", "values with commas", 5),
        ("a between 1", "two bounds with AND", 10),
        ("a like x\\", "a pattern that does not end with its escape", 7),
        ("書書=1 and x", "a condition after 'and'", 7),
    ],
)
def test_the_place_of_a_fault_is_shown(expression: str, what: str, at: int) -> None:
    with pytest.raises(FilterSyntaxError) as caught:
        parse_where(expression)
    said, shown, caret = str(caught.value).split("\n")
    assert said.startswith(f"cannot read the filter: expected {what}")
    assert shown == f"  {expression}"
    assert caret == "  " + " " * at + "^"


@pytest.mark.parametrize(
    "expression",
    [
        *("(" * 10_000 + "a=1", "not " * 10_000 + "a=1", "(" * 51 + "a=1" + ")" * 51),
        *("a=" + "x and " * 10_000, "a" + " " * 100_000, f"a between {' ' * 100_000}1"),
        *("(a=1 and " * 400 + "a=1" + ")" * 400, "a=\0 and \0", "\0", "a\x1b[31m"),
    ],
)
def test_hostile_expressions_are_refused_at_once(expression: str) -> None:
    with pytest.raises(FilterSyntaxError) as caught:
        parse_where(expression)
    lines = str(caught.value).split("\n")
    assert len(lines) == 3
    assert all(line.isprintable() and len(line) < 150 for line in lines)


def test_as_deep_as_allowed_is_read() -> None:
    assert parse_where("(" * 50 + "a=1" + ")" * 50) == (_A,)
    assert parse_where("a=1 and " * 499 + "a=1") == (_A,) * 500
    with pytest.raises(FilterError, match=r"^501 conditions are given"):
        parse_where("a=1 or " * 500 + "a=1")


@pytest.mark.parametrize("form", ["%d.%m.%Y", "%d/%m/%y %H:%M", "%b %Y", "%Y%j", "%d %B %Y %I %p"])
def test_date_formats_are_kept_with_the_conditions(form: str) -> None:
    given = Filter("a=1", "metadata.b=1 or c=1", date_formats={"a": form, "b": form})
    forms = [condition.date_formats for condition in conditions_of(*parse_where(given))]
    assert forms == [(("a", form), ("b", form))] * 3


@pytest.mark.parametrize(
    "form", ["", "%Q", "%d.%m", "%H:%M", "%x", "%c", "%Y-%m-%d %Z", "%", "%Y-%m %Y", 5]
)
def test_a_date_format_that_cannot_be_used_is_an_error(form: str) -> None:
    with pytest.raises(FilterError, match=r"the date format .* of the field 'a'"):
        Filter("a=1", date_formats={"a": form})


@pytest.mark.parametrize("expression", ["stars == 3", "stars==3", "a=1 and stars ==3"])
def test_two_equals_signs_are_an_error_that_names_one(expression: str) -> None:
    with pytest.raises(FilterError, match="expected one = only, as in FIELD = VALUE"):
        parse_where(expression)


@pytest.mark.parametrize("where", [np.array([True, False]), pd.Series([True]), pd.Series([1, 2])])
def test_verdicts_instead_of_expressions_are_an_error(where: Any) -> None:
    with pytest.raises(OptionError, match=r"^where takes expressions such as 'stars >= 3'"):
        parse_where(where)
    assert parse_where(pd.Series(["a=1"])) == (_A,)
