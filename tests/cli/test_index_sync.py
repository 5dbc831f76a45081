"""``layerdex index --sync`` and ``--dry-run``."""

from __future__ import annotations

import errno
import os
import pty
import sys
from pathlib import Path
from typing import Any

import pytest

from layerdex.cli.context import Context, OutputForm
from tests.cli.corpus import DOCUMENTS, EXPORTED, write_jsonl
from tests.cli.runner import Cli
from tests.storage.stored import lasting


@pytest.fixture
def today(tmp_path: Path) -> Path:
    """Of the documents, five have vanished and one has changed; one is new."""
    changed = {**DOCUMENTS[7], "text": "another text"}
    fresh = {"id": "fresh\nid", "text": "a fresh text"}
    return write_jsonl(tmp_path / "today.jsonl", [*DOCUMENTS[5:7], changed, *DOCUMENTS[8:], fresh])


def test_sync_removes_what_has_vanished_and_says_how_many(
    cli: Cli, path: Path, today: Path
) -> None:
    assert cli.data("index", path, today, "--sync", "--max-removed", 5) == (
        "16 read = 1 new + 1 updated + 14 unchanged + 0 rejected; 5 removed\n"
        "16 documents in the index, layers 0-3 of minilm\n"
    )
    ids = [*(one["id"] for one in EXPORTED[5:]), "fresh\nid"]
    assert [one["id"] for one in cli.jsonl("export", path)] == ids
    assert cli.json("index", path, today, "--sync")["n_removed"] == 0


def test_a_dry_run_lists_each_change_and_makes_none(cli: Cli, path: Path, today: Path) -> None:
    before = lasting(path)
    result = cli.ok("index", path, today, "--sync", "--dry-run")
    vanished = [f"removed {one['id']}\n" for one in DOCUMENTS[:5]]
    assert result.stdout == "".join(
        [f"updated {DOCUMENTS[7]['id']}\n", "new fresh�id\n", *vanished]
    )
    counts = "16 read; 1 new, 1 updated, 14 unchanged, 0 rejected, 5 removed"
    assert result.stderr == (
        f"{counts}: dry run, nothing was changed\n"
        "5 of 20 documents is more than a tenth: "
        "this needs --max-removed 5, or a yes on a terminal\n"
    )
    enough = cli.ok("index", path, today, "--sync", "--dry-run", "--max-removed", "25%")
    assert enough.stderr == f"{counts}: dry run, nothing was changed\n"
    assert cli.json("index", path, today, "--sync", "--dry-run")["ids"] == {
        "new": ["fresh\nid"],
        "updated": [DOCUMENTS[7]["id"]],
        "removed": [one["id"] for one in DOCUMENTS[:5]],
    }
    assert lasting(path) == before


@pytest.mark.parametrize(
    ("words", "limit"),
    [
        ([], "a tenth"),
        (["--max-removed", "24%"], "24%"),
        (["--max-removed", "4"], "4"),
        (["-q"], "a tenth"),
    ],
)
def test_more_than_a_tenth_is_only_removed_if_that_is_said(
    cli: Cli, path: Path, today: Path, words: list[str], limit: str
) -> None:
    assert cli.error("index", path, today, "--sync", *words) == (
        f"5 of 20 documents would be removed, more than {limit}: new and changed documents are in, "
        "nothing was removed; --max-removed 5 allows it"
    )
    ids = [row["id"] for row in cli.jsonl("export", path)]
    assert ids == [*(one["id"] for one in EXPORTED), "fresh\nid"]


@pytest.mark.parametrize("value", ["-1", "101%", "0.5", "many", "1e3", "%"])
def test_a_limit_is_a_number_or_a_percentage(cli: Cli, path: Path, today: Path, value: str) -> None:
    said = cli.usage("index", path, today, "--sync", "--max-removed", value)
    assert said.endswith(f"{value!r} is neither a number of documents nor a percentage of them")
    assert cli.usage("index", path, today, "--max-removed", 3) == "--max-removed requires --sync"


@pytest.mark.parametrize("answer", ["y", "n"])
def test_a_terminal_is_asked_above_a_tenth(
    cli: Cli, path: Path, today: Path, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Context, "can_ask", True)
    result = cli("index", path, today, "--sync", stdin=f"{answer}\n")
    assert result.stderr.startswith("5 of 20 documents are in no SOURCE. Remove them? [y/N]: ")
    if answer == "y":
        assert result.exit_code == 0
        assert result.stdout.endswith(
            "rejected; 5 removed\n16 documents in the index, layers 0-3 of minilm\n"
        )
    else:
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.endswith("are in, nothing was removed\n")
    assert cli.json("info", path)["n_documents"] == (16 if answer == "y" else 21)


