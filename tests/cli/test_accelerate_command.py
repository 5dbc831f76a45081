"""``layerdex accelerate``, and what ``search`` and ``info`` say of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from layerdex import Index
from layerdex.errors import LockedIndexError
from layerdex.index import accelerating, approximates
from layerdex.search.knn import approximate
from layerdex.storage.store import Store
from tests.cli.corpus import write_jsonl
from tests.cli.runner import Cli

QUERY = "my card is at the bank"


@pytest.fixture
def accelerated(cli: Cli, path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index with an approximate index of layer 2, used although it is small."""
    monkeypatch.setattr(approximates, "N_LEAST", 1)
    monkeypatch.setattr(approximate, "_ROW_COST", 1e9)
    result = cli.ok("accelerate", path, "--layers", 2, "--recall", 0.5)
    assert result.stdout.startswith("20 documents; recall@10 on 10 queries, target 0.5\n")
    return path


def test_answers_say_whether_they_are_exact(cli: Cli, accelerated: Path) -> None:
    found = cli.json("search", accelerated, QUERY, "--layer", 2, "-k", 3)
    assert [hit["exact"] for hit in found] == [False] * 3
    exact = cli.json("search", accelerated, QUERY, "--layer", 2, "-k", 3, "--exact")
    assert [hit["exact"] for hit in exact] == [True] * 3
    assert [hit["id"] for hit in found] == [hit["id"] for hit in exact]  # all are candidates
    assert {hit["exact"] for hit in cli.json("search", accelerated, QUERY, "--layer", 1)} == {True}
    like = ("--like", "card-0", "--layer", 2, "-k", 3)
    assert not cli.json("search", accelerated, *like)[0]["exact"]
    assert cli.json("search", accelerated, *like, "--exact")[0]["exact"]


