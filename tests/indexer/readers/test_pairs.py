"""Judged pairs from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from layerdex.errors import SourceError
from layerdex.indexer.readers.pair_fields import PairFields
from layerdex.indexer.readers.pairs import Pairs, read_pairs

SCORED = Pairs(["a b", "c"], ["a", "d, e"], [4.5, 0.0], are_labels=False)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "p.jsonl",
            '{"sentence1": "a b", "sentence2": "a", "score": 4.5}\n'
            '{"sentence1": "c", "sentence2": "d, e", "score": 0, "genre": "news"}\n',
        ),
        ("p.csv", 'sentence1,sentence2,score\na b,a,4.5\nc,"d, e",0\n'),
        ("p.tsv", "score\tsentence1\tsentence2\n4.5\ta b\ta\n0\tc\td, e\n"),
    ],
)
def test_pairs_of_every_form_are_the_same(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    assert read_pairs(file) == SCORED


def test_labels_are_0_or_1_however_they_are_written() -> None:
    rows = [
        {"sentence1": "x", "sentence2": "y", "label": label} for label in (0, "1", True, "0", 1.0)
    ]
    found = read_pairs(rows)
    assert found.are_labels
    assert found.values == [0, 1, 1, 0, 1]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"score": float("inf")}, "metadata field 'score' is not a finite number (inf)"),
        ({"score": "nan"}, "score is not a finite number (string 'nan')"),
        ({"score": "good"}, "score is not a finite number (string 'good')"),
        (
            {"label": 1},
            "there is a score and a label; name one with --score-field or --label-field",
        ),
        ({"score": None, "label": 1}, "the pair has no score, as those before it"),
        ({"sentence2": " "}, "sentence2 is blank"),
        ({"sentence1": ""}, "sentence1 is empty"),
    ],
)
def test_a_bad_pair_is_named(changes: dict[str, object], reason: str) -> None:
    row = {"sentence1": "x", "sentence2": "y", "score": 1.0}
    with pytest.raises(SourceError) as caught:
        read_pairs([row, {**row, **changes}])
    assert ":2: " in str(caught.value)
    assert reason in str(caught.value)


GAPS = [("sentence1", None), ("sentence2", None), ("score", None), ("score", float("nan"))]


@pytest.mark.parametrize(("name", "gap"), GAPS)
def test_a_pair_without_a_text_or_a_judgement_is_left_out(name: str, gap: object) -> None:
    row: dict[str, Any] = {"sentence1": "x", "sentence2": "y", "score": 1.0}
    for rows in ([row, {**row, name: gap}, row], [{**row, name: gap}, row, row]):
        found = read_pairs(rows)
        assert found == Pairs(["x", "x"], ["y", "y"], [1, 1], are_labels=False, n_left_out=1)


def test_empty_cells_are_missing_texts_and_judgements(tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    file.write_text("sentence1,sentence2,label\na,b,1\n,b,0\na,,0\na,b,\nc,d,0\n")
    expected = Pairs(["a", "c"], ["b", "d"], [1, 0], are_labels=True, n_left_out=3)
    assert read_pairs(file) == expected


def test_nothing_but_gaps_is_an_error() -> None:
    rows = [{"sentence1": "x", "sentence2": None, "score": 1}] * 2
    with pytest.raises(SourceError) as caught:
        read_pairs(rows)
    reason = "there are no pairs (2 without a text or a judgement)"
    assert str(caught.value) == f"<memory>: {reason}"


def test_a_label_that_is_a_grade_is_told_to_be_a_score() -> None:
    with pytest.raises(
        SourceError, match=r"label is 0 or 1, not 3\.5; a grade is read with --score-field label"
    ):
        read_pairs([{"sentence1": "x", "sentence2": "y", "label": 3.5}])


def test_no_pairs_are_an_error(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text("")
    with pytest.raises(SourceError, match="there are no pairs"):
        read_pairs(file)


SICK = "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment\n"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            SICK,
            "no sentence1 field 'sentence1'; there is 'pair_ID', 'sentence_A', 'sentence_B', "
            "'relatedness_score', 'entailment_judgment'; try --sentence1-field sentence_A "
            "--sentence2-field sentence_B --score-field relatedness_score",
        ),
        (
            "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n",
            "try --sentence1-field question1 --sentence2-field question2 "
            "--label-field is_duplicate",
        ),
        (
            "text1\ttext2\tlabel\n",
            "there is 'text1', 'text2', 'label'; try --sentence1-field text1 "
            "--sentence2-field text2",
        ),
        ("premise\thypothesis\tscore\n", "--sentence1-field premise --sentence2-field hypothesis"),
        ("s1\ts2\tscore\n", "try --sentence1-field s1 --sentence2-field s2"),
        ("query\ttarget\n", "try --sentence1-field query --sentence2-field target"),
        ("text\tscore\n", "no sentence1 field 'sentence1'; there is 'text', 'score'"),
        ("sentence1\tsent2\tscore\n", "no sentence2 field 'sentence2'; there is "),
        (
            "sentence1\tsentence2\tsimilarity_score\n",
            "no score field 'score'; there is 'sentence1', 'sentence2', 'similarity_score'; "
            "try --score-field similarity_score",
        ),
        ("sentence1\tsentence2\tsome\n", "no score field 'score'; there is 'sentence1', "),
    ],
)
@pytest.mark.parametrize("suffix", ["tsv", "jsonl"])
def test_missing_fields_are_listed_with_the_options_to_name_them(
    header: str, message: str, suffix: str, tmp_path: Path
) -> None:
    file = tmp_path / f"p.{suffix}"
    names = header.split()
    if suffix == "tsv":
        file.write_text(header + "\t".join("1" for _ in names) + "\n")
    else:
        file.write_text(json.dumps(dict.fromkeys(names, "1")) + "\n")
    with pytest.raises(SourceError) as caught:
        read_pairs(file)
    assert message in str(caught.value)
    assert "--text-field" not in str(caught.value)
    assert "--metadata-field" not in str(caught.value)


def test_no_column_is_suggested_twice(tmp_path: Path) -> None:
    file = tmp_path / "p.tsv"
    for header in ("sentence\tscore", "query\ttarget", "sentence1\tsentence"):
        file.write_text(header + "\n1\t1\n")
        with pytest.raises(SourceError) as caught:
            read_pairs(file)
        words = str(caught.value).partition("try ")[2].split()
        suggested = words[1::2]
        assert len({*suggested}) == len(suggested), header


def test_pairs_are_read_under_other_names_and_extra_fields_are_ignored(tmp_path: Path) -> None:
    fields = PairFields("sentence_A", sentence2="data.b", score="relatedness_score")
    row = {
        "id": {"of": "pair"},
        "sentence_A": "a b",
        "data": {"b": "a"},
        "relatedness_score": 4.5,
        "label": "ENTAILMENT",
        "scores": [4, 5],
        "more": {"k": [1]},
    }
    file = tmp_path / "p.jsonl"
    file.write_text(json.dumps(row))
    expected = Pairs(["a b"], ["a"], [4.5], are_labels=False)
    assert read_pairs(file, fields=fields) == expected
    assert read_pairs([row], fields=fields) == expected
    frame = pd.DataFrame([row])
    assert read_pairs(frame, fields=fields) == expected
    frame.to_parquet(tmp_path / "p.parquet")
    assert read_pairs(tmp_path / "p.parquet", fields=fields) == expected


def test_a_label_is_read_under_another_name_instead_of_a_score() -> None:
    rows = [
        {"sentence1": "x", "sentence2": "y", "score": 4, "same": same}
        for same in (True, "false", "True", "0.0", "1.0", 0)
    ]
    found = read_pairs(rows, fields=PairFields(pair_label="same"))
    assert (found.values, found.are_labels) == ([1, 0, 1, 0, 1, 0], True)
    with pytest.raises(SourceError, match=r"a score and a label; name one with --score-"):
        read_pairs([{"sentence1": "x", "sentence2": "y", "score": 4, "label": 1}])
