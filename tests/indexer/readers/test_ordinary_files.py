"""Ordinary files that a heuristic could take for something else: read as they always were."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pandas as pd
import pytest

from layerdex.choices import Format
from layerdex.errors import SourceError
from layerdex.indexer.readers import Fields, Reading, read_frame, read_source
from layerdex.indexer.readers.sources import read_queries
from layerdex.records import Rejected
from tests.indexer.readers.sources import documents

QUOTED = ['He said "wow" to me', "plain", '"whole"', 'a 5" nail']


def read(path: Path, data: str | bytes, fields: Fields | None = None) -> list[Reading]:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return list(read_source(path, fields=fields))


def texts(readings: list[Reading]) -> list[str]:
    return [one.text for one in documents(readings)]


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_quotes_that_pandas_doubles_in_a_tsv_enclose_cells(
    tmp_path: Path, quoting: int, caplog: pytest.LogCaptureFixture
) -> None:
    frame = pd.DataFrame({"text": QUOTED, "label": list("abab")})
    data = frame.to_csv(sep="\t", index=False, quoting=quoting)

    assert texts(read(tmp_path / "a.tsv", data)) == QUOTED
    stdin = io.BytesIO(data.encode())
    assert texts(list(read_source("-", format=Format.TSV, stdin=stdin))) == QUOTED
    assert [message.count("as quotes within them are doubled") for message in caplog.messages] == [
        1,
        1,
    ]


@pytest.mark.parametrize("other", ['the 12" one', '"quite', 'a "b"', '"a" b'])
def test_one_quote_that_is_not_of_a_cell_makes_all_of_them_text(tmp_path: Path, other: str) -> None:
    rows = ['"He said ""wow"" to me"', other]
    data = "text\tlabel\n" + "".join(f"{row}\tx\n" for row in rows)

    assert texts(read(tmp_path / "a.tsv", data)) == rows


@pytest.mark.parametrize(
    "line", ["Dear sir, Review", "label, please", "hello, a message", "no text; only words"]
)
def test_prose_on_standard_input_is_no_header(line: str) -> None:
    data = f"{line}\nsecond line\n".encode()

    assert texts(list(read_source("-", stdin=io.BytesIO(data)))) == [line, "second line"]


@pytest.mark.parametrize(
    "data",
    [
        "id,body\n1,a\n",
        "label;review\n1;a\n",
        "id, the body, message\n1,a,b\n",
        "id,my words\n1,a\n2,b\n",
        "id\tfull words\n1\ta\n2\tb\n",
        '"id","comment_body"\n"1","a"\n',
    ],
)
def test_names_on_standard_input_are_a_header(data: str) -> None:
    with pytest.raises(SourceError, match="looks like a table's header"):
        list(read_source("-", stdin=io.BytesIO(data.encode())))


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.csv", "id,text\n1, indented\n2, too\n", [" indented", " too"]),
        ("a.csv", "id,text,label\n1, one row,a\n", [" one row"]),
        ("a.csv", "id,text, label\n1, x,a\n2, y,b\n", [" x", " y"]),
        ("a.tsv", "text\tlabel\n tok0\t a\n tok1\t b\n", [" tok0", " tok1"]),
        ("a.csv", "id,text,to\n1, @bob hi,\n2, @amy yo,\n", [" @bob hi", " @amy yo"]),
        ("a.csv", 'text,label\nhi," ""x"""\nho," y"\n', ["hi", "ho"]),
        ("a.csv", '"id","text","label"\n"1"," a"," b"\n"2"," c"," d"\n', [" a", " c"]),
        ("a.csv", 'id,text\n1, "Warm, dry"\n2, "Torn"\n', ["Warm, dry", "Torn"]),
        ("a.csv", "id,text,label\n1, x, a\n2, y, b\n", ["x", "y"]),
    ],
)
def test_blanks_are_stripped_only_where_the_whole_table_has_them(
    tmp_path: Path, name: str, data: str, expected: list[str]
) -> None:
    assert texts(read(tmp_path / name, data)) == expected


@pytest.mark.parametrize("first", ['{"text": {', '{"text":"x","tags":["x",', '{"n": {"a": 1},'])
def test_a_broken_first_line_of_jsonl_is_one_bad_row(tmp_path: Path, first: str) -> None:
    readings = read(tmp_path / "a.jsonl", f'{first}\n{{"text": "b"}}\n{{"text": "c"}}\n')

    assert isinstance(readings[0], Rejected)
    assert texts(readings[1:]) == ["b", "c"]


def test_a_bad_row_alone_is_a_row(tmp_path: Path) -> None:
    (reading,) = read(tmp_path / "a.jsonl", '{"text": 5}\n')

    assert isinstance(reading, Rejected)


def test_two_broken_bytes_in_a_long_english_file_reject_their_rows(tmp_path: Path) -> None:
    rows = [b"%d,row %d" % (i, i) for i in range(200)]
    rows[20] += b" caf\xe9"
    rows[120] += b" na\xefve"

    readings = read(tmp_path / "a.csv", b"id,text\n" + b"\n".join(rows) + b"\n")

    assert [i for i, one in enumerate(readings) if isinstance(one, Rejected)] == [20, 120]


def test_a_field_of_rows_that_comes_again_is_broken_json(tmp_path: Path) -> None:
    data = '{"data": [{"text": "a"}], "data": [{"text": "b"}]}'

    with pytest.raises(SourceError, match="'data' appears twice"):
        read(tmp_path / "a.json", data)


def test_the_id_of_a_mongodb_export_is_no_id_of_a_query(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"_id": {"$oid": "65f"}, "text": "who"}) + "\n")

    assert read_queries(path, text_field="text") == [(None, "who")]


def test_indexes_of_frames_that_no_document_can_have_are_left_alone() -> None:
    frame = pd.DataFrame({"text": ["a", "b"]})
    for index in (
        pd.Index([7, 8], name=0),
        pd.period_range("2024-01", periods=2, freq="M", name="month"),
        pd.interval_range(0, 2, name="between"),
        pd.to_timedelta([1, 2], unit="s").rename("after"),
        pd.MultiIndex.from_arrays([[1, 2], [3, 4]], names=["k", "k"]),
    ):
        found = documents(list(read_frame(frame.set_axis(index))))
        assert [(one.text, one.metadata) for one in found] == [("a", {}), ("b", {})]


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "_SUCCESS", "dataset_infos.json"])
def test_a_folder_of_parts_may_have_files_beside_them(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    for part in range(2):
        (tmp_path / f"part-{part}.csv").write_text("text\na\n")

    with pytest.raises(SourceError, match="holds only csv files"):
        list(read_source(tmp_path))