def test_a_note_gives_the_recall_and_how_to_do_without(
    cli: Cli, accelerated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [made] = cli.json("info", accelerated)["approximate"]
    bound = min(measured["bound"] for measured in made["measured"])
    result = cli.ok("search", accelerated, QUERY, "--layer", "1,2")
    assert result.stderr == (
        f"Approximate, recall@10 measured as at least {bound:.4f} at layer 2; --exact compares "
        "every document\n"
    )
    many = cli.ok("search", accelerated, QUERY, "--layer", "1,2", "-k", 12)
    assert f"{bound:.4f} at layer 2, of the 10 nearest and not of all 12; --exact" in many.stderr
    load = approximates._load

    def load_measured(store: Store, record: Mapping[str, Any]) -> approximate.ApproximateLayer:
        layer = load(store, record)  # so few documents are measured without a filter only
        filtered = replace(layer.measured[0], share=0.01)
        return replace(layer, measured=(*layer.measured, filtered))

    monkeypatch.setattr(approximates, "_load", load_measured)
    filtered = cli.ok("search", accelerated, QUERY, "--layer", 2, "--where", "id != card-1")
    assert f"measured as {bound:.4f} at layer 2 with other filters" in filtered.stderr
    assert "at least" not in filtered.stderr
    assert cli.data("search", accelerated, QUERY, "--layer", "1,2", "--exact")
    assert cli.ok("search", accelerated, QUERY, "--layer", "1,2", "-q").stderr == ""


def test_nothing_found_approximately_is_not_said_of_all_documents(
    cli: Cli, accelerated: Path
) -> None:
    words = ("search", accelerated, "zebra", "--layer", 2, "--min-similarity", 1)
    assert "no document that was compared reaches --min-similarity 1.0\n" in cli.ok(*words).stderr
    assert "no document reaches" in cli.ok(*words, "--exact").stderr


def test_info_shows_target_bound_and_changes(
    cli: Cli,
    accelerated: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [made] = cli.json("info", accelerated)["approximate"]
    assert (made["layer"], made["n"], made["target"], made["is_stale"]) == (2, 20, 0.5, False)
    assert "layer 2, recall at least" in " ".join(cli.data("info", accelerated).split())
    cli.ok("delete", accelerated, "card-0", "card-1", "card-2", "card-3")
    [made] = cli.json("info", accelerated)["approximate"]
    assert (made["n_dead"], made["n_tail"], made["is_stale"]) == (4, 0, True)
    assert "stale: not used" in " ".join(cli.data("info", accelerated).split())
    assert cli.json("search", accelerated, QUERY, "--layer", 2)[0]["exact"]
    assert f"'layerdex accelerate {accelerated} --layers 2 --recall 0.5'" in caplog.text
    caplog.clear()
    monkeypatch.setattr(approximates, "N_LEAST", 20_000)  # so few are not accelerated again
    assert cli.json("search", accelerated, QUERY, "--layer", 2)[0]["exact"]
    assert f"'layerdex accelerate {accelerated} --layers 2 --drop' to remove it" in caplog.text


def test_drop_removes_all(cli: Cli, accelerated: Path) -> None:
    result = cli.ok("accelerate", accelerated, "--drop")
    assert result.stderr == f"Removed the approximate indexes of {accelerated}\n"
    assert cli.json("info", accelerated)["approximate"] is None
    assert cli.json("search", accelerated, QUERY, "--layer", 2)[0]["exact"]
    result = cli.ok("accelerate", accelerated, "--drop")
    assert result.stderr == f"There were no approximate indexes of {accelerated}\n"
    assert "--drop" in cli.usage("accelerate", accelerated, "--drop", "--json")


def test_drop_of_some_layers_keeps_the_others(cli: Cli, accelerated: Path) -> None:
    result = cli.ok("accelerate", accelerated, "--layers", 1, "--drop")
    assert result.stderr == f"There were no approximate indexes of layers 1 of {accelerated}\n"
    cli.ok("accelerate", accelerated, "--layers", 1, "--recall", 0.5)
    result = cli.ok("accelerate", accelerated, "--layers", 2, "--drop")
    assert result.stderr == f"Removed the approximate indexes of layers 2 of {accelerated}\n"
    assert [made["layer"] for made in cli.json("info", accelerated)["approximate"]] == [1]
    assert cli.json("search", accelerated, QUERY, "--layer", 2)[0]["exact"]
    assert not cli.json("search", accelerated, QUERY, "--layer", 1)[0]["exact"]
    for option in ("--recall", "--queries"):
        assert option in cli.usage("accelerate", accelerated, "--drop", option, "0.9")
    assert "layer 99" in cli.error("accelerate", accelerated, "--layers", 99, "--drop")
    assert len(cli.json("info", accelerated)["approximate"]) == 1
    cli.ok("accelerate", accelerated, "--layers", 1, "--drop")
    assert cli.json("info", accelerated)["approximate"] is None


def test_queries_of_a_file_count(cli: Cli, accelerated: Path, tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "asked.jsonl", [{"text": f"my card {i}"} for i in range(30)])
    [made] = cli.json("accelerate", accelerated, "--layers", 1, "--queries", file, "--recall", 0.5)
    assert (made["layer"], made["n_queries"]) == (1, 25)  # a half, with the 20 documents
    assert [one["layer"] for one in Index.open(accelerated).info().approximate or []] == [1, 2]


def test_a_recall_that_no_setting_reaches_is_said(
    cli: Cli, accelerated: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Ten queries cannot show it, even if nothing was missed.
    cli.ok("accelerate", accelerated, "--layers", 2, "--recall", 0.99)
    assert "no setting reaches a recall of 0.99" in caplog.text
    [made] = cli.json("info", accelerated)["approximate"]
    assert made["measured"][0]["bound"] < 0.99


def test_a_small_index_is_refused(cli: Cli, path: Path) -> None:
    assert "exact search of fewer than 20,000" in cli.error("accelerate", path)
    assert "0.5<=x<=0.999" in cli.usage("accelerate", path, "--recall", 1)


def test_too_few_queries_are_refused_before_anything_is_built(
    cli: Cli, accelerated: Path, tmp_path: Path
) -> None:
    before = cli.json("info", accelerated)["approximate"]
    for n, recall in ((0, 0.5), (4, 0.5), (49, 0.9)):
        file = write_jsonl(tmp_path / "asked.jsonl", [{"text": f"my card {i}"} for i in range(n)])
        words = ("accelerate", accelerated, "--queries", file, "--recall", recall)
        assert f"{n} queries cannot show a recall of {recall:g}" in cli.error(*words)
    assert cli.json("info", accelerated)["approximate"] == before


def test_who_cannot_write_learns_it_before_anything_is_built(
    cli: Cli, accelerated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accelerating, "_build", None)
    with Index.open(accelerated)._open.store.write():
        result = cli("accelerate", accelerated, "--lock-timeout", 0.1)
    assert result.exit_code == LockedIndexError.exit_code
    assert "already writing" in result.stderr
