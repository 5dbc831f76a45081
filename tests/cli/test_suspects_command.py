"""``layerdex suspects``."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerdex import Index
from layerdex.cli.commands import suspects
from layerdex.cli.render.label_issues import shown_documents
from layerdex.search.labels.label_issues import LabelIssues
from tests.cli.corpus import DOCUMENTS, write_jsonl
from tests.cli.runner import Cli
from tests.cli.words import nearest

WRONG = {"food-2": "card", "rain-5": "food"}


@pytest.fixture
def wrong(cli: Cli, path: Path, tmp_path: Path) -> Path:
    """The index of `DOCUMENTS` with two labels that are wrong."""
    changed = [{**one, "label": WRONG.get(str(one["id"]), one.get("label"))} for one in DOCUMENTS]
    cli.ok("index", path, write_jsonl(tmp_path / "wrong.jsonl", changed))
    return path


def test_the_wrong_labels_come_first_with_what_they_should_be(cli: Cli, wrong: Path) -> None:
    found = cli.json("suspects", wrong, "-k", 5)
    assert (found["n"], found["k"], found["layers"]) == (19, 5, [0, 1, 2, 3])
    assert found["n_found"] == len(found["found"])
    first = found["found"][:2]
    assert {one["id"]: one["suggested"] for one in first} == {"food-2": "food", "rain-5": "rain"}
    assert {one["id"]: one["label"] for one in first} == WRONG
    for one in first:
        assert one["n_against"] > 2
        assert one["score"] > 0
        assert one["suggested_confidence"] > one["label_confidence"]


def test_neighbours_are_those_of_the_default_layer(cli: Cli, wrong: Path) -> None:
    Index.open(wrong).save_best(Index.open(wrong).evaluate(layer=1))
    for words, layer in (((), 1), (("--layers", "0,2"), 2)):
        found = cli.json("suspects", wrong, "-k", 5, *words)
        assert found["layer"] == layer
        one = found["found"][0]
        others = [d for d in DOCUMENTS if d.get("label") and d["id"] != one["id"]]
        expected = nearest(one["text"], others, layer)[:5]
        assert [v["similarity"] for v in one["neighbors"]] == pytest.approx(
            [similarity for _, similarity in expected], abs=1e-4
        )
        assert one["neighbors"][0]["id"] == expected[0][0]


def test_only_the_listed_suspects_are_read_for_the_table(
    cli: Cli, wrong: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    shown = shown_documents

    def count(issues: LabelIssues) -> list[str]:
        asked.append(len(issues.issues))
        return shown(issues)

    monkeypatch.setattr(suspects, "shown_documents", count)
    monkeypatch.setattr(suspects, "_N_LISTED", 1)
    output = tmp_path / "review.csv"
    assert "8 suspects written" in cli.ok("suspects", wrong, "-k", 5, "-o", output).stderr
    assert asked == [1]


def test_a_line_for_each_or_the_first(cli: Cli, wrong: Path) -> None:
    whole = cli.json("suspects", wrong, "-k", 5)
    assert cli.jsonl("suspects", wrong, "-k", 5, "--jsonl") == whole["found"]
    limited = cli.json("suspects", wrong, "-k", 5, "--limit", 1)
    assert limited == {**whole, "found": whole["found"][:1]}
    message = cli.usage("suspects", wrong, "--json", "--jsonl")
    assert {"--json", "--jsonl"} <= set(message.split())


def test_the_table_shows_labels_and_neighbours(cli: Cli, wrong: Path) -> None:
    page = cli.data("suspects", wrong, "-k", 5, "--limit", 2)
    assert page.startswith(f"{cli.json('suspects', wrong, '-k', 5)['n_found']} suspects among ")
    assert "19 labelled documents (k = 5, 4 layers; neighbours of layer 3)" in page
    assert "food-2" in page
    assert "-> food" in page
    one = cli.json("suspects", wrong, "-k", 5)["found"][0]
    texts = {document["id"]: document["text"] for document in DOCUMENTS}
    shown = " ".join(page.split())
    for neighbor in one["neighbors"][:3]:
        assert f"{neighbor['label']} · {neighbor['id']} · {texts[neighbor['id']]}" in shown
    assert f"· {one['neighbors'][3]['id']} ·" not in shown
    assert all(len(line) <= 80 for line in page.splitlines())


def test_no_suspects_are_said_in_a_line(cli: Cli, path: Path) -> None:
    shown = cli.data("suspects", path, "-k", 5, "--where", "label in card,food")
    assert shown.startswith("No suspects: ")
    assert " 13 labelled documents" in shown
    assert shown.count("\n") == 1


def test_a_field_is_judged_instead_of_the_label(cli: Cli, wrong: Path) -> None:
    found = cli.json("suspects", wrong, "--by", "lang")
    assert found["label_field"] == "lang"
    assert {one["label"] for one in found["found"]} <= {"en", "de", "fr"}


def test_an_index_without_labels_is_an_error(cli: Cli, path: Path) -> None:
    assert "at least two labels" in cli.error("suspects", path, "--where", "label=food")
    assert "k must be at least 1" in cli.error("suspects", path, "-k", 0)
