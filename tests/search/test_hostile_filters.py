"""Ids, labels, field names and filters of any characters: text, and never SQL.

Expressions of one condition, with hostile names and values; test_filter_trees has those of several.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerdex import Index
from layerdex.choices import Operator
from layerdex.errors import DocumentNotFoundError, FilterError
from layerdex.predicates import Condition
from layerdex.records import Scalar
from layerdex.search.filters import MAX_CONDITIONS, MAX_VALUES, parse_where
from tests.encoders import WordEncoder
from tests.search.test_selection import PLAIN, Row, matches, meant
from tests.storage.stored import query

N_DOCUMENTS = 100
LONG = "long " * 2_000

HOSTILE = [
    *("'", '"', "''", '""', "`", "\\", "\\'", ";", "--", "/*", "*/", "?", ":p", "?1", "@x", "$x"),
    *("x' OR '1'='1", "'; DROP TABLE document; --", '"; DELETE FROM segment; --', "1; ATTACH 'x'"),
    *("') OR 1=1 --", "%", "_", "a%", "[a]", "*", "NULL", "null", "None", "true", "FALSE", "in"),
    *("label", "id", "row", "text", "metadata", "metadata.", "metadata.id", "metadata.metadata.x"),
    *("a=b", "a<b", "a>b", "a!=b", " a", "a ", "a in b", "=", "<", "!", ",", "a,b", '"a","b"'),
    *("\t", "a\nb", "\r\n", "\x01", "\x7f", "\x1b[31m", "\u200b", "\u202e", "\ufeff", "\ufffd"),
    *("é", "e\u0301", "İ", "ß", "ﬁ", "Ⅷ", "٣", "１", "ключ", "書", "🙂", "👩‍👩‍👧", "\U0010ffff"),
    *("0", "-0", "00", "1", "1.0", "01", "+1", "1e0", " 1", "1_0", "0x1", "nan", "inf", "1e400"),
    *("9007199254740993", "9223372036854775807", "-9223372036854775808", "18446744073709551616"),
    LONG,
    "'" * 1000,
]
IDS = [text for text in HOSTILE if not text.isspace()]
FIELDS = HOSTILE
NUMBERS: list[Scalar] = [
    0,
    1,
    -1,
    2**53,
    2**53 + 1,
    2**63 - 1,
    0.5,
    -0.0,
    1e300,
    5e-324,
    True,
    False,
]


def _rows() -> list[Row]:
    draw = np.random.default_rng(0)

    def pick(count: int) -> int:
        return int(draw.integers(count))

    values: list[Scalar] = [*HOSTILE, *NUMBERS, *NUMBERS]
    return [
        Row(
            id=IDS[i] if i < len(IDS) else f"id{i}",
            label=None if pick(4) == 0 else IDS[pick(len(IDS))],
            metadata={
                **{FIELDS[pick(len(FIELDS))]: values[pick(len(values))] for _ in range(6)},
                "n": values[pick(len(values))],
            },
        )
        for i in range(N_DOCUMENTS)
    ]


ROWS = _rows()
KNOWN = {name for row in ROWS for name in row.metadata}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    path = tmp_path_factory.mktemp("hostile") / "index"
    made = Index.create(path, model=WordEncoder(window=64))
    documents = [
        {"id": row.id, "text": f"text {i}", "label": row.label, "metadata": row.metadata}
        for i, row in enumerate(ROWS)
    ]
    assert made.add(documents).n_new == len(ROWS)
    return made


@dataclass(frozen=True)
class Filter:
    """Conditions, and the expressions that say them."""

    conditions: tuple[Condition, ...]
    expressions: tuple[str, ...]


_TEXTS = st.one_of(
    st.sampled_from(HOSTILE),
    st.sampled_from([str(number) for number in NUMBERS]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(repr),
)
_NAMES = st.one_of(
    st.sampled_from(["n", "label", "id", "metadata.n", "metadata.label"]),
    st.sampled_from(FIELDS),
    st.sampled_from(FIELDS).map("metadata.{}".format),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6),
)
_ORDERED = (Operator.LESS, Operator.GREATER, Operator.LESS_EQUAL, Operator.GREATER_EQUAL)


@st.composite
def _said(draw: st.DrawFn) -> tuple[Condition, str]:
    """A condition and one way to say it: quoted wherever it must be, and sometimes elsewhere."""
    field, operator = draw(_NAMES), draw(st.sampled_from(PLAIN))
    most = 5 if operator is Operator.IN else 1
    values = draw(st.lists(_TEXTS, min_size=1, max_size=most))
    said = [_quote(one) if not _is_plain(one) or draw(st.booleans()) else one for one in values]
    name = field if re.fullmatch(r"[a-z.]+", field) and draw(st.booleans()) else _quote(field)
    blank = draw(st.sampled_from(["", " ", "\t", "\n  "]))
    word = draw(st.sampled_from(["in", "IN", "In"])) if operator is Operator.IN else operator
    around = (blank or " ") if operator is Operator.IN else blank
    comma = draw(st.sampled_from([",", " , ", ", "]))
    expression = f"{blank}{name}{around}{word}{around}{comma.join(said)}{blank}"
    return Condition(field, operator, tuple(values), name is not field), expression


def _quote(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _is_plain(text: str) -> bool:
    if re.fullmatch(r"[a-z0-9.+-]+", text) is None or re.search("nan|inf", text):
        return False
    try:
        return math.isfinite(float(text))  # 1e400 is refused where it is not quoted
    except ValueError:
        return True


_FILTERS = st.lists(_said(), min_size=1, max_size=4).map(
    lambda said: Filter(tuple(one for one, _ in said), tuple(text for _, text in said))
)


def _is_known(condition: Condition) -> bool:
    name = condition.field
    return name in ("label", "id") or meant(condition, KNOWN) in KNOWN


def test_random_filters_select_what_a_loop_selects(
    index: Index, request: pytest.FixtureRequest
) -> None:
    n_examples = 10_000 if request.config.getoption("--soak") else 400
    selected: set[int] = set()

    # The suite tries the same ones each time; the soak looks for new ones.
    @settings(max_examples=n_examples, deadline=None, database=None, derandomize=n_examples < 1_000)
    @given(_FILTERS)
    def check(one: Filter) -> None:
        assert parse_where(one.expressions) == one.conditions
        if not all(map(_is_known, one.conditions)):
            with pytest.raises(FilterError, match="no document has a field"):
                snapshot.rows(one.conditions)
            return
        found = snapshot.rows(one.conditions).tolist()
        assert found == [
            i
            for i, row in enumerate(ROWS, 1)
            if all(matches(row, each, KNOWN) for each in one.conditions)
        ]
        selected.add(len(found))

    with index._open.store.read() as snapshot:
        check()
    assert len(selected) > 15  # filters that always select all or nothing would prove nothing
    assert query(index._open.store.path, "SELECT count(*) FROM document") == [(N_DOCUMENTS,)]


@pytest.mark.parametrize("operator", _ORDERED)
@pytest.mark.parametrize("value", ["nan", "inf", "-Infinity", "1e400"])
def test_unquoted_number_without_end_is_refused(operator: Operator, value: str) -> None:
    with pytest.raises(FilterError, match="no finite number"):
        parse_where(f"n{operator}{value}")


def test_hostile_ids_are_found_as_they_are(index: Index) -> None:
    assert [document.id for document in index.get(*IDS)] == IDS
    for i, identifier in enumerate(IDS):
        (document,) = index.get(identifier)
        assert (document.text, document.label) == (f"text {i}", ROWS[i].label)
        assert document.metadata == ROWS[i].metadata
    with pytest.raises(DocumentNotFoundError):
        index.get("' OR '1'='1")


def test_hostile_labels_are_answers_as_they_are(index: Index) -> None:
    labels = {row.label for row in ROWS} - {None}
    assert index.info().labels.keys() == labels
    found = index.classify([f"text {i}" for i in range(20)], k=1)
    assert {one.label for one in found} <= labels


def test_hostile_ids_are_deleted_one_by_one(index: Index, tmp_path: Path) -> None:
    path = tmp_path / "index"
    index.backup(path)
    copy = Index.open(path, encoder=WordEncoder())
    left = [row.id for row in ROWS]
    for identifier in IDS[::7]:
        copy.delete(identifier)
        left.remove(identifier)
        assert [document.id for document in copy.documents()] == left
    assert copy.verify() == []


@pytest.mark.parametrize("name", ["", "\0", "a\0b", "\ud800", LONG * 200])
def test_field_that_cannot_be_is_one_clear_error(index: Index, name: str) -> None:
    with index._open.store.read() as snapshot, pytest.raises(FilterError) as caught:
        snapshot.document_table((Condition(name, Operator.EQUAL, ("1",)),))
    assert str(caught.value).isprintable()  # no line ends, and nothing that a terminal obeys
    assert len(str(caught.value)) < 5_000


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    "condition", ["id!=z{}", "label!=z{}", "size<{}", "size!={}", "size in {},7"]
)
def test_as_many_conditions_as_are_allowed_can_be_asked(tmp_path: Path, condition: str) -> None:
    index = Index.create(tmp_path / "index", model=WordEncoder())
    index.add([{"id": "a", "text": "word", "label": "l", "size": 7}])
    where = [condition.format(2**60 + i) for i in range(MAX_CONDITIONS)]
    assert len(index.search("word", where=where)) == 1
    if condition.startswith("id"):
        assert len(index.at(where=where).search_like("a")) == 1
    assert [one.id for one in index.documents(where=where)] == ["a"]
    with pytest.raises(FilterError, match=r"^501 conditions are given, and at most 500 can be"):
        index.search("word", where=[*where, "id=a"])


def test_as_many_values_as_are_allowed_can_be_compared(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", model=WordEncoder())
    index.add([{"id": "a", "text": "word", "size": 7}])
    values = ",".join(map(str, range(MAX_VALUES - 1)))
    assert [one.id for one in index.documents(where=[f"size in {values}", "id=a"])] == ["a"]
    with pytest.raises(FilterError, match=r"have 50,001 values, and at most 50,000 can be"):
        index.documents(where=[f"size in {values}", "id=a", "id!=b"])
