"""Metadata values: what is written is read back, type and all."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from layerdex import Index
from layerdex.records import Scalar
from layerdex.storage.catalog.metadata import ValueType, decode_value, encode_value, parse_number
from tests.encoders import WordEncoder
from tests.storage.stored import query

SCALARS = st.one_of(
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.floats(allow_nan=False).map(repr),
    st.integers().map(str),
)


@given(SCALARS)
@example(0)
@example(-0.0)
@example(1.0)
@example(True)
@example(2**63 - 1)
@example(10**400)
@example("007")
@example("true")
@example("nan")
def test_value_survives_with_its_type(value: Scalar) -> None:
    kind, text, _ = encode_value(value)
    again = decode_value(kind.value, text)
    assert type(again) is type(value)
    assert again == value
    if isinstance(value, float) and isinstance(again, float):
        assert math.copysign(1, again) == math.copysign(1, value)


@given(SCALARS)
def test_number_is_the_values_own_where_it_has_one(value: Scalar) -> None:
    number = encode_value(value)[2]
    if isinstance(value, bool):
        assert number is None
    elif isinstance(value, float):
        assert number == value
    elif isinstance(value, int):
        assert number == (float(value) if abs(value) < 10**300 else number)
    elif number is not None:
        assert number == float(value)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("+7.", 7.0),
        ("-.5", -0.5),
        ("1e3", 1000.0),
        ("1E-3", 0.001),
        ("007", 7.0),
        ("", None),
        (".", None),
        ("1_000", None),
        ("nan", None),
        ("inf", None),
        ("1e999", None),
        ("0x10", None),
        ("٣", None),
        ("1 2", None),
        ("7\n", 7.0),
    ],
)
def test_only_plain_decimals_count_as_numbers(text: str, number: float | None) -> None:
    assert parse_number(text) == number


def test_booleans_are_not_integers() -> None:
    assert encode_value(True)[0] is ValueType.BOOLEAN
    assert encode_value(1)[0] is ValueType.INTEGER


def test_extreme_values_pass_through_an_index(tmp_path: Path) -> None:
    metadata: dict[str, Scalar] = {
        "big": 2**63 - 1,
        "small": -(2**63),
        "tiny": 5e-324,
        "huge": 1.7976931348623157e308,
        "yes": True,
        "digits": "00123",
        "number": "1e5",
        "empty": "",
        "line\nbreak": "a\r\n\tb",
        "ключ 🙂": "значение 🙂",
    }
    index = Index.create(tmp_path / "index", model=WordEncoder())
    index.add([{"id": "a", "text": "one", **metadata}])
    (found,) = index.get("a")
    assert found.metadata == metadata
    assert {type(found.metadata[name]) is type(metadata[name]) for name in metadata} == {True}
    assert query(index._open.store.path, "SELECT count(*) FROM metadatum") == [(len(metadata),)]
