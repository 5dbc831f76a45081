from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from layerdex.errors import SourceError
from layerdex.indexer.readers import Fields, read_mappings, read_source
from layerdex.records import Rejected
from tests.indexer.readers.sources import JSONLIKE, READ_AS, TYPED, Row, documents, read_as

TABLES = ("csv", "tsv", "parquet", "frame")
STREAMED = ("jsonl", "json", "mappings")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"body": "a", "stars": 5}, "there is 'body', 'stars'; try --text-field body"),
        ({"id": "1", "Review": "a"}, "there is 'id', 'Review'; try --text-field Review"),
        ({"txet": "a"}, "there is 'txet'; try --text-field txet"),
        ({"review body text": "a"}, "there is 'review body text'"),
        ({"x": "a"}, "there is 'x'"),
        (
            {"texts of all": 1, "texts": 1},
            "there is 'texts of all', 'texts'; try --text-field texts",
        ),
        (
            {f"c{i}": 1 for i in range(15)},
            f"there is {', '.join(repr(f'c{i}') for i in range(12))} and 3 more",
        ),
        ({}, "there is none"),
    ],
)
def test_missing_text_names_what_is_there(row: dict[str, object], message: str) -> None:
    (reading,) = read_mappings([row])
    assert isinstance(reading, Rejected)
    assert reading.reason == f"no text field 'text'; {message}"


def test_suggested_name_is_quoted_for_the_shell() -> None:
    (reading,) = read_mappings([{"the text": "a"}])
    assert isinstance(reading, Rejected)
    assert reading.reason.endswith("try --text-field 'the text'")


@pytest.mark.parametrize("kind", TABLES)
def test_table_without_the_text_column_cannot_be_read(kind: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        read_as(kind, [{"id": "1", "body": "a"}], tmp_path, Fields())
    source = "<memory>" if kind == "frame" else str(tmp_path / f"source.{kind}")
    assert str(caught.value) == (
        f"{source}: no text field 'text'; there is 'id', 'body'; try --text-field body"
    )


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (Fields(id="skus"), "no id field 'skus'; there is 'text', 'sku'; try --id-field sku"),
        (Fields(label="topic"), "no label field 'topic'; there is 'text', 'sku'"),
        (Fields(metadata=("sku", "x")), "no metadata field 'x'; there is 'text', 'sku'"),
    ],
)
def test_table_without_a_named_column_cannot_be_read(
    kind: str, fields: Fields, message: str, tmp_path: Path
) -> None:
    with pytest.raises(SourceError) as caught:
        read_as(kind, [{"text": "a", "sku": "1"}], tmp_path, fields)
    assert str(caught.value).endswith(f": {message}")


@pytest.mark.parametrize("kind", STREAMED)
def test_row_without_the_named_id_is_rejected(kind: str, tmp_path: Path) -> None:
    readings = read_as(
        kind, [{"text": "a"}, {"text": "b", "sku": None}], tmp_path, Fields(id="sku")
    )
    assert isinstance(readings[0], Rejected)
    assert readings[0].reason == "no id field 'sku'; there is 'text'"
    assert documents(readings[1:])[0].id is None


@pytest.mark.parametrize("kind", STREAMED)
def test_row_without_the_named_label_or_metadata_leaves_them_unset(
    kind: str, tmp_path: Path
) -> None:
    fields = Fields(label="topic", metadata=("m",))
    rows: list[Row] = [{"text": "a"}, {"text": "b", "topic": "t", "metadata": {"m": 1}}]
    plain, _ = documents(read_as(kind, rows, tmp_path, Fields()))
    named, _ = documents(read_as(kind, rows, tmp_path, fields))
    assert named == plain


@pytest.mark.parametrize("kind", STREAMED)
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            Fields(text="txt"),
            "no text field 'txt'; there is 'text', 'key', 'topic', 'metadata'; try",
        ),
        (Fields(id="kye"), "no id field 'kye'; there is 'text', 'key', 'topic', 'metadata'; try"),
        (Fields(label="topc"), "'key', 'topic', 'metadata'; try --label-field topic"),
        (Fields(label="m"), "no label field 'm'; there is 'text', 'key', 'topic', 'metadata'"),
        (Fields(metadata=("m", "lng")), "'metadata', 'm', 'lang'; try --metadata-field lang"),
    ],
)
def test_field_that_no_row_has_is_an_error(
    kind: str, fields: Fields, message: str, tmp_path: Path
) -> None:
    rows: list[Row] = [
        {"text": "a", "key": 1},
        {"text": "b", "topic": "t", "metadata": {"m": 1, "lang": "en"}},
    ]
    with pytest.raises(SourceError) as caught:
        read_as(kind, rows, tmp_path, fields)
    assert str(caught.value).startswith(
        "<memory>: no" if kind == "mappings" else f"{tmp_path / f'source.{kind}'}: no"
    )
    assert message in str(caught.value)


@pytest.mark.parametrize("rows", [[], [{"text": "a", "topic": None}], ["no object"]])
def test_field_is_not_missed_where_no_row_could_have_it_or_one_has(rows: list[Row]) -> None:
    assert len(list(read_mappings(rows, fields=Fields(label="topic")))) == len(rows)