def test_the_question_needs_a_terminal_at_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with Path(os.ttyname(theirs)).open() as terminal, Path(os.devnull).open() as nothing:
        for stdin, stderr, quiet, form, can_ask in [
            (terminal, terminal, False, OutputForm.TABLE, True),
            (nothing, terminal, False, OutputForm.TABLE, False),
            (terminal, nothing, False, OutputForm.TABLE, False),
            (terminal, terminal, True, OutputForm.TABLE, False),
            (terminal, terminal, False, OutputForm.JSON, False),
        ]:
            monkeypatch.setattr(sys, "stdin", stdin)
            monkeypatch.setattr(sys, "stderr", stderr)
            context = Context()
            context.is_quiet, context.form = quiet, form
            assert context.can_ask is can_ask
    os.close(ours)
    os.close(theirs)


def test_a_dry_run_lists_the_first_of_each_kind(cli: Cli, path: Path, tmp_path: Path) -> None:
    rows = [{"id": f"n{i}", "text": f"new {i}"} for i in range(1012)]
    words = ("index", path, write_jsonl(tmp_path / "new.jsonl", rows), "--sync", "--dry-run")
    shown = cli.ok(*words).stdout.splitlines()
    assert shown[:10] == [f"new n{i}" for i in range(10)]
    assert [line.split()[0] for line in shown[10:20]] == ["removed"] * 10
    assert shown[20:] == ["… and 1,002 more new", "… and 10 more removed"]
    every = cli.ok(*words, "-v").stdout.splitlines()
    assert len(every) == 1012 + 20
    assert every[1011] == "new n1011"
    assert len(cli.json(*words)["ids"]["new"]) == 1012


def test_a_dry_run_makes_no_index(cli: Cli, source: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    assert "holds no index" in cli.error("index", tmp_path / "new", source, "--dry-run")
    assert sorted(tmp_path.iterdir()) == before


def test_sync_refuses_sources_without_documents(cli: Cli, path: Path, tmp_path: Path) -> None:
    empty = write_jsonl(tmp_path / "empty.jsonl", [])
    for words in (["--sync"], ["--sync", "--dry-run"]):
        assert "the sources hold no document" in cli.error("index", path, empty, *words)
    assert cli.jsonl("export", path) == EXPORTED


def test_sync_with_rows_of_unknown_documents_removes_nothing(
    cli: Cli, path: Path, tmp_path: Path
) -> None:
    source = tmp_path / "broken.jsonl"
    source.write_text('{"id": "card-1", "text": ""}\n{"id": "food-1", "te\n{"text": "new"}\n')
    words = ("index", path, source, "--sync", "--on-error", "skip", "-q")
    said = cli.error(*words)
    assert said.startswith(f"{source}:2: broken JSON")
    assert said.endswith(
        " (1 rejected row may be of any document, as no id can be read): "
        "nothing was removed; what is new or changed is committed"
    )
    assert cli.error(*words, "--dry-run").endswith("read): nothing would be removed")
    assert cli.jsonl("export", path)[:20] == EXPORTED


def test_sync_names_the_folder_that_cannot_be_read(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, path = tmp_path / "root", tmp_path / "of-files"
    for name in ("a/1.txt", "c/2.txt"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text(f"words of {name}")
    cli.ok("index", path, root)
    (root / "a" / "3.txt").write_text("new words")
    scan = os.scandir

    def refuse(folder: os.PathLike[str]) -> Any:
        if Path(folder).name == "c":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    said = cli.error("index", path, root, "--sync", "--on-error", "skip", "-q")
    assert said.startswith(f"{root}/c: the folder cannot be read: permission denied (1 ")
    monkeypatch.undo()
    assert [row["id"] for row in cli.jsonl("export", path)] == ["a/1.txt", "c/2.txt", "a/3.txt"]


def test_small_segments_are_merged_unless_that_is_turned_off(
    cli: Cli, path: Path, tmp_path: Path
) -> None:
    for i in range(9):
        one = write_jsonl(tmp_path / "one.jsonl", [{"id": f"n{i}", "text": f"number {i}"}])
        cli.ok("index", path, one, "--no-auto-compact")
    assert cli.json("info", path)["n_segments"] == 12
    cli.ok("index", path, write_jsonl(tmp_path / "one.jsonl", [{"id": "m", "text": "last"}]))
    assert cli.json("info", path)["n_segments"] == 4
