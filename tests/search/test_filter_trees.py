"""Trees of conditions, dates and patterns: the same documents as a Python loop selects."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerdex.errors import FilterError
from layerdex.records import Scalar
from layerdex.search.filters import Filter, parse_where
from layerdex.storage.catalog.source_fields import DATE_FORMATS, SOURCE_FIELDS, SourceFields
from layerdex.storage.store import Store
from tests.search.stores import add, create, random_codes

Document = dict[str, Scalar]
Test = Callable[[Document], bool]
LONGEST = {10: timedelta(days=1), 16: timedelta(minutes=1), 19: timedelta(seconds=1)}
DAYS = ["2026-06-29", "2026-06-30", "2026-07-01"]
TIMES = [
    *DAYS,
    "2026-06-30T00:00",
    "2026-06-30 14:05",
    "2026-06-30T23:59:59",
    "2026-07-01T00:00:00",
]
ZONED = ["2026-06-30T14:05Z", "2026-06-30T14:05+02:00", "2026-06-30T23:30:00-05:00"]
WORDS = ["rock", "Rock", "rock and roll", "STRASSE", "straße", "100%", "a_b", "", "İ", "書", "a\nb"]
NUMBERS: list[Scalar] = [1, 2, 2.0, 10, -3, 0.5]
DOCUMENTS: list[Document] = [
    {
        **({} if i % 7 == 0 else {"n": NUMBERS[i % 6]}),
        **({} if i % 5 == 0 else {"word": WORDS[i % 11]}),
        **({} if i % 3 == 0 else {"day": [*TIMES, "no date"][i % 8]}),
        **({} if i % 4 == 0 else {"zoned": ZONED[i % 3]}),
    }
    for i in range(200)
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return _store(tmp_path_factory.mktemp("trees") / "index", DOCUMENTS)


def _store(path: Path, documents: list[Document], labels: list[str | None] | None = None) -> Store:
    made = create(path, width=4)
    add(made, random_codes(len(documents), 4), metadata=documents, labels=labels)
    return made


def _select(store: Store, *where: str, **date_formats: str) -> list[int]:
    parsed = parse_where(Filter(*where, date_formats=date_formats))
    with store.read() as snapshot:
        rows = snapshot.rows(parsed).tolist()
        # Sets of rows joined in NumPy, and one statement of SQL.
        assert sorted(snapshot.rows_in_input_order(parsed).tolist()) == rows
        return [row - 1 for row in rows]


def _interval(text: str) -> tuple[datetime, datetime] | None:
    try:
        begin = datetime.fromisoformat(text)
    except ValueError:
        return None
    lasts = LONGEST[len(re.sub(r"(Z|[+-]\d\d:\d\d)$", "", text[10:])) + 10]
    return begin, begin + lasts


def _compares(value: str, symbol: str, bound: str) -> bool:
    own, other = _interval(value), _interval(bound)
    assert other is not None
    if own is None:
        return symbol == "!="
    is_within = other[0] <= own[0] and own[1] <= other[1]
    return {
        "=": is_within,
        "!=": not is_within,
        "<": own[1] <= other[0],
        ">": own[0] >= other[1],
        "<=": own[1] <= other[1],
        ">=": own[0] >= other[0],
    }[symbol]


def _like(text: str, pattern: str) -> bool:
    """Match by dynamic programming; ``pattern`` has no escapes but of % and _."""
    if not pattern:
        return not text
    if pattern[0] == "%":
        return _like(text, pattern[1:]) or (text != "" and _like(text[1:], pattern))
    rest = pattern[2:] if pattern[0] == "\\" else pattern[1:]
    wanted = pattern[1] if pattern[0] == "\\" else pattern[0]
    is_any = pattern[0] == "_"
    return text != "" and (is_any or text[0] == wanted) and _like(text[1:], rest)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


SYMBOLS = st.sampled_from(["=", "!=", "<", ">", "<=", ">="])
NUMERIC: dict[str, Callable[[float, float], bool]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
}


@st.composite
def _comparisons(draw: st.DrawFn) -> tuple[str, Test]:
    symbol = draw(SYMBOLS)
    field = draw(st.sampled_from(["n", "day", "zoned"]))
    bounds: dict[str, list[str]] = {
        "n": ["1", "2", "2.5", "-3"],
        "day": [*TIMES, "2026-06-30T14:05:00"],
        "zoned": [*ZONED, "2026-06-30T12:05:00Z"],
    }
    bound = draw(st.sampled_from(bounds[field]))
    said = draw(st.sampled_from([bound, _quoted(bound)]))

    def test(document: Document) -> bool:
        if field not in document:
            return symbol == "!="
        if field == "n":
            return NUMERIC[symbol](float(document["n"]), float(bound))
        return _compares(str(document[field]), symbol, bound)

    return f"{field}{symbol}{said}", test


@st.composite
def _patterns(draw: st.DrawFn) -> tuple[str, Test]:
    pattern = draw(
        st.one_of(
            st.sampled_from(["rock%", "%rock", "100\\%", "a\\_b", "a_b", "str%", "%SS%", "%", "_"]),
            st.lists(st.sampled_from([*"rock%_ aß", "\\%"]), max_size=6).map("".join),
        )
    )
    word = draw(st.sampled_from(["like", "ilike", "not like", "not ILIKE"]))
    ignores_case, is_negated = "ilike" in word.lower(), "not" in word

    def test(document: Document) -> bool:
        if "word" not in document:
            return is_negated
        text = str(document["word"])
        pair = (text.casefold(), pattern.casefold()) if ignores_case else (text, pattern)
        return _like(*pair) is not is_negated

    return f"word {word} {_quoted(pattern)}", test


@st.composite
def _choices(draw: st.DrawFn) -> tuple[str, Test]:
    field = draw(st.sampled_from(["word", "day", "n"]))
    if draw(st.booleans()):
        is_null = draw(st.booleans())
        return (
            f"{field} is {'' if is_null else 'not '}null",
            lambda document: (field not in document) is is_null,
        )
    wanted = draw(st.lists(st.sampled_from(WORDS + TIMES), min_size=1, max_size=3))
    is_negated = draw(st.booleans())

    def test(document: Document) -> bool:
        text = str(document.get(field))
        is_one = field in document and any(
            text == each or (_interval(each) is not None and _compares(text, "=", each))
            for each in wanted
        )
        return is_one is not is_negated

    values = ", ".join(map(_quoted, wanted))
    return f"{field} {'not ' * is_negated}in ({values})", test


@st.composite
def _between(draw: st.DrawFn) -> tuple[str, Test]:
    low, high = draw(st.sampled_from(TIMES)), draw(st.sampled_from(TIMES))
    is_negated = draw(st.booleans())

    def test(document: Document) -> bool:
        text = str(document.get("day", ""))
        is_inside = _compares(text, ">=", low) and _compares(text, "<=", high)
        return is_inside is not is_negated

    return f"day {'not ' * is_negated}between {low} and {high}", test


def _negated(part: tuple[str, Test]) -> tuple[str, Test]:
    said, test = part
    return f"NOT ({said})", lambda document: not test(document)


def _joined(parts: list[tuple[str, Test]], word: str) -> tuple[str, Test]:
    reduce = all if word == "and" else any
    return (
        f" {word} ".join(f"({said})" for said, _ in parts),
        lambda document: reduce(test(document) for _, test in parts),
    )


LEAVES = st.one_of(_comparisons(), _patterns(), _choices(), _between())
TREES: st.SearchStrategy[tuple[str, Test]] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        inner.map(_negated),
        st.builds(_joined, st.lists(inner, min_size=2, max_size=3), st.sampled_from(["and", "or"])),
    ),
    max_leaves=6,
)


def test_selected_documents_are_those_of_a_loop(
    store: Store, request: pytest.FixtureRequest
) -> None:
    @settings(max_examples=5_000 if request.config.getoption("--soak") else 120, deadline=None)
    @given(TREES)
    def check(tree: tuple[str, Test]) -> None:
        said, test = tree
        expected = [i for i, document in enumerate(DOCUMENTS) if test(document)]
        assert _select(store, said) == expected
        assert _select(store, f"not ({said})") == sorted({*range(200)} - {*expected})

    check()


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("a=1", [0]),
        ("a!=1", [1, 2]),
        ("not (a=1)", [1, 2]),
        ("a<5", [0, 1]),
        ("not a<5", [2]),
        ("a between 0 and 5", [0, 1]),
        ("a not between 0 and 1", [1, 2]),
        ("a in (1, 3)", [0]),
        ("a not in (1, 3)", [1, 2]),
        ("a like %", [0, 1]),
        ("a not like 1", [1, 2]),
        ("a is null", [2]),
        ("a is not null", [0, 1]),
        ("label=x", [0]),
        ("label!=x", [1, 2]),
        ("not (label=x or a=2)", [2]),
        ("not (label like x%)", [1, 2]),
        ("label is null", [1, 2]),
        ("id is null", []),
        ("not label<y", [1, 2]),
    ],
)
def test_missing_fields_match_what_is_negated(
    tmp_path: Path, condition: str, expected: list[int]
) -> None:
    store = _store(tmp_path / "index", [{"a": 1}, {"a": 2}, {}], ["x", None, None])
    assert _select(store, condition) == expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("d<=2026-06-30", [0, 1, 2]),
        ("d=2026-6-30", [1, 2]),
        ("d<2026-06-30", [0]),
        ("d>2026-06-30", [3]),
        ("d>=2026-06-30 23:59", [2, 3]),
        ("d<=2026-06-30T23:59", [0, 1, 2]),
        ("d<=2026-06-30T23:58", [0]),
        ("d=2026-06", [0, 1, 2]),
        ("d in (2026-07, nothing)", [3]),
        ("d=2026", []),
    ],
)
def test_a_day_covers_its_hours(tmp_path: Path, condition: str, expected: list[int]) -> None:
    values = ["2026-6-1", "2026-06-30", "2026-06-30T23:59:59.999", "2026-07-01"]
    store = _store(tmp_path / "index", [{"d": value} for value in values])
    assert _select(store, condition) == expected


def test_dates_of_the_label_are_not_those_of_a_metadata_field_of_its_name(tmp_path: Path) -> None:
    store = _store(tmp_path / "index", [{"label": "2026-07-01"}, {}], ["2026-06-01", "2026-08-01"])
    assert _select(store, "label=2026-06-01 and metadata.label=2026-07-01") == [0]


def test_zones_are_compared_as_instants_and_not_with_naive_times(tmp_path: Path) -> None:
    aware = ["2026-06-30T23:00Z", "2026-06-30T23:00+02:00"]
    store = _store(tmp_path / "index", [{"a": text, "n": text[:16]} for text in aware])
    assert _select(store, "a=2026-06-30T21:00Z") == [1]
    assert _select(store, "a=2026-07-01+02:00") == [0]
    assert _select(store, "a<=2026-06-30Z") == [0, 1]
    with pytest.raises(FilterError, match="a has values in a zone, such as '2026-06-30T23:"):
        _select(store, "a<=2026-06-30")
    with pytest.raises(FilterError, match="n has values without a zone, such as '2026-06"):
        _select(store, "n<=2026-06-30Z")


@pytest.mark.parametrize("bound", ["2026-06-30", "2026-06-30Z"])
def test_a_field_of_both_kinds_of_times_is_one_error(tmp_path: Path, bound: str) -> None:
    values = ["2026-06-30T23:00Z", "2026-06-29"]
    store = _store(tmp_path / "index", [{"d": text} for text in values])
    with pytest.raises(FilterError, match=r"'2026-06-30T23:00Z', and .* such as '2026-06-29'"):
        _select(store, f"d<={bound}")
    with store.write() as writer:
        writer.delete(["d0"])
    assert _select(store, "d<=2026-06-30") == [1]


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ("01.06.2026", "%d.%m.%Y"),
        ("6/30/26", "%m/%d/%y"),
        ("30/6/2026", "%d/%m/%Y"),
        ("30.06.26 14:05", "%d.%m.%y %H:%M"),
        ("2026/06/30", "%Y/%m/%d"),
    ],
)
def test_dates_in_another_form_are_an_error_until_it_is_declared(
    tmp_path: Path, value: str, form: str
) -> None:
    store = _store(tmp_path / "index", [{"d": value}, {"d": "unknown"}, {}])
    for condition in ("d<=2026-06-30", "d=2026-06-30", f"d>{value}"):
        with pytest.raises(FilterError) as caught:
            _select(store, condition)
        assert f"--date-format 'd={form}'" in str(caught.value)
        assert repr(value) in str(caught.value)
    assert _select(store, "d<=2026-06-30", d=form) == [0]
    assert _select(store, f"d={value}", d=form) == [0]
    assert _select(store, f"d!={value}", d=form) == [1, 2]
    assert _select(store, f"d={value}") == [0]  # the same text


def test_an_index_holds_declared_forms_and_an_explicit_one_beats_them(tmp_path: Path) -> None:
    store = _store(tmp_path / "index", [{"d": "01.06.2026"}, {"d": "06.01.2026"}])
    with store.write() as writer:
        writer.set(DATE_FORMATS, {"d": "%d.%m.%Y"})
    assert _select(store, "d<2026-02-01") == [1]
    assert _select(store, "metadata.d<2026-02-01", d="%m.%d.%Y") == [0]


@pytest.mark.parametrize("declared", ["Datum", "label"])
@pytest.mark.parametrize("asked", ["Datum", "label"])
def test_a_form_holds_for_a_field_by_each_of_its_names(
    tmp_path: Path, declared: str, asked: str
) -> None:
    labels = ["01.06.2026", "30.06.2026"]
    store = _store(tmp_path / "index", [{"label": "6/30/2026"}, {}], [*labels])
    with store.write() as writer:
        writer.set(SOURCE_FIELDS, SourceFields("text", None, "Datum", None).to_setting())
    assert _select(store, f"{asked}<2026-06-15", **{declared: "%d.%m.%Y"}) == [0]
    forms = {declared: "%d.%m.%Y", "metadata.label": "%m/%d/%Y"}
    assert _select(store, f"{asked}<2026-06-15 and metadata.label>2026-06-15", **forms) == [0]
    with store.write() as writer:
        writer.set(DATE_FORMATS, {declared: "%d.%m.%Y"})
    assert _select(store, f"{asked}<2026-06-15") == [0]


@pytest.mark.parametrize(
    "condition",
    [
        *("d<31.02.2026", "d>2026-13-45", "d>Juni", "d<=5", "d between 2026-06-01 and 31.6.2026"),
        *("d=31.02.2026", "d!=2026-3-99", "d in (2026-06-01, 30.02.2026)", "d=2026-13"),
    ],
)
def test_a_bound_that_is_no_date_is_an_error_where_a_form_is_declared(
    tmp_path: Path, condition: str
) -> None:
    store = _store(tmp_path / "index", [{"d": "01.06.2026"}, {"d": "soon"}])
    with pytest.raises(FilterError, match=r"which is no date: .* such as 30\.06\.2026$"):
        _select(store, condition, d="%d.%m.%Y|%Y/%m/%d")
    assert _select(store, "d=soon", d="%d.%m.%Y") == [1]


@pytest.mark.parametrize("bound", ["2026-13-45", "2026-3-99", "2026-06-30T25:00", "31.02.2026"])
def test_a_bound_that_looks_like_a_date_and_is_none_is_not_compared_as_text(
    tmp_path: Path, bound: str
) -> None:
    store = _store(tmp_path / "index", [{"d": "2026-06-01"}])
    for condition in (f"d<{bound}", f"d>={bound}", f"not d>{bound}"):
        with pytest.raises(FilterError, match=f"with '{bound}', which is no date: .* 2026-06-30$"):
            _select(store, condition)
    assert _select(store, f"d={bound}") == []


def test_a_year_is_one_where_a_form_is_declared(tmp_path: Path) -> None:
    days = ["31.12.2025", "01.01.2026", "31.12.2026 23:59", "01.01.2027", "2026"]
    store = _store(tmp_path / "index", [{"d": day} for day in days])

    def select(*where: str) -> list[int]:
        return _select(store, *where, d="%d.%m.%Y")

    assert select("d<2026") == [0]
    assert select("d<=2026") == [0, 1, 2, 4]
    assert select("d=2026") == [1, 2, 4]
    assert select("d between 2026 and 2027") == [1, 2, 3, 4]
    assert select("d>2026") == [3]
    assert _select(store, "d=2026") == [4]


def test_versions_that_are_gone_decide_no_error(tmp_path: Path) -> None:
    documents: list[Document] = [{"d": "2026-06-30Z"}, {"d": "01.06.2026"}, {"d": "2026-06-30"}]
    store = _store(tmp_path / "index", documents)
    with store.write() as writer:
        writer.delete(["d0"])
    # It would be left out in silence, although another value is a date.
    with pytest.raises(FilterError, match=r"has values such as '01\.06\.2026'"):
        _select(store, "d=2026-06-30")
    with store.write() as writer:
        writer.delete(["d1"])
    assert _select(store, "d=2026-06-30") == [2]


def test_a_declared_day_is_read_with_a_time_and_several_forms_are_joined(tmp_path: Path) -> None:
    days = ["30.06.2026", "30.06.2026 23:59", "01.07.2026 00:00:07", "7/2/2026", "soon"]
    store = _store(tmp_path / "index", [{"d": day} for day in days])

    def select(*where: str, form: str) -> list[int]:
        return _select(store, *where, d=form)

    both = "%d.%m.%Y|%m/%d/%Y"
    assert select("d<=2026-06-30", form=both) == [0, 1]
    assert select("d>2026-06-30", form=both) == [2, 3]
    assert select("d>=2.7.2026", form=both) == [3]
    assert select("d=2026-07-01", form=both) == [2]
    assert select("d!=2026-07-01", form=both) == [0, 1, 3, 4]
    with pytest.raises(FilterError, match=r"such as '7/2/2026'.*d=%d\.%m\.%Y\|%d/%m/%Y'"):
        select("d<=2026-06-30", form="%d.%m.%Y")
    with pytest.raises(FilterError, match=r"compared with '6/30/2026'.*\|%m/%d/%Y'"):
        select("d<=6/30/2026", form="%d.%m.%Y")


def test_the_name_in_the_source_is_an_alias(tmp_path: Path) -> None:
    store = _store(tmp_path / "index", [{"Kunde": "a"}, {}], ["ham", "spam"])
    with store.write() as writer:
        fields = SourceFields("Betreff", "Ticket Nr", "Kategorie", None)
        writer.set(SOURCE_FIELDS, fields.to_setting())
    assert _select(store, "Kategorie=ham") == [0]
    assert _select(store, '"Ticket Nr"=d1') == [1]
    with store.read() as snapshot:
        found = snapshot.find_field("Kategorie")
        assert found is not None
        assert found.is_label
    add(store, random_codes(1, 4), metadata=[{"Kategorie": "ham"}])
    assert _select(store, "Kategorie=ham") == [2]


@pytest.mark.parametrize("name", ["label", "Kategorie", "metadata.label", "id", "metadata.a"])
def test_the_values_of_a_field_are_those_that_a_condition_compares(
    tmp_path: Path, name: str
) -> None:
    documents: list[Document] = [{"label": "x", "a": 1}, {"label": "y"}, {}]
    store = _store(tmp_path / "index", documents, ["ham", None, "spam"])
    with store.write() as writer:
        writer.set(SOURCE_FIELDS, SourceFields("text", None, "Kategorie", None).to_setting())
    with store.read() as snapshot:
        field = snapshot.find_field(name)
        assert field is not None
        table = snapshot.table_by(field)
        assert snapshot.values_of(name) == {*table.labels}
        assert snapshot.find_field(field.reference) == field
    by_value = {label: row - 1 for label, row in zip(table.labels, table.rows, strict=True)}
    assert {label: _select(store, f"{name}={label}") for label in by_value} == {
        label: [row] for label, row in by_value.items()
    }
    expected = {"metadata.label": {"x", "y"}, "id": {"d0", "d1", "d2"}, "metadata.a": {"1"}}
    assert {*by_value} == expected.get(name, {"ham", "spam"})


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (["label=Age_limit"], "the filter (label=Age_limit): did you mean age_limit?"),
        (["a=1", "label=age_limits"], "the filter (label=age_limits): did you mean age_limit?"),
        (["label in (zzz, y)"], "the filter (label in (zzz, y))"),
        (
            ["a=13.06.2026"],
            "the filter (a=13.06.2026): if 13.06.2026 is a date, say so with --date-format "
            "'a=%d.%m.%Y' (date_formats in Python)",
        ),
        (["a=31.06.2026"], "the filter (a=31.06.2026)"),
        (["a=1 and label=top_up"], "all conditions of the filter (a=1, label=top_up)"),
    ],
)
def test_a_filter_without_matches_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, where: list[str], said: str
) -> None:
    store = _store(tmp_path / "index", [{"a": 1}, {"a": 2}], ["age_limit", "top_up"])
    with caplog.at_level(logging.WARNING):
        assert _select(store, *where) == []
    assert caplog.messages == [f"no document matches {said}"]
    with store.read() as snapshot, pytest.raises(FilterError) as caught:
        snapshot.document_table(parse_where(where), labelled=True)
    assert str(caught.value) == f"no document matches {said}"


def test_a_date_that_does_not_exist_among_the_values_matches_nothing(tmp_path: Path) -> None:
    store = _store(tmp_path / "index", [{"d": "31.06.2026"}, {"d": "30.06.2026"}])
    assert _select(store, "d>=2026-01-01", d="%d.%m.%Y") == [1]
    store = _store(tmp_path / "other", [{"d": "00.00.0000"}, {"d": "2026-06-30"}])
    assert _select(store, "d>=2026-01-01") == [1]


def test_seasons_are_texts_and_a_year_that_orders_days_is_an_error(tmp_path: Path) -> None:
    rows: list[Document] = [{"d": "2019-20", "n": "2019"}, {"d": "2021-22", "n": "2022"}]
    store = _store(tmp_path / "index", rows)
    assert _select(store, "d>=2020-21") == [1]
    assert _select(store, "n>2020") == [1]
    add(store, random_codes(1, 4), metadata=[{"n": "2026-06-30"}])
    with pytest.raises(FilterError, match=r"n has dates such as '2026-06-30'.*2020-01-01"):
        _select(store, "n>2020")
