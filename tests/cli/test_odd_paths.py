"""Indexes in folders whose names are no text: each command names them in one line of UTF-8."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import environment

DECOMPOSED, SURROGATE = "e\u0301".encode(), b"\xed\xa0\x80"
NAMES = [b"latin-\xe9", b"two\nlines", b"q?x#y%20 z", SURROGATE]
MORE = [pytest.param(name, marks=pytest.mark.soak) for name in (b"dots..", DECOMPOSED)]


def run(*words: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Run a command where what Python writes must be UTF-8."""
    return subprocess.run(
        [sys.executable, "-m", "layerdex", *words],
        capture_output=True,
        check=False,
        env={**environment(), "PYTHONIOENCODING": "utf-8:strict"},
    )


@pytest.mark.parametrize("name", [*NAMES, *MORE])
def test_a_damaged_file_is_named_whatever_its_folder_is_called(
    path: Path, tmp_path: Path, name: bytes
) -> None:
    folder = tmp_path / os.fsdecode(name)
    folder.mkdir()
    index = path.rename(folder / "index")
    file = next(index.rglob("*.faiss"))
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    result = run("verify", index)
    shown = result.stdout.decode()
    assert shown.startswith(str(tmp_path))
    assert shown.endswith(f"/{file.name}: wrong checksum\n")
    assert shown.count("\n") == 1
    assert result.returncode == 1
    assert result.stderr.count(b"\n") == 1


def test_an_index_of_such_a_name_is_exported_and_backed_up(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(NAMES[0])
    folder.mkdir()
    index = path.rename(folder / "index")
    for words in (
        ("export", index, "-o", folder / "out.jsonl"),
        ("export", index, "-o", folder / "out.parquet"),
        ("backup", index, folder / "copy"),
        ("info", folder / "copy", "--json"),
        ("search", folder / "copy", "--like", "card-3"),
    ):
        result = run(*words)
        assert result.returncode == 0, result.stderr
    names = sorted(entry.name for entry in folder.iterdir())
    assert names == ["copy", "index", "out.jsonl", "out.parquet"]
