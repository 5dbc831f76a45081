"""``layerdex dedup --suggest``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.corpus import DOCUMENTS
from tests.cli.runner import Cli
from tests.cli.words import similarities

KEYS = ["layer", "n", "n_texts", "n_exact", "n_paired", "keep", "percentiles", "nearest"]
KEYS += ["valley", "steps"]
STEP_KEYS = ["threshold", "random_share", "n_near", "n_kept", "borderline"]


@pytest.fixture(autouse=True)
def _low(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty texts have no near duplicates: begin where there are some."""
    monkeypatch.setattr("layerdex.search.dedup.threshold_sweep._LOWEST", "p90")


@pytest.mark.parametrize("keep", ["first", "last"])
def test_json_counts_what_dedup_removes_at_each_threshold(
    cli: Cli, shared: Path, keep: str
) -> None:
    words = ("dedup", shared, "--layer", 1, "--keep", keep)
    found = cli.json(*words, "--suggest")
    assert list(found) == KEYS
    assert (found["layer"], found["keep"]) == (1, keep)
    assert (found["n"], found["n_texts"], found["n_exact"]) == (20, 19, 1)
    assert len(found["steps"]) > 4
    assert found["steps"][0]["n_near"] > 1
    for step in found["steps"]:
        assert list(step) == STEP_KEYS
        once = cli.json(*words, "--threshold", step["threshold"])
        assert (step["n_near"], step["n_kept"]) == (once["n_near"], once["n_kept"])


def test_percentiles_and_the_nearest_are_numpys(cli: Cli, shared: Path) -> None:
    found = cli.json("dedup", shared, "--suggest")
    texts = [one["text"] for one in DOCUMENTS if one["id"] != "again"]
    true = similarities(texts, texts, 3)
    upper = true[np.triu_indices(len(texts), 1)]
    expected = np.percentile(upper, [50, 90, 99, 99.9, 99.99])
    assert list(found["percentiles"]) == ["p50", "p90", "p99", "p99.9", "p99.99"]
    assert list(found["percentiles"].values()) == pytest.approx(expected, abs=1e-5)
    np.fill_diagonal(true, -2)
    counts, _ = np.histogram(true.max(axis=1), found["nearest"]["bounds"])
    assert found["nearest"]["counts"] == counts.tolist()


def test_tables_show_the_nearest_thresholds_and_pairs(cli: Cli, shared: Path) -> None:
    words = ("dedup", shared, "--suggest", "--layer", 2)
    found, text = cli.json(*words), cli.data(*words)
    lines = text.splitlines()
    assert lines[0].startswith("20 documents = 19 texts + 1 exact ")
    assert lines[0].endswith("(layer 2, keep first)")
    shown = "  ".join(f"{name} {value:.3f}" for name, value in found["percentiles"].items())
    assert lines[1] == f"Random pairs: {shown}"
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line.startswith("No valley")]
    cells = [line.split() for line in lines]
    for low, n in zip(found["nearest"]["bounds"], found["nearest"]["counts"], strict=False):
        [row] = [one for one in cells if one[1:2] == ["-"] and one[0] == f"{low:g}"]
        assert row[3] == str(n)
    for step in found["steps"]:
        [at] = [
            i
            for i, one in enumerate(cells)
            if one[:2] == [f"{step['threshold']:g}", str(step["n_near"])] and one[1:2] != ["-"]
        ]
        for pair in step["borderline"][:1]:
            assert f"{pair['similarity']:.5f}" in cells[at]
            for line, words_of in zip(lines[at + 1 : at + 3], pair["texts"], strict=True):
                assert words_of.startswith(line.strip().removesuffix("…"))


def test_the_picture_is_drawn(cli: Cli, shared: Path, tmp_path: Path) -> None:
    result = cli.ok("dedup", shared, "--suggest", "--json", "--plot", tmp_path / "a.svg")
    assert result.stderr == f"Picture written to {tmp_path / 'a.svg'}\n"
    assert (tmp_path / "a.svg").read_text("utf-8").startswith("<?xml")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--suggest", "--threshold", "0.9"], "--threshold"),
        (["--suggest", "-o", "kept.jsonl"], "--output"),
        (["--suggest", "--clusters", "who.jsonl"], "--clusters"),
        (["--plot", "a.png"], "--plot"),
    ],
)
def test_what_does_not_go_with_suggest_is_refused(
    cli: Cli, shared: Path, words: list[str], named: str
) -> None:
    assert {named, "--suggest"} <= set(cli.usage("dedup", shared, *words).split())


def test_a_picture_into_the_index_is_refused(cli: Cli, shared: Path) -> None:
    message = cli.error("dedup", shared, "--suggest", "--plot", shared / "a.png")
    assert "is inside the index" in message
