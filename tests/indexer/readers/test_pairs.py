"""Judged pairs from files."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerdex.errors import SourceError
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
        ({"score": float("nan")}, "is not a finite number"),
        ({"score": "nan"}, "score is not a finite number (string 'nan')"),
        ({"score": "good"}, "score is not a finite number (string 'good')"),
        ({"score": None}, "a pair has a score or a label (0 or 1), not 0 of them"),
        ({"label": 1}, "a pair has a score or a label (0 or 1), not 2 of them"),
        ({"score": None, "label": 1}, "the pair has no score, as those before it"),
        ({"sentence2": None}, "sentence2 is null"),
        ({"sentence2": " "}, "sentence2 is blank"),
        ({"sentence1": ""}, "text is empty"),
    ],
)
def test_a_bad_pair_is_named(changes: dict[str, object], reason: str) -> None:
    row = {"sentence1": "x", "sentence2": "y", "score": 1.0}
    with pytest.raises(SourceError) as caught:
        read_pairs([row, {**row, **changes}])
    assert ":2: " in str(caught.value)
    assert reason in str(caught.value)


def test_a_label_that_is_a_grade_is_told_to_be_a_score() -> None:
    with pytest.raises(SourceError, match=r"label is 0 or 1, not 3\.5; a grade goes in 'score'"):
        read_pairs([{"sentence1": "x", "sentence2": "y", "label": 3.5}])


def test_no_pairs_are_an_error(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text("")
    with pytest.raises(SourceError, match="there are no pairs"):
        read_pairs(file)
