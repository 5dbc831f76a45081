"""JSON in the shapes that jq, pandas and people write."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import pandas as pd
import pytest

from layerdex.choices import Format
from layerdex.errors import SourceError
from layerdex.indexer.readers import Fields, Reading, read_source
from layerdex.indexer.readers.json_head import MAX_HEAD_BYTES
from layerdex.indexer.readers.streams import CHUNK_BYTES
from layerdex.records import SourceDocument
from tests.indexer.readers.sources import documents, reasons
from tests.indexer.readers.test_streaming import MIB, peak_bytes

ROWS: list[dict[str, object]] = [
    {"id": "1", "text": "The tap drips", "label": "neg", "stars": 1},
    {"id": "2", "text": "Warm\nand dry", "label": None, "stars": 5},
    {"id": "3", "text": 'A "fair" price, {really}', "label": "pos", "stars": 4},
]
FRAME = pd.DataFrame(ROWS)
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
PRETTY = "\n".join(json.dumps(row, indent=2) for row in ROWS) + "\n"

# The text, and a part of what is said where the suffix promises something else.
SHAPES: dict[str, tuple[str, str]] = {
    "lines": (LINES, "one object per line, read as jsonl"),
    "array": (json.dumps(ROWS), "holds one array, read as json"),
    "pretty array": (json.dumps(ROWS, indent=2), "holds one array, read as json"),
    "jq's objects": (PRETTY, "objects that are not one per line"),
    "objects on one line": ("".join(map(json.dumps, ROWS)), "objects that are not one per line"),
    "wrapped": (json.dumps({"version": "1.1", "n": [3], "data": ROWS}), "read from 'data'"),
    "wrapped, pretty": (
        json.dumps({"rows": ROWS, "about": {"a": [1]}}, indent=1),
        "read from 'rows'",
    ),
    "pandas columns": (FRAME.to_json(), "holds columns"),
    "pandas split": (FRAME.to_json(orient="split"), "orient='split'"),
    "pandas records": (FRAME.to_json(orient="records"), "holds one array"),
    "pandas lines": (FRAME.to_json(orient="records", lines=True), "one object per line"),
    "lists": (json.dumps(FRAME.to_dict("list")).replace("NaN", "null"), "holds columns"),
}
EXPECTED = {"json": ("array", "pretty array", "pandas records"), "jsonl": ("lines", "pandas lines")}


def read(path: Path, text: str | bytes, fields: Fields | None = None) -> list[Reading]:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return list(read_source(path, fields=fields))


def as_rows(readings: list[Reading]) -> list[dict[str, object]]:
    return [
        {"id": one.id, "text": one.text, "label": one.label, **one.metadata}
        for one in documents(readings)
    ]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("suffix", ["json", "jsonl"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_read_under_either_suffix(
    shape: str, suffix: str, mark: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text, decision = SHAPES[shape]
    path = tmp_path / f"a.{suffix}"
    assert as_rows(read(path, mark + text)) == ROWS
    if shape in EXPECTED[suffix]:
        assert caplog.messages == []
    else:
        [message] = caplog.messages
        assert message.startswith(f"{path}: ")
        assert decision in message
        assert caplog.records[0].levelno == logging.WARNING


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_read_from_standard_input(shape: str) -> None:
    stdin = io.BytesIO(SHAPES[shape][0].encode())
    assert as_rows(list(read_source("-", stdin=stdin))) == ROWS


def test_a_table_of_pandas_has_its_index_as_a_field(tmp_path: Path) -> None:
    readings = read(tmp_path / "a.json", FRAME.to_json(orient="table"))
    assert as_rows(readings) == [{**row, "index": i} for i, row in enumerate(ROWS)]


def test_an_empty_array_has_no_rows(tmp_path: Path) -> None:
    assert read(tmp_path / "a.jsonl", "[]\n") == []


def test_one_object_over_several_lines_is_one_document(tmp_path: Path) -> None:
    for text in (json.dumps(ROWS[0]), json.dumps(ROWS[0], indent=4)):
        assert as_rows(read(tmp_path / "a.json", text)) == ROWS[:1]


def test_lines_of_objects_over_several_lines_are_where_each_starts(tmp_path: Path) -> None:
    text = '{\n "text": "a"\n}\n\n{\n "text": " "\n}\n{"text":\n"c"}'
    readings = read(tmp_path / "a.jsonl", text)
    assert [one.origin.line for one in readings] == [1, 5, 8]
    assert reasons(readings) == [None, "text is blank", None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[["text", "n"], ["a", 1]]', ":1: an array of arrays names no fields: write one object"),
        (
            '{"0": {"text": "a"}, "1": {"text": "b"}}',
            ":1: the rows are the values of one object: write one object per row (pandas: "
            "orient='records', lines=True), or use jq -c 'to_entries[]|{id:.key}+.value', which "
            "makes the keys ids",
        ),
        (
            '{"train": [{"text": "a"}], "test": [{"text": "b"}]}',
            ":1: rows may be in 'train', 'test': take one, as with jq -c '.[\"train\"][]'",
        ),
        (
            '{"data": {"items": [{"text": "a"}]}}',
            ":1: the rows are in 'data.items': take them with jq -c '.[\"data\"][\"items\"][]'",
        ),
        ('{\n "text": "a"\n},\n{"text": "b"}', ":3: broken JSON: ',' between objects: put them"),
        ('{"x": {"body": "a"}, "y": {"body": "b"}}', ":1: the rows are the values of one object"),
        (
            '{"text": {"en": "a"}, "n": 1}\n{"text": {"en": "b"}, "n": 1}',
            "text is not a string (object); name the field inside it, such as --text-field text.en",
        ),
        ('{\n "text": "a"\n}\n{\n "text" "b"\n}', ":5: broken JSON: Expecting ':' delimiter"),
        ('{"data": [\n{"text": "a"},\n{"text": oops}]}', ":3: broken JSON: Expecting value"),
        ('{"data": [{"text": "a"}]\n"n": 1}', ":2: broken JSON: ',' expected after a field"),
        ('{"data": [{"text": "a"}],\n"n": 1', ":2: broken JSON: ',' expected after a field"),
        ('{"text": {"0": "a"}, "n": {"0": 1}', "Expecting ',' delimiter"),
        (
            '{"columns": ["text", "n"], "data": [["a", 1], ["b"]]}',
            "a row in 'data' has not the 2 cells of 'columns'",
        ),
    ],
)
def test_what_cannot_be_read_is_named(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(SourceError) as caught:
        read(path, text)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        '{"body": {"0": "a"}, "n": {"0": 1}}',
        '{"body": ["a"], "n": [1]}',
        '{"data": [{"body": "a", "n": 1}]}',
    ],
)
def test_a_text_of_another_name_is_suggested(text: str, tmp_path: Path) -> None:
    found = reasons(read(tmp_path / "a.json", text))
    assert found == ["no text field 'text'; there is 'body', 'n'; try --text-field body"]
    fields = Fields(text="body")
    assert documents(read(tmp_path / "a.json", text, fields))[0].metadata == {"n": 1}


def test_the_list_whose_objects_have_the_text_holds_the_rows(tmp_path: Path) -> None:
    text = json.dumps({"features": [{"name": "text"}], "rows": ROWS})
    assert as_rows(read(tmp_path / "a.json", text)) == ROWS
    named = json.dumps({"rows": [{"body": "a"}]})
    [document] = documents(read(tmp_path / "a.json", named, Fields(text="body")))
    assert document.text == "a"


@pytest.mark.parametrize(
    "row",
    [
        {"tokens": [{"text": "a", "start": 0}], "text": "a b", "options": [{"text": "x"}]},
        {"text": "a b", "tokens": [{"text": "a"}], "options": [{"text": "x"}]},
    ],
)
@pytest.mark.parametrize("n", [1, 2])
def test_a_document_with_lists_of_objects_is_no_wrapper(
    row: dict[str, object], n: int, tmp_path: Path
) -> None:
    text = "".join(json.dumps(row) + "\n" for _ in range(n))
    for suffix in ("json", "jsonl"):
        found = documents(read(tmp_path / f"a.{suffix}", text, Fields(metadata=())))
        assert [one.text for one in found] == ["a b"] * n


def test_lines_without_the_text_are_judged_one_by_one(tmp_path: Path) -> None:
    text = '{"spans": [{"text": "x"}]}\n{"text": "b"}\n'
    found = reasons(read(tmp_path / "a.jsonl", text))
    assert found == ["no text field 'text'; there is 'spans'", None]


def test_a_broken_first_line_spoils_no_other(tmp_path: Path) -> None:
    for broken in ('{"text": "a"', '{"text": "a",', '{"n": tru}', "{"):
        readings = read(tmp_path / "a.jsonl", f'{broken}\n{{"text": "b"}}\n')
        first, second = reasons(readings)
        assert first is not None
        assert first.startswith("broken JSON: ")
        assert second is None


def test_wrapped_rows_are_read_one_by_one(tmp_path: Path) -> None:
    path, n_rows, row = tmp_path / "a.json", 40_000, json.dumps({"text": "x" * 1000})
    path.write_text('{"version": 1, "data": [' + ",".join([row] * n_rows) + "]}")

    def count() -> None:
        assert sum(1 for _ in read_source(path)) == n_rows

    # the 40 MB of text never lie in memory together
    assert peak_bytes(count) < 20 * MIB


def test_a_second_list_behind_a_long_one_is_an_error(tmp_path: Path) -> None:
    rows = [{"text": "x" * 1000}] * (MAX_HEAD_BYTES // 1000 + 1)
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"train": rows, "test": rows[:1]}))
    readings = read_source(path)
    assert isinstance(next(readings), SourceDocument)
    with pytest.raises(SourceError, match="rows may be in 'train', 'test'"):
        list(readings)


def test_a_long_table_by_columns_is_read(tmp_path: Path) -> None:
    texts = {str(i): "x" * 1000 for i in range(2 * MAX_HEAD_BYTES // 1000)}
    readings = read(tmp_path / "a.json", json.dumps({"text": texts, "n": dict.fromkeys(texts, 1)}))
    assert len(documents(readings)) == len(texts)


def test_a_table_by_columns_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layerdex.indexer.readers.json_rows.MAX_TABLE_CHARACTERS", MIB)
    texts = {str(i): "x" * 1000 for i in range(2 * MIB // 1000)}
    with pytest.raises(SourceError, match="a table by columns of more than 1 MB: write one object"):
        read(tmp_path / "a.json", json.dumps({"text": texts}))


def test_no_more_than_a_chunk_is_read_before_the_first_document() -> None:
    lines = (json.dumps({"text": "x" * 200}) + "\n").encode() * 1000
    stdin = io.BytesIO(lines)
    next(iter(read_source("-", format=Format.JSONL, stdin=stdin)))
    assert 0 < stdin.tell() <= 2 * CHUNK_BYTES < len(lines)
