"""``layerdex classify``."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.cli.corpus import DOCUMENTS, write_jsonl
from tests.cli.runner import Cli
from tests.cli.words import nearest

TEXTS = ["my card is broken", "soup with butter", "it rains tomorrow", "nobody knows"]
LABELLED = [one for one in DOCUMENTS if one.get("label")]
LABELS = {one["id"]: one["label"] for one in LABELLED}
KEYS = ["text", "label", "confidence", "layer", "neighbors"]


def expected_vote(text: str, layer: int, k: int, *, weights: str) -> tuple[str, float]:
    """Return the label and its share of the vote."""
    shares: dict[str, float] = defaultdict(float)
    for identifier, similarity in nearest(text, LABELLED, layer)[:k]:
        shares[LABELS[identifier]] += 1 if weights == "uniform" else 1 / (1 - similarity)
    label = max(shares, key=shares.__getitem__)
    return label, shares[label] / sum(shares.values())


@pytest.mark.parametrize("weights", ["distance", "uniform"])
@pytest.mark.parametrize("layer", [0, 3])
def test_json_is_a_list_of_predictions(cli: Cli, shared: Path, layer: int, weights: str) -> None:
    words = ("--layer", layer, "--weights", weights, "-k", 5)
    predictions = cli.json("classify", shared, *TEXTS, *words)
    assert [list(one) for one in predictions] == [KEYS] * len(TEXTS)
    for text, one in zip(TEXTS, predictions, strict=True):
        found = nearest(text, LABELLED, layer)[:5]
        label, share = expected_vote(text, layer, 5, weights=weights)
        assert one == {
            "text": text,
            "label": label,
            "confidence": pytest.approx(share, abs=1e-4),
            "layer": layer,
            "neighbors": [
                {
                    "id": identifier,
                    "label": LABELS[identifier],
                    "similarity": pytest.approx(similarity, abs=1.5e-5),
                }
                for identifier, similarity in found
            ],
        }


def test_distance_is_the_default_and_differs_from_uniform(cli: Cli, shared: Path) -> None:
    default = cli.json("classify", shared, *TEXTS)
    assert default == cli.json("classify", shared, *TEXTS, "--weights", "distance", "-k", 10)
    assert default != cli.json("classify", shared, *TEXTS, "--weights", "uniform")


def test_jsonl_is_a_line_a_text(cli: Cli, shared: Path) -> None:
    assert cli.jsonl("classify", shared, *TEXTS, "--jsonl") == cli.json("classify", shared, *TEXTS)


def test_a_text_of_the_index_has_its_own_label_for_certain(cli: Cli, shared: Path) -> None:
    [one] = cli.json("classify", shared, DOCUMENTS[7]["text"])
    assert (one["label"], one["confidence"]) == (DOCUMENTS[7]["label"], 1)


def test_the_table_has_label_confidence_and_the_nearest(cli: Cli, shared: Path) -> None:
    title, _, header, _, *rows = cli.data("classify", shared, TEXTS[0], "-k", 5).splitlines()
    label, share = expected_vote(TEXTS[0], 3, 5, weights="distance")
    assert title.rstrip() == "layer 3"
    assert header.split() == ["confidence", "label", "and", "text"]
    assert rows[0].split() == [f"{share:.3f}", label]
    assert rows[1].split() == TEXTS[0].split()
    texts = {one["id"]: one["text"] for one in LABELLED}
    assert " ".join(" ".join(rows[2:]).split()) == " ".join(
        f"{similarity:.3f} {LABELS[identifier]} · {identifier} · {texts[identifier]}"
        for identifier, similarity in nearest(TEXTS[0], LABELLED, 3)[:3]
    )


def test_a_share_below_the_minimum_gives_no_label(cli: Cli, shared: Path) -> None:
    shares = [expected_vote(text, 3, 10, weights="distance") for text in TEXTS]
    floor = sorted(share for _, share in shares)[1] + 1e-3
    predictions = cli.json("classify", shared, *TEXTS, "--min-confidence", floor)
    expected = [label if share >= floor else None for label, share in shares]
    assert None in expected
    assert [one["label"] for one in predictions] == expected
    assert [one["confidence"] for one in predictions] == pytest.approx(
        [share for _, share in shares], abs=1e-4
    )
    unsure = TEXTS[expected.index(None)]
    assert "(unsure)" in cli.data("classify", shared, unsure, "--min-confidence", floor)


def test_texts_from_a_file_keep_their_ids(cli: Cli, shared: Path, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"id": "t1", "text": TEXTS[0]}, {"text": TEXTS[1]}]
    file = write_jsonl(tmp_path / "texts.jsonl", rows)
    first, second = cli.json("classify", shared, "--input", file)
    assert (first["id"], first["text"]) == ("t1", TEXTS[0])
    assert (second.get("id"), second["text"]) == (None, TEXTS[1])


def test_only_matching_documents_vote(cli: Cli, shared: Path) -> None:
    [one] = cli.json("classify", shared, TEXTS[0], "--where", "label in food,rain")
    assert one["label"] in {"food", "rain"}
    assert "card" not in {voter["label"] for voter in one["neighbors"]}


def test_documents_without_a_label_do_not_vote(cli: Cli, shared: Path) -> None:
    [one] = cli.json("classify", shared, "nobody said what this is", "-k", 100)
    assert {voter["id"] for voter in one["neighbors"]} == set(LABELS)


def test_one_label_is_worth_a_note(cli: Cli, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "s.jsonl", [one for one in LABELLED if one["label"] == "food"])
    cli.ok("index", tmp_path / "new", source)
    result = cli.ok("classify", tmp_path / "new", "a card", "--jsonl")
    assert result.stderr == "All labelled documents of this index have the same label.\n"
    assert '"label": "food", "confidence": 1.0' in result.stdout
    assert cli.data("classify", tmp_path / "new", "a card", "--jsonl", "-q") == result.stdout


def test_without_labels_there_is_no_vote(cli: Cli, shared: Path, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "s.jsonl", [{"text": "no label"}])
    cli.ok("index", tmp_path / "new", source)
    message = "no document here has a label (see 'layerdex index --label-field')"
    assert cli.error("classify", tmp_path / "new", "a card") == message
    told = cli.error("classify", shared, "a card", "--where", "id=bare")
    assert told == "no document that meets the conditions has a label"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-k", "0"], "k must be at least 1, got 0"),
        (["--min-confidence", "1.1"], "min_confidence must be between 0 and 1, got 1.1"),
        (["--min-confidence", "nan"], "min_confidence must be between 0 and 1, got nan"),
        (
            ["--layer", "-5"],
            "layer -5 does not exist: this model has layers 0 to 3 "
            "(or -1 to -4, counted from the deepest)",
        ),
    ],
)
def test_an_option_that_cannot_be_used(
    cli: Cli, shared: Path, words: list[str], message: str
) -> None:
    assert cli.error("classify", shared, "a card", *words) == message
