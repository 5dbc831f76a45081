"""Queries and judgements as TREC, BEIR and MS MARCO write them, and lines that are neither."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerdex.errors import RowError, SourceError
from layerdex.indexer.readers.judgements import read_judged_queries, read_judgements

JUDGED = {"q1": {"a": 1, "b": 0}, "q2": {"c d": 2}}
ASKED = (["q1", "q2"], ["who is it?", "what, then"])


def write(path: Path, text: str, name: str = "file.tsv") -> Path:
    file = path / name
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    "text",
    [
        "q1 0 a 1\nq1 0 b 0\nq2 Q0 c 2\n",
        "q1\t0\ta\t1\n\nq1\t0\tb\t0\r\nq2\t0\tc\t2",
        "query-id\tcorpus-id\tscore\nq1\ta\t1\nq1\tb\t0\nq2\tc\t2\n",
        "\ufeffquery-id\tcorpus-id\tscore\nq1\ta\t1\nq1\tb\t0\nq2\tc\t2\n",
        "q1\ta\t1\nq1\tb\t0\nq2\tc\t2\n",
        '{"query-id": "q1", "corpus-id": "a", "score": 1}\n\n'
        '{"score": 0.0, "corpus-id": "b", "query-id": "q1", "more": []}\r\n'
        '{"query-id": "q2", "corpus-id": "c", "score": 2}',
    ],
    ids=["trec", "trec-tabs", "beir", "beir-mark", "no-header", "jsonl"],
)
def test_judgements_of_every_form_are_the_same(tmp_path: Path, text: str) -> None:
    assert read_judgements(write(tmp_path, text)) == {"q1": {"a": 1, "b": 0}, "q2": {"c": 2}}


def test_ids_in_columns_of_tabs_may_have_blanks(tmp_path: Path) -> None:
    file = write(tmp_path, "query-id\tcorpus-id\tscore\nq1\ta\t1\nq1\tb\t0\nq2\tc d\t2\n")
    assert read_judgements(file) == JUDGED


def test_whole_numbers_may_be_written_as_floats(tmp_path: Path) -> None:
    rows = ["q1\ta\t1.0", "q1\tb\t-1.0", "q2\tc\t2e0", "q2\td\t0.000 ", "q2\te\t+3"]
    for first in ("query-id\tcorpus-id\tscore", rows[0]):
        found = read_judgements(write(tmp_path, "\n".join([first, *rows])))
        assert found == {"q1": {"a": 1, "b": -1}, "q2": {"c": 2, "d": 0, "e": 3}}
        assert all(type(grade) is int for of_query in found.values() for grade in of_query.values())


def test_a_repeated_judgement_is_harmless(tmp_path: Path) -> None:
    file = write(tmp_path, "q1 0 a 1\nq1 0 b 0\nq1 0 a 1\nq2 0 a 0\nq1 0 a 1.0\n")
    assert read_judgements(file) == {"q1": {"a": 1, "b": 0}, "q2": {"a": 0}}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "there are no judgements"),
        ("query-id\tcorpus-id\tscore\n", "there are no judgements"),
        ("q1\ta\t1\nq1\tb\n", ":2: 2 columns: a judgement is"),
        (
            "query-id,corpus-id,score\nq1,a,1\n",
            ":1: 1 column: a judgement is 'query iteration document grade' (TREC), or 'query "
            "document grade' (BEIR); separate them with tabs, not commas",
        ),
        ("q1\ta\t1\nq1\tb\t0.5\n", ":2: the grade '0.5' is not a whole number"),
        ("q1\ta\t1\nq1\tb\tnan\n", ":2: the grade 'nan' is not a whole number"),
        ("q1\ta\tinf\nq1\tb\t1\n", ":1: the grade 'inf' is not a whole number"),
        ("q1\ta\tNaN\nq1\tb\t1\n", ":1: the grade 'NaN' is not a whole number"),
        ("q1\ta\t1\nq1\tb\t1_0\n", ":2: the grade '1_0' is not a whole number"),
        ("q1\ta\t1\nq1\tb\t\n", ":2: the grade '' is not a whole number"),
        ("q1\ta\t1\nq1\tb\t1e30\n", ":2: the grade '1e30' is not a whole number"),
        (
            "q1\ta\t1\nq1\tb\t1\n\nq1\ta\t0.0\n",
            ":4: document 'a' of query 'q1' has the grade 0 here, and 1 in line 1",
        ),
        ("q1\ta\t0.5\n", ":1: the grade '0.5' is not a whole number"),
        ('{"query-id": "q", "corpus-id": "a"}', ":1: the judgement has no field 'score'"),
        ('{"query-id": "q"\n', ":1: is not a JSON object"),
        (
            '{"query-id": "q", "corpus-id": "a", "score": 0.5}',
            ":1: the grade '0.5' is not a whole number",
        ),
        (
            '{"query-id": "q", "corpus-id": "a", "score": null}',
            ":1: 'score' is neither text nor a number (null)",
        ),
    ],
)
def test_bad_judgements_are_errors(tmp_path: Path, text: str, reason: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(SourceError) as caught:
        read_judgements(file)
    assert str(caught.value).startswith(f"{file}:")
    assert reason in str(caught.value)


def test_bytes_that_are_no_text_are_an_error(tmp_path: Path) -> None:
    file = tmp_path / "qrels"
    file.write_bytes(b"q1 0 \xff 1\n")
    with pytest.raises(SourceError, match="not UTF-8"):
        read_judgements(file)
    with pytest.raises(SourceError, match="no such file"):
        read_judgements(tmp_path / "missing")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("q.jsonl", '{"id": "q1", "text": "who is it?"}\n{"id": "q2", "text": "what, then"}\n'),
        (
            "q.jsonl",
            '{"_id": "q1", "text": "who is it?", "metadata": {}}\n'
            '{"_id": "q2", "text": "what, then", "metadata": {"year": 1}}\n',
        ),
        (
            "q.jsonl",
            '{"_id": "q1", "text": "who is it?", "metadata": {"answers": [{"body": "me"}]}}\n'
            '{"_id": "q2", "text": "what, then", "tags": ["a"], "": {"_id": [1]}, "label": 1.5}\n',
        ),
        (
            "q.json",
            '[{"id": null, "_id": "q1", "text": "who is it?", "metadata": {"_id": {"a": 1}}},'
            ' {"id": "q2", "_id": {"oid": 1}, "text": "what, then"}]',
        ),
        ("q.tsv", "_id\ttext\t\nq1\twho is it?\t\nq2\twhat, then\t\n"),
        ("q.tsv", "id\ttext\nq1\twho is it?\nq2\twhat, then\n"),
        ("q.tsv", "q1\twho is it?\nq2\twhat, then\n"),
        ("q.csv", 'id,text\nq1,who is it?\nq2,"what, then"\n'),
    ],
    ids=["jsonl", "beir", "nested", "both-ids", "beir-tsv", "tsv", "marco", "csv"],
)
def test_queries_of_every_form_are_the_same(tmp_path: Path, name: str, text: str) -> None:
    assert read_judged_queries(write(tmp_path, text, name)) == ASKED


def test_the_fields_of_queries_can_be_named(tmp_path: Path) -> None:
    file = write(tmp_path, "qid\tquestion\nq1\twho is it?\nq2\twhat, then\n")
    assert read_judged_queries(file, text_field="question", id_field="qid") == ASKED


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("q.jsonl", "", "there are no queries"),
        ("q.jsonl", '{"text": "x"}\n', ":1: a query needs an id"),
        ("q.jsonl", '{"id": "q", "text": ""}\n', ":1: text is empty"),
        ("q.tsv", "q1\tx\nq2\n", ":2: 1 column, not an id and a text"),
    ],
)
def test_bad_queries_are_errors(tmp_path: Path, name: str, text: str, reason: str) -> None:
    with pytest.raises(SourceError, match=r"q\.(jsonl|tsv)") as caught:
        read_judged_queries(write(tmp_path, text, name))
    assert reason in str(caught.value)


def test_a_header_is_only_skipped_where_it_is_one(tmp_path: Path) -> None:
    with pytest.raises(RowError, match=":2: the grade 'score' is not"):
        read_judgements(write(tmp_path, "q1\ta\t1\nquery-id\tcorpus-id\tscore\n"))
