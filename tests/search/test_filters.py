"""Reading ``where`` expressions."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerdex.choices import Operator
from layerdex.errors import FilterError
from layerdex.records import Condition
from layerdex.search.filters import parse_where

_SYMBOLS = [operator for operator in Operator if operator is not Operator.IN]


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
    with pytest.raises(FilterError) as caught:
        parse_where(expression)
    assert repr(expression) in str(caught.value)


@pytest.mark.parametrize("expression", ["label in a\nb,c", 'label in "a\nb",c'])
def test_line_break_in_a_list_is_a_value_or_a_clear_error(expression: str) -> None:
    try:
        (condition,) = parse_where(expression)
    except FilterError:
        return
    assert condition.values == ("a\nb", "c")


def test_very_long_value_in_a_list_is_a_value_or_a_clear_error() -> None:
    try:
        (condition,) = parse_where(f"label in {'x' * 200_000},b")
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


_NAMES = st.text(
    st.characters(exclude_characters="=<>!", exclude_categories=["Z", "C"]), min_size=1
).filter(lambda name: name[0] != '"')
_VALUES = st.text(
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


@given(st.text(min_size=1), st.sampled_from(Operator), st.text())
def test_any_name_and_value_are_read_back_from_quotes(
    name: str, operator: Operator, value: str
) -> None:
    field, text = ('"' + part.replace('"', '""') + '"' for part in (name, value))
    assert parse_where(f"{field} {operator} {text}") == (
        Condition(name, operator, (value,), is_quoted=True),
    )


@given(st.text("ab=<>!\"', inIN\\", max_size=12))
def test_any_text_is_read_or_refused(expression: str) -> None:
    with contextlib.suppress(FilterError):
        (condition,) = parse_where(expression)
        assert condition.field != ""
        assert len(condition.values) >= 1
        assert (condition.operator is Operator.IN) or len(condition.values) == 1
