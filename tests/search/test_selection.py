"""Conditions as SQL: the same documents as a Python loop selects."""

from __future__ import annotations

import contextlib
import math
import operator
from collections.abc import Callable, Collection
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from layerdex import Index
from layerdex.choices import Operator
from layerdex.errors import FilterError
from layerdex.predicates import Condition
from layerdex.records import Scalar
from layerdex.storage.store import Store
from tests.encoders import WordEncoder
from tests.search.stores import add, create, random_codes
from tests.storage.stored import query

T = TypeVar("T")
_N = 240
_LABELS = ["ham", "spam", "7", "07", "-1e3", "", "Ham", "x' OR '1'='1", "ключ", None, None]
_FIELDS = [
    "year",
    "mixed",
    "label",
    "id",
    "text",
    "row",
    "metadata.deep",
    "metadata.year",
    "x'; DROP TABLE document; --",
    'quo"te',
    "per%cent_",
    "🙂",
]
_VALUES: list[Scalar] = [
    *(2019, 2020, 2021, 0, -5, 7, 2020.0, 7.5, -0.0, 1e16, 1e-7, 0.1, True, False),
    *("2020", "2020.0", " 2020", "020", "7", "7.50", "true", "false", "", "abc", "ABC", "ab"),
    *("nan", "inf", "1e3", "1000", "%", "_", "a%", "x' OR '1'='1", "'", '"', "зима", "🙂", "null"),
]
PLAIN = [each for each in Operator if each not in ("like", "ilike", "is null")]
"""Those that `matches` knows; the others are in test_filter_trees."""

_COMPARE: dict[Operator, Callable[[Any, Any], bool]] = {
    Operator.LESS: operator.lt,
    Operator.GREATER: operator.gt,
    Operator.LESS_EQUAL: operator.le,
    Operator.GREATER_EQUAL: operator.ge,
}


@dataclass(frozen=True)
class Row:
    """What the oracle knows of a document."""

    id: str
    label: str | None
    metadata: dict[str, Scalar]


def _make_rows() -> list[Row]:
    random = np.random.default_rng(0)

    def pick(items: list[T]) -> T:
        return items[int(random.integers(len(items)))]

    return [
        Row(
            id=f"d{i}",
            label=pick(_LABELS),
            metadata={name: pick(_VALUES) for name in _FIELDS if random.random() < 0.6},
        )
        for i in range(_N)
    ]


ROWS = _make_rows()


