"""Files that are there already: no command overwrites one without --force."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from layerdex import Index
from tests.cli.conftest import environment
from tests.cli.corpus import DOCUMENTS, EXPORTED, write_jsonl
from tests.cli.runner import Cli
from tests.cli.words import WordTransformer

MINE = "somebody's own\n"
NEAR = ("--threshold", "0.4")
WRITING = {
    "kept.jsonl": ("dedup", "INDEX", *NEAR, "-o"),
    "who.jsonl": ("dedup", "INDEX", *NEAR, "--clusters"),
    "rest.jsonl": ("dedup", "INDEX", "--against", "OTHER", "--threshold", "1", "-o"),
    "thresholds.svg": ("dedup", "INDEX", "--suggest", "--plot"),
    "all.jsonl": ("export", "INDEX", "-o"),
    "agreement.svg": ("layers", "INDEX", "-k", "4", "--plot"),
    "layers.svg": ("evaluate", "INDEX", "-k", "1", "--plot"),
    "both.svg": ("evaluate", "INDEX", "--compare", "OTHER", "--plot"),
    "review.csv": ("suspects", "INDEX", "-k", "5", "-o"),
    "bad.jsonl": ("index", "NEW", "SOURCE", "--on-error", "skip", "--rejects"),
}


@pytest.fixture
def places(shared: Path, tmp_path: Path) -> dict[str, object]:
    """The index of all tests and one of fewer, no index, and a source with a bad row."""
    Index.create(tmp_path / "other", model=WordTransformer()).add(DOCUMENTS[6:])
    rows = [{"id": "a", "text": "a card"}, {"id": "b", "text": ""}]
    source = write_jsonl(tmp_path / "source.jsonl", rows)
    return {"INDEX": shared, "OTHER": tmp_path / "other", "NEW": tmp_path / "new", "SOURCE": source}


def spelled(name: str, places: dict[str, object]) -> list[object]:
    return [places.get(word, word) for word in WRITING[name]]


@pytest.mark.parametrize("name", WRITING)
def test_a_file_that_holds_something_is_overwritten_with_force_only(
    cli: Cli, places: dict[str, object], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, file = spelled(name, places), tmp_path / name
    file.write_text(MINE)
    with monkeypatch.context() as patch:
        patch.delattr(Index, "open")  # before any work
        patch.delattr(Index, "create")
        message = cli.error(*words, file)
    assert message == f"{file} exists: choose another name, or overwrite it with --force"
    assert file.read_text() == MINE
    assert not (tmp_path / "new").exists()
    cli.ok(*words, file, "--force")
    first = file.read_text()
    assert first != MINE
    # A file of the same command is no exception, whatever it holds.
    assert message == cli.error(*words, file)
    assert file.read_text() == first


@pytest.mark.parametrize("name", ["kept.jsonl", "who.jsonl", "all.jsonl", "agreement.svg"])
def test_an_empty_file_and_a_pipe_are_written(
    cli: Cli, places: dict[str, object], tmp_path: Path, name: str
) -> None:
    words, file = spelled(name, places), tmp_path / name
    file.touch()
    cli.ok(*words, file)
    expected = file.read_bytes()
    assert expected
    pipe = tmp_path / f"pipe-{name}"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    cli.ok(*words, pipe)
    reader.join(60)
    assert read == [expected]


def test_a_link_to_a_file_is_that_file(cli: Cli, shared: Path, tmp_path: Path) -> None:
    file, link = tmp_path / "mine.jsonl", tmp_path / "link.jsonl"
    file.write_text(MINE)
    link.symlink_to(file)
    assert "--force" in cli.error("export", shared, "-o", link)
    cli.ok("export", shared, "-o", link, "--force")
    assert link.is_symlink()
    assert len(file.read_text().splitlines()) == len(EXPORTED)


def test_one_of_two_files_is_enough_to_refuse(cli: Cli, shared: Path, tmp_path: Path) -> None:
    kept, who = tmp_path / "kept.jsonl", tmp_path / "who.jsonl"
    who.write_text(MINE)
    assert str(who) in cli.error("dedup", shared, *NEAR, "-o", kept, "--clusters", who)
    assert not kept.exists()
    assert who.read_text() == MINE


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_standard_output_keeps_what_is_there(
    cli: Cli, shared: Path, tmp_path: Path, name: str
) -> None:
    assert cli.jsonl("export", shared, "-o", name) == EXPORTED
    file = tmp_path / "both.jsonl"
    file.write_text(MINE)
    words = [sys.executable, "-m", "layerdex", "export", str(shared), "-o", name]
    with file.open("a") as output:
        subprocess.run(words, stdout=output, env=environment(), check=True)
    assert file.read_text().startswith(MINE)
    assert len(file.read_text().splitlines()) == 1 + len(EXPORTED)


def test_the_demo_refuses_files_that_it_did_not_make(cli: Cli, tmp_path: Path) -> None:
    picture = tmp_path / "layers.png"
    picture.write_text(MINE)
    message = cli.error("demo", tmp_path)
    assert message == f"{picture} exists: choose another name, or overwrite it with --force"
    assert (picture.read_text(), [*tmp_path.iterdir()]) == (MINE, [picture])