def test_text_under_its_usual_name_is_judged_row_by_row() -> None:
    readings = read_mappings([{"body": "a"}] * 1_001)
    assert all(isinstance(one, Rejected) for one in readings)


@pytest.mark.parametrize(("n_without", "is_read"), [(999, True), (1000, False)])
def test_field_is_looked_for_in_the_first_1000_rows(n_without: int, is_read: bool) -> None:
    rows = iter([*[{"text": "a"}] * n_without, {"text": "b", "topic": "t"}, {"text": "c"}])
    readings = read_mappings(rows, fields=Fields(label="topic"))
    if is_read:
        assert len(documents(list(readings))) == n_without + 2
        return
    with pytest.raises(SourceError) as caught:
        list(readings)
    assert str(caught.value) == (
        "<memory>: no label field 'topic' in the first 1,000 rows; there is 'text'"
    )
    assert len(list(rows)) == 2


@pytest.mark.parametrize("kind", READ_AS)
def test_origin_counts_rows_or_lines_from_one(kind: str, tmp_path: Path) -> None:
    readings = read_as(kind, [{"text": "a"}, {"text": "\0"}, {"text": "c"}], tmp_path, Fields())
    lines = [reading.origin.line for reading in readings]
    # a table's header is its line 1; the JSON array is written on one line
    assert lines == {"csv": [2, 3, 4], "tsv": [2, 3, 4], "json": [1, 1, 1]}.get(kind, [1, 2, 3])


@pytest.mark.parametrize("kind", TYPED)
def test_ragged_rows_are_judged_one_by_one(kind: str, tmp_path: Path) -> None:
    rows: list[Row] = [{"text": "a", "label": "x"}, {"text": None}, {"text": "c", "label": None}]
    readings = read_as(kind, rows, tmp_path, Fields())
    assert [isinstance(reading, Rejected) for reading in readings] == [False, True, False]


def test_text_field_given_for_txt_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a\n")
    with pytest.raises(SourceError, match=r"a\.txt: no label field 'topic'; there is 'text'"):
        list(read_source(path, fields=Fields(label="topic")))


@pytest.mark.parametrize("kind", TYPED)
def test_a_path_leads_into_an_object_unless_a_field_has_its_name(kind: str, tmp_path: Path) -> None:
    data = {"text": "a", "by": {"name": "x", "age": 3}, "n": 1}
    fields = Fields(text="data.text", label="data.by.name")
    rows: list[Row] = [{"sku": 1, "data": data}, {"sku": 2, "data": data}]
    for document in documents(read_as(kind, rows, tmp_path, fields)):
        assert (document.text, document.label) == ("a", "x")
        assert document.metadata == {"sku": document.metadata["sku"], "data.by.age": 3, "data.n": 1}
    literal: list[Row] = [{"data.text": "b", "data": {"text": "a"}}]
    (document,) = documents(read_as(kind, literal, tmp_path, Fields("data.text", metadata=())))
    assert document.text == "b"


@pytest.mark.parametrize("kind", TYPED)
def test_a_path_leads_into_a_list(kind: str, tmp_path: Path) -> None:
    rows: list[Row] = [{"text": "a", "tags": ["x", "y"]}, {"text": "b", "tags": ["z"]}]
    fields = Fields(label="tags.0", metadata=())
    found = documents(read_as(kind, rows, tmp_path, fields))
    assert [one.label for one in found] == ["x", "z"]
    beyond = documents(read_as(kind, rows, tmp_path, Fields(metadata=("tags.1",))))
    assert [one.metadata for one in beyond] == [{"tags.1": "y"}, {"tags.1": None}]


@pytest.mark.parametrize("kind", JSONLIKE)
def test_a_missing_text_within_an_object_is_suggested_by_its_path(
    kind: str, tmp_path: Path
) -> None:
    rows: list[Row] = [{"n": 1, "doc": {"body": "a"}}, {"text": "b"}]
    first, _ = read_as(kind, rows, tmp_path, Fields())
    assert isinstance(first, Rejected)
    assert first.reason == (
        "no text field 'text'; there is 'n', 'doc.body'; try --text-field doc.body"
    )


@pytest.mark.parametrize("kind", READ_AS)
def test_a_path_that_leads_nowhere_is_an_error(kind: str, tmp_path: Path) -> None:
    row = {"text": "a", "n": "x"}
    with pytest.raises(SourceError, match=r"no label field 'n\.label'; there is 'text', 'n'"):
        read_as(kind, [row], tmp_path, Fields(label="n.label"))


def test_documents_wait_for_a_named_field_but_not_longer_than_for_a_bad_row() -> None:
    taken: list[int] = []

    def rows() -> Iterator[Row]:
        for n in range(10):
            taken.append(n)
            yield {"text": "a", "topic": "t"} if n == 4 else {"text": "" if n == 2 else "a"}

    readings = read_mappings(rows(), fields=Fields(label="topic"))
    assert [len(taken) for _ in readings] == [3, 3, 3, 5, 5, 6, 7, 8, 9, 10]