def _number(text: str) -> float | None:
    """A plain decimal number, read without regard to how Layerdex does it."""
    stripped = text.strip(" \t\n\r\f\v")
    if not stripped or not set(stripped) <= set("0123456789+-.eE"):
        return None
    try:
        number = float(stripped)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _written(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


def _equal(value: Scalar, wanted: str) -> bool:
    if isinstance(value, bool):
        return wanted.lower() == _written(value)
    if isinstance(value, int):  # a float would lose digits beyond 2^53
        is_number = _number(wanted) is not None
        return (is_number and Decimal(wanted.strip()) == value) or _written(value) == wanted
    if isinstance(value, float):
        return _number(wanted) == value or _written(value) == wanted
    return _written(value) == wanted


def _ordered(value: Scalar, comparison: Operator, wanted: str) -> bool:
    compare = _COMPARE[comparison]
    own = None if isinstance(value, bool) else _number(_written(value))
    bound = _number(wanted)
    if own is not None and bound is not None and isinstance(value, int) and bound % 1 == 0:
        return compare(value, int(Decimal(wanted)))
    if own is not None and bound is not None:
        return compare(own, bound)
    return compare(_written(value), wanted)


def meant(condition: Condition, known: Collection[str]) -> str:
    """The metadata field of a condition: ``metadata.`` is a prefix where no field is called so."""
    if condition.is_quoted or condition.field in known:
        return condition.field
    return condition.field.removeprefix("metadata.")


def matches(row: Row, condition: Condition, known: Collection[str]) -> bool:
    """The rules of ``where``, one document at a time; some document has each ``known`` field."""
    if condition.field in {"label", "id"}:
        own: Scalar | None = getattr(row, condition.field)
    else:
        own = row.metadata.get(meant(condition, known))
    first = condition.values[0]
    match condition.operator:
        case Operator.NOT_EQUAL:
            return own is None or not _equal(own, first)
        case Operator.EQUAL | Operator.IN:
            return own is not None and any(_equal(own, value) for value in condition.values)
        case comparison:
            return own is not None and _ordered(own, comparison, first)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = create(tmp_path_factory.mktemp("selection") / "index", width=4)
    codes = random_codes(_N, 4)
    for part in np.array_split(np.arange(_N), 2):
        add(
            made,
            codes[part],
            labels=[ROWS[i].label for i in part],
            metadata=[ROWS[i].metadata for i in part],
        )
    return made


def _select(store: Store, *where: Condition) -> list[str]:
    with store.read() as snapshot:
        return snapshot.document_table(where).ids


_NAMES = st.sampled_from(
    ["label", "id", "year", "mixed", "metadata.label", "metadata.id", "metadata.metadata.deep"]
    + [f"metadata.{name}" for name in _FIELDS]
    + _FIELDS
)
_WANTED = st.one_of(
    st.sampled_from([_written(value) for value in _VALUES]),
    st.sampled_from([label for label in _LABELS if label is not None]),
    st.sampled_from(["d1", "d10", "d239", "2020.00", "+7", "2.02e3", ".1", "d1' --", "\\", "*"]),
    st.sampled_from(["True", "FALSE"]),
    st.integers(-3000, 3000).map(str),
    st.floats(-1e4, 1e4).map(repr),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
)


@st.composite
def _conditions(draw: st.DrawFn) -> Condition:
    chosen = draw(st.sampled_from(PLAIN))
    most = 4 if chosen is Operator.IN else 1
    values = draw(st.lists(_WANTED, min_size=1, max_size=most))
    name = draw(_NAMES)
    is_quoted = name in (*_FIELDS, "label", "id") and draw(st.booleans())
    return Condition(name, chosen, tuple(values), is_quoted)


@settings(max_examples=150, deadline=None)
@given(where=st.lists(_conditions(), max_size=3))
@example(where=[])
@example(where=[Condition("label", Operator.NOT_EQUAL, ("ham",))])
@example(where=[Condition("year", Operator.EQUAL, ("-0",))])
@example(where=[Condition("mixed", Operator.IN, ("true", "7.5", "abc"))])
@example(where=[Condition("mixed", Operator.EQUAL, ("True",))])
@example(where=[Condition("mixed", Operator.NOT_EQUAL, ("FALSE",))])
def test_selected_documents_are_those_of_a_loop(store: Store, where: list[Condition]) -> None:
    expected = [row.id for row in ROWS if all(matches(row, one, _FIELDS) for one in where)]
    with store.read() as snapshot:
        assert snapshot.rows(tuple(where)).tolist() == [int(one[1:]) + 1 for one in expected]


def test_oracle_knows_documents_of_every_kind() -> None:
    kinds = {type(row.metadata["mixed"]) for row in ROWS if "mixed" in row.metadata}
    assert kinds == {int, float, bool, str}
    assert any("mixed" not in row.metadata for row in ROWS)
    assert any(row.label is None for row in ROWS)


@pytest.mark.parametrize("chosen", PLAIN)
@pytest.mark.parametrize("text", ["'", '"', "';--", "x' OR '1'='1", "?", ":p", "%s", "\\", "\0"])
def test_injected_values_and_names_are_only_text(store: Store, text: str, chosen: Operator) -> None:
    for field in ("label", "id", "year"):
        condition = Condition(field, chosen, (text,))
        expected = [row.id for row in ROWS if matches(row, condition, _FIELDS)]
        assert _select(store, condition) == expected
    with pytest.raises(FilterError, match="no document has a field"):
        _select(store, Condition(f"nobody{text}", chosen, ("1",)))
    assert query(store.path, "SELECT count(*) FROM document") == [(_N,)]


@pytest.mark.parametrize(
    ("field", "hint"),
    [("yaer", "did you mean 'year'"), ("lable", "did you mean 'label'"), ("Mixed", "'mixed'")],
)
def test_unknown_field_is_an_error_that_suggests(store: Store, field: str, hint: str) -> None:
    with pytest.raises(FilterError, match=f"no document has a field '{field}'") as caught:
        _select(store, Condition(field, Operator.EQUAL, ("1",)))
    assert hint in str(caught.value)
    assert "metadata: " in str(caught.value)


def test_unknown_field_unlike_any_other_suggests_nothing(store: Store) -> None:
    with pytest.raises(FilterError) as caught:
        _select(store, Condition("zzzzzzzz", Operator.NOT_EQUAL, ("1",)))
    assert "did you mean" not in str(caught.value)
    assert "year" in str(caught.value)


def test_index_without_metadata_says_so(tmp_path: Path) -> None:
    store = create(tmp_path / "index", width=4)
    add(store, random_codes(2, 4))
    with pytest.raises(FilterError, match="metadata: none"):
        _select(store, Condition("year", Operator.EQUAL, ("1",)))


@pytest.mark.parametrize("field", ["id", "label", "year"])
def test_long_lists_are_no_problem(store: Store, field: str) -> None:
    values = tuple(str(number) for number in range(3_000))
    condition = Condition(field, Operator.IN, (*values, "d5", "ham"))
    expected = [row.id for row in ROWS if matches(row, condition, _FIELDS)]
    assert expected
    assert _select(store, condition) == expected


def test_large_integers_are_compared_exactly(tmp_path: Path) -> None:
    # 2^53 and 2^53 + 1 are the same as floating-point numbers.
    store = create(tmp_path / "index", width=4)
    numbers = [2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1]
    add(store, random_codes(4, 4), metadata=[{"number": number} for number in numbers])
    for i, number in enumerate(numbers):
        wanted = str(number)
        assert _select(store, Condition("number", Operator.EQUAL, (wanted,))) == [f"d{i}"]
        assert _select(store, Condition("number", Operator.IN, (wanted,))) == [f"d{i}"]
        assert len(_select(store, Condition("number", Operator.NOT_EQUAL, (wanted,)))) == 3
        for comparison, compare in _COMPARE.items():
            expected = [f"d{j}" for j, each in enumerate(numbers) if compare(each, number)]
            assert _select(store, Condition("number", comparison, (wanted,))) == expected
    for past in (2**63, -(2**63) - 1):
        chosen = [f"d{i}" for i in range(4) if past > 0]
        assert _select(store, Condition("number", Operator.LESS, (str(past),))) == chosen


def test_dead_versions_are_never_selected(tmp_path: Path) -> None:
    store = create(tmp_path / "index", width=4)
    add(store, random_codes(4, 4), metadata=[{"year": i} for i in range(4)])
    with store.write() as writer:
        writer.delete(["d2"])
    assert _select(store, Condition("year", Operator.GREATER_EQUAL, ("1",))) == ["d1", "d3"]
    assert _select(store, Condition("year", Operator.NOT_EQUAL, ("1",))) == ["d0", "d3"]


@pytest.mark.parametrize("field", ["label", "year"])
def test_value_that_is_no_unicode_is_a_clear_error_or_matches_nothing(
    store: Store, field: str
) -> None:
    # What the shell hands over for bytes that are not UTF-8.
    with contextlib.suppress(FilterError):
        assert _select(store, Condition(field, Operator.EQUAL, ("\udcff",))) == []


WRITTEN: list[dict[str, Scalar]] = [
    {"metadata.source": "a", "source": "b"},
    {"metadata.source": "b", "source": "a"},
    {"source": "a"},
    {"metadata.page": "a"},
]


def _by(field: str, *, is_quoted: bool = False) -> Condition:
    return Condition(field, Operator.EQUAL, ("a",), is_quoted)


def test_the_prefix_is_part_of_a_name_where_a_field_is_called_so(tmp_path: Path) -> None:
    store = create(tmp_path / "index", width=4)
    add(store, random_codes(4, 4), metadata=WRITTEN)
    assert _select(store, _by("metadata.source")) == ["d0"]
    assert _select(store, _by("metadata.source", is_quoted=True)) == ["d0"]
    assert _select(store, _by("metadata.metadata.source")) == ["d0"]
    assert _select(store, _by("source")) == ["d1", "d2"]
    assert _select(store, _by("metadata.page")) == ["d3"]
    assert _select(store, Condition("metadata.source", Operator.NOT_EQUAL, ("a",))) == [
        *("d1", "d2", "d3")
    ]
    with pytest.raises(FilterError, match=r"a field 'pages' .*; did you mean 'metadata\.page'"):
        _select(store, _by("metadata.pages"))
    for name in ("page", "metadata.label"):
        with pytest.raises(FilterError, match="no document has a field"):
            _select(store, _by(name, is_quoted=True))


def test_a_quoted_name_never_means_another_field(tmp_path: Path) -> None:
    store = create(tmp_path / "index", width=4)
    add(store, random_codes(2, 4), metadata=[{"source": "a"}, {"source": "b"}])
    assert _select(store, _by("metadata.source")) == ["d0"]
    with pytest.raises(FilterError, match=r"no document has a field 'metadata\.source'"):
        _select(store, _by("metadata.source", is_quoted=True))


def test_a_field_of_a_version_that_is_gone_hides_no_other(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", model=WordEncoder())
    index.add([{"id": "d", "text": "first", "metadata.source": "a"}])
    index.add([{"id": "d", "text": "second", "source": "a", "metadata.source": None}])
    [hit] = index.search("second", where="metadata.source=a")[0].hits
    assert hit.metadata == {"source": "a"}
    with pytest.raises(FilterError, match=r"\(label, and metadata: source\)"):
        index.search("second", where='"metadata.source"=a')
