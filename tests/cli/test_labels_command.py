"""``layerdex suspects -o`` and ``layerdex labels apply``."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from layerdex import Index
from layerdex.errors import DocumentNotFoundError, OptionError
from tests.cli.corpus import DOCUMENTS, read_jsonl, write_jsonl
from tests.cli.runner import Cli
from tests.indexer.readers.workbook import write_xlsx

WRONG = {"007": "card", "rain-5": "füd"}
"""Ids of documents and their wrong labels; the first is the id of a spreadsheet."""

COLUMNS = [
    *("id", "text", "label", "suggested", "new_label", "score"),
    *("label_confidence", "suggested_confidence", "n_against", "evidence"),
]
RIGHT = {"007": "food", "rain-5": "rain"}


def renamed() -> list[dict[str, Any]]:
    documents = [
        {**one, "id": "007", "text": "fresh soup\nwith bread"} if one["id"] == "food-2" else one
        for one in DOCUMENTS
    ]
    return [{**one, "label": WRONG.get(str(one["id"]), one.get("label"))} for one in documents]


@pytest.fixture
def wrong(cli: Cli, tmp_path: Path) -> Path:
    cli.ok("index", tmp_path / "wrong", write_jsonl(tmp_path / "wrong.jsonl", renamed()))
    return tmp_path / "wrong"


@pytest.fixture
def review(cli: Cli, wrong: Path, tmp_path: Path) -> Path:
    cli.ok("suspects", wrong, "-k", 5, "-o", tmp_path / "review.csv")
    return tmp_path / "review.csv"


def read_review(path: Path, **how: Any) -> list[dict[str, str]]:
    text = path.read_bytes().decode(how.pop("encoding", "utf-8-sig"))
    return list(csv.DictReader(io.StringIO(text, newline=""), **how))


def decide(
    path: Path, decisions: Mapping[str, str], *, encoding: str = "utf-8-sig", delimiter: str = ","
) -> None:
    """Fill in the review as a spreadsheet saves it."""
    rows = read_review(path)
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter=delimiter, lineterminator="\r\n")
        writer.writeheader()
        writer.writerows({**row, "new_label": decisions.get(row["id"], "")} for row in rows)


def labels_of(path: Path) -> dict[str, str | None]:
    return {document.id: document.label for document in Index.open(path).documents()}


def test_a_review_has_a_row_for_each_suspect(cli: Cli, wrong: Path, review: Path) -> None:
    found = cli.json("suspects", wrong, "-k", 5)["found"]
    rows = read_review(review)
    assert list(rows[0]) == COLUMNS
    assert [row["id"] for row in rows] == [one["id"] for one in found]
    for row, one in zip(rows, found, strict=True):
        assert (row["text"], row["label"], row["suggested"], row["new_label"]) == (
            one["text"],
            one["label"],
            one["suggested"],
            "",
        )
        assert float(row["score"]) == one["score"]
        near = one["neighbors"][:3]
        texts = [
            " ".join(document.text.split())
            for document in Index.open(wrong).get(*(each["id"] for each in near))
        ]
        assert row["evidence"].split("\n") == [
            f"{each['label']} ({each['similarity']:.3f}): {text}"
            for each, text in zip(near, texts, strict=True)
        ]
    assert {"007", "rain-5"} <= {row["id"] for row in rows}


def test_all_suspects_are_written_and_the_first_shown(
    cli: Cli, wrong: Path, tmp_path: Path
) -> None:
    words = ("suspects", wrong, "-k", 5, "-o", tmp_path / "r.jsonl")
    result = cli.ok(*words, "--limit", 1)
    assert "1 suspect written to" in result.stderr
    assert "The first 1" in result.stdout
    assert "--force" in cli.error(*words)
    cli.ok(*words, "--force")
    rows = read_jsonl((tmp_path / "r.jsonl").read_text("utf-8"))
    assert [row["id"] for row in rows] == [
        one["id"] for one in cli.json("suspects", wrong, "-k", 5)["found"]
    ]
    assert all(row["new_label"] is None for row in rows)
    message = cli.usage("suspects", wrong, "-o", tmp_path / "x.csv", "--by", "lang")
    assert "--by cannot be used with --output" in message


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({}, ()),
        ({"delimiter": ";"}, ()),
        ({"delimiter": ";", "encoding": "cp1252"}, ("--encoding", "cp1252")),
        ({"delimiter": "\t", "encoding": "utf-16"}, ()),
    ],
)
def test_a_review_comes_back_however_a_spreadsheet_saves_it(
    cli: Cli, wrong: Path, review: Path, how: dict[str, str], words: tuple[str, ...]
) -> None:
    before = labels_of(wrong)
    decide(review, RIGHT, **how)
    n_commits = Index.open(wrong)._open.store.query(lambda snapshot: snapshot.setting("commits"))
    result = cli.ok("labels", "apply", wrong, review, *words)
    assert result.stdout == ""
    assert "2 labels changed, 0 unchanged, " in result.stderr
    assert labels_of(wrong) == {**before, **RIGHT}
    after = Index.open(wrong)._open.store.query(lambda snapshot: snapshot.setting("commits"))
    assert after == n_commits + 1
    again = cli.ok("labels", "apply", wrong, review, *words)
    assert "0 labels changed, 2 unchanged, " in again.stderr
    assert "0 in conflict" in again.stderr
    assert cli.ok("verify", wrong)


@pytest.mark.parametrize("name", ["review.parquet", "review.tsv"])
def test_other_formats_come_back_too(cli: Cli, wrong: Path, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    cli.ok("suspects", wrong, "-k", 5, "-o", file)
    if name.endswith("parquet"):
        table = pq.read_table(file)
        values = [RIGHT.get(identifier) for identifier in table["id"].to_pylist()]
        at = table.column_names.index("new_label")
        pq.write_table(table.set_column(at, "new_label", [values]), file)
    else:
        rows = read_review(file, delimiter="\t")
        with file.open("w", newline="") as opened:
            writer = csv.DictWriter(opened, COLUMNS, delimiter="\t")
            writer.writeheader()
            writer.writerows({**row, "new_label": RIGHT.get(row["id"], "")} for row in rows)
    assert cli.json("labels", "apply", wrong, file)["n_changed"] == 2
    assert labels_of(wrong)["007"] == "food"


def test_a_review_comes_back_as_a_workbook(
    cli: Cli, wrong: Path, review: Path, tmp_path: Path
) -> None:
    rows = [{**row, "new_label": RIGHT.get(row["id"], "")} for row in read_review(review)]
    write_xlsx(tmp_path / "r.xlsx", {"Review": [COLUMNS, *(list(row.values()) for row in rows)]})
    assert sorted(cli.json("labels", "apply", wrong, tmp_path / "r.xlsx")["changed"]) == [*RIGHT]
    assert {name: labels_of(wrong)[name] for name in RIGHT} == RIGHT


def test_a_dry_run_changes_nothing(cli: Cli, wrong: Path, review: Path) -> None:
    decide(review, RIGHT)
    before = labels_of(wrong)
    result = cli.ok("labels", "apply", wrong, review, "--dry-run")
    assert "2 labels would be changed" in result.stderr
    assert labels_of(wrong) == before
    planned = cli.json("labels", "apply", wrong, review, "--dry-run")
    assert planned == cli.json("labels", "apply", wrong, review)
    assert sorted(planned["changed"]) == sorted(RIGHT)


def test_a_label_that_changed_meanwhile_stays_unless_forced(
    cli: Cli, wrong: Path, review: Path
) -> None:
    decide(review, RIGHT)
    Index.open(wrong).set_labels({"007": "cake"})
    result = cli.ok("labels", "apply", wrong, review)
    assert "1 label changed, 0 unchanged, " in result.stderr
    assert "Left as it is: 007 has 'cake' now, and 'card' in the review" in result.stderr
    assert labels_of(wrong)["007"] == "cake"
    forced = cli.json("labels", "apply", wrong, review, "--force")
    assert (forced["changed"], forced["n_unchanged"]) == (["007"], 1)
    assert labels_of(wrong)["007"] == "food"


def test_none_removes_a_label_and_a_new_one_is_said(cli: Cli, wrong: Path, review: Path) -> None:
    decide(review, {"007": "(None)", "rain-5": "storm"})
    result = cli.ok("labels", "apply", wrong, review)
    assert "No document had this label before: storm" in result.stderr
    assert (labels_of(wrong)["007"], labels_of(wrong)["rain-5"]) == (None, "storm")


def test_unknown_ids_are_said_with_what_a_spreadsheet_does(
    cli: Cli, wrong: Path, tmp_path: Path
) -> None:
    file = tmp_path / "r.csv"
    file.write_text("id,label,new_label\n7,card,food\ncard-0,card,card\n")
    result = cli.ok("labels", "apply", wrong, file)
    assert (
        "0 labels changed, 1 unchanged, 0 undecided, 0 in conflict, 1 unknown id" in result.stderr
    )
    assert "No document has the id '7'; a spreadsheet drops leading zeros" in result.stderr


def test_a_file_of_ids_and_labels_is_enough(cli: Cli, wrong: Path, tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "r.jsonl", [{"id": "card-0", "new_label": "food"}])
    assert cli.json("labels", "apply", wrong, file)["changed"] == ["card-0"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "id,label\na,b\n",
            "'new_label'; there is 'id', 'label'; try 'suspects -o', whose",
        ),
        ("id,new_label\n7,food\n8,food\n", "no document has the id '7', '8'; a spreadsheet drops"),
        ("id,new_label\ncard-0,foood\n", "'foood' (did you mean 'food'?): nothing was changed"),
        ("id,new_label\ncard-0,a\ncard-0,b\n", "two decisions about the id 'card-0'"),
        ("label,new_label\ncard,a\n", "needs the id"),
        ("id,new_label\ncard-1,food\na,b,c,d\n", "r.csv:3"),
    ],
)
def test_a_faulty_review_changes_nothing(
    cli: Cli, wrong: Path, tmp_path: Path, content: str, said: str
) -> None:
    before = labels_of(wrong)
    (tmp_path / "r.csv").write_text(content)
    assert said in cli.error("labels", "apply", wrong, tmp_path / "r.csv")
    assert labels_of(wrong) == before


def test_metadata_texts_and_neighbours_stay(cli: Cli, wrong: Path) -> None:
    index = Index.open(wrong)
    before = index.get("card-1")[0]
    changes = index.set_labels({"card-1": "food", "gone": "x"}, missing_ok=True)
    assert (changes.changed, changes.unknown) == (("card-1",), ("gone",))
    after = index.get("card-1")[0]
    assert after == type(before)(before.row, "card-1", before.text, "food", before.metadata)
    assert index.search(before.text, k=1)[0][0].label == "food"
    assert [d.id for d in index.documents(where="label=food")].count("card-1") == 1
    assert cli.ok("verify", wrong)


def test_a_label_close_to_another_is_given_when_asked_for(
    cli: Cli, wrong: Path, tmp_path: Path
) -> None:
    file = write_jsonl(tmp_path / "r.jsonl", [{"id": "card-0", "new_label": "Foood"}])
    assert "did you mean 'food'?" in cli.error("labels", "apply", wrong, file, "--dry-run", "-q")
    assert cli.json("labels", "apply", wrong, file, "--new-labels")["new_labels"] == ["Foood"]
    assert labels_of(wrong)["card-0"] == "Foood"


def test_an_unknown_id_is_an_error_in_python_unless_it_may_be_missing(wrong: Path) -> None:
    index = Index.open(wrong)
    for dry_run in (True, False):
        with pytest.raises(DocumentNotFoundError, match="'nope'"):
            index.set_labels({"card-1": "food", "nope": "x"}, dry_run=dry_run)
    assert labels_of(wrong)["card-1"] == "card"


def test_labels_come_as_a_series_too(wrong: Path) -> None:
    index = Index.open(wrong)
    labels = pd.Series({"card-1": "food", "rain-5": None}, dtype=object)
    changes = index.set_labels(labels, expected=pd.Series({"card-1": "cake"}))
    assert changes.changed == ("rain-5",)
    assert repr(changes).startswith("LabelChanges(changed=('rain-5',), n_unchanged=0")
    assert [conflict.id for conflict in changes.conflicts] == ["card-1"]
    twice = pd.Series(["food", "food"], index=["card-1", "card-1"])
    with pytest.raises(OptionError, match="'card-1' is there several times"):
        index.set_labels(twice)


def test_the_repr_of_many_changes_is_short(wrong: Path) -> None:
    index = Index.open(wrong)
    changes = index.set_labels(dict.fromkeys(labels_of(wrong), "food"), dry_run=True)
    assert len(changes.changed) > 10
    assert len(repr(changes)) <= 300


@pytest.mark.parametrize("label", ["", "  ", ["a", "b"], {"a": 1}, float("nan"), pd.NA, pd.NaT, []])
def test_a_label_that_no_document_can_have_is_an_error(wrong: Path, label: Any) -> None:
    with pytest.raises(OptionError):
        Index.open(wrong).set_labels({"card-0": label})


def test_a_label_is_not_given_to_the_document_of_another_text(
    cli: Cli, wrong: Path, tmp_path: Path
) -> None:
    def label(identifier: str) -> str | None:
        return index.get(identifier)[0].label

    index = Index.open(wrong)
    index.add([{"id": "7", "text": "my card", "label": "card"}])
    index.add([{"id": "007", "text": "fresh  soup", "label": "card"}])
    file = tmp_path / "saved.csv"
    file.write_text("id,text,label,new_label\n7,fresh soup,card,food\n")
    words = ("labels", "apply", wrong, file)
    said = cli.ok(*words).stderr
    assert "0 labels changed, 0 unchanged, 0 undecided, 1 in conflict" in said
    assert "7 has another text than in the review; a spreadsheet drops leading zeros" in said
    assert label("7") == "card"
    assert [one["id"] for one in cli.json(*words)["conflicts"]] == ["7"]
    file.write_text("id,text,label,new_label\n007,fresh soup,card,food\n")
    cli.ok(*words)
    assert label("007") == "food"
    file.write_text("id,text,label,new_label\n7,fresh soup,card,food\n")
    cli.ok(*words, "--force")
    assert label("7") == "food"
