"""Paths longer than SQLite opens, and names as long as a file system allows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layerdex import Index
from layerdex.errors import StorageError
from tests.encoders import WordEncoder
from tests.storage.corpora import ids_of, rows

# SQLite's own limit of a path is 512 bytes with "-journal".
LONGEST = 504 - len("/catalog.sqlite3.new")


def path_of(n_bytes: int, parent: Path) -> Path:
    """Return a path of so many bytes, of names of 200 at most."""
    path = parent
    while (left := n_bytes - len(os.fsencode(path)) - 1) > 0:
        path /= "x" * min(200 if left != 201 else 100, left)
    assert len(os.fsencode(path)) == n_bytes
    return path


def test_an_index_may_have_as_long_a_path_as_sqlite_opens(tmp_path: Path) -> None:
    path = path_of(LONGEST, tmp_path)
    Index.create(path, model=WordEncoder()).add(rows(3))
    assert ids_of(Index.open(path)) == ["d0", "d1", "d2"]


@pytest.mark.parametrize("n_bytes", [LONGEST + 1, 1_000, 5_000])
def test_a_longer_path_is_refused_before_anything_is_created(tmp_path: Path, n_bytes: int) -> None:
    path = path_of(n_bytes, tmp_path)
    with pytest.raises(StorageError, match=r"has \d+ bytes, and SQLite opens none of more than"):
        Index.create(path, model=WordEncoder())
    assert list(tmp_path.iterdir()) == []


def test_a_short_name_in_a_deep_working_directory_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(25):  # beyond PATH_MAX
        Path("y" * 200).mkdir()
        os.chdir("y" * 200)
    with pytest.raises(StorageError, match=r"has \d+ bytes"):
        Index.create("index", model=WordEncoder())
    assert list(Path().iterdir()) == []


def test_an_index_that_moved_to_a_longer_path_says_why_it_is_not_opened(tmp_path: Path) -> None:
    Index.create(tmp_path / "index", model=WordEncoder())
    parent = path_of(500, tmp_path / "deep")
    parent.mkdir(parents=True)
    path = (tmp_path / "index").rename(parent / "index")
    with pytest.raises(StorageError, match=r"has \d+ bytes, and SQLite opens none"):
        Index.open(path)


def test_a_backup_to_a_long_path_is_refused_before_anything_is_copied(
    index: Index, tmp_path: Path
) -> None:
    before = set(tmp_path.iterdir())
    with pytest.raises(StorageError, match="opens none of more than"):
        index.backup(path_of(500, tmp_path / "deep"))
    assert set(tmp_path.iterdir()) == before


def test_names_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("i" * 255)
    index = Index.create(path, model=WordEncoder())
    index.add(rows(3))
    assert index.export(tmp_path / ("é" * 124 + ".jsonl")) == 3
    assert index.backup(tmp_path / ("b" * 255)) == 3
    assert ids_of(Index.open(tmp_path / ("b" * 255))) == ["d0", "d1", "d2"]
    assert sorted(len(os.fsencode(entry.name)) for entry in tmp_path.iterdir()) == [254, 255, 255]
