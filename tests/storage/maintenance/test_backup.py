"""Backups: whole, of one commit, also beside a writer."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from layerdex import Index
from layerdex.errors import DamagedIndexError, IndexExistsError, OptionError, StorageError
from layerdex.storage.maintenance import backup
from tests.encoders import WordEncoder
from tests.results import first
from tests.storage.corpora import flip_byte, ids_of, rows
from tests.storage.stored import layer_paths, read_versions


def test_backup_is_the_same_index(index: Index, tmp_path: Path) -> None:
    index.add(rows(20))
    index.delete("d3")
    steps: list[tuple[int, int | None]] = []
    target = tmp_path / "backups" / "monday"
    assert index.backup(target, on_progress=lambda *step: steps.append(step)) == 19
    assert len(set(steps)) == 12  # in bytes, a step for each layer file
    assert sorted(steps) == steps
    assert steps[-1][0] == steps[-1][1]
    versions = read_versions(index.path)
    assert read_versions(target) == [version for version in versions if version.live]
    copy = Index.open(target, encoder=WordEncoder())
    assert copy.verify() == []
    assert first(copy.search("text number4 of 4")) == first(index.search("text number4 of 4"))
    copy.add(rows(2, start=30))
    copy.delete("d4")
    assert "d4" in ids_of(index)
    assert len(index) == 19


def test_backup_beside_a_writer_is_of_one_commit(index: Index, tmp_path: Path) -> None:
    index.add(rows(8))
    done = threading.Event()

    def write() -> None:
        writer = Index.open(index._open.store.path, encoder=WordEncoder())
        for start in range(8, 120, 8):
            writer.add(rows(8, start=start))
            writer.delete(f"d{start}")
            writer.compact()
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    number = 0
    while not done.is_set():
        number += 1
        target = tmp_path / f"backup{number}"
        index.backup(target)
        copy = Index.open(target, encoder=WordEncoder())
        assert copy.verify() == []
        ids = [int(name[1:]) for name in ids_of(copy)]
        gone = set(range(8, max(ids) + 1, 8))
        # The newest window's first document may not be deleted yet, nothing else is missing.
        assert set(range(max(ids) + 1)) - set(ids) in (gone, gone - {max(gone, default=0)})
    thread.join()
    assert number > 1


@pytest.mark.parametrize("what", ["a folder", "a file"])
def test_nothing_is_overwritten(index: Index, tmp_path: Path, what: str) -> None:
    target = tmp_path / "there"
    target.mkdir() if what == "a folder" else target.write_text("mine")
    with pytest.raises(IndexExistsError, match="new directory"):
        index.backup(target)
    assert target.is_dir() or target.read_text() == "mine"


def test_damage_is_not_backed_up(index: Index, tmp_path: Path) -> None:
    index.add(rows(9))
    flip_byte(layer_paths(index._open.store.path)[2])
    with pytest.raises(DamagedIndexError, match="repair"):
        index.backup(tmp_path / "backup")
    assert [entry.name for entry in tmp_path.iterdir()] == ["index"]


def test_failed_backup_leaves_nothing(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "x")

    index.add(rows(9))
    monkeypatch.setattr(backup, "_copy_catalog", full)
    with pytest.raises(StorageError, match="No space left"):
        index.backup(tmp_path / "backup")
    assert [entry.name for entry in tmp_path.iterdir()] == ["index"]


def test_backup_restores_a_damaged_catalog(index: Index, tmp_path: Path) -> None:
    index.add(rows(9))
    index.backup(tmp_path / "backup")
    path = index._open.store.path
    flip_byte(path / "catalog.sqlite3", 5000)
    with pytest.raises(DamagedIndexError):
        Index.open(path)
    shutil.rmtree(path)
    (tmp_path / "backup").rename(path)
    assert len(Index.open(path)) == 9


@pytest.mark.parametrize("target", [None, "", 5, "a\0b"])
def test_no_path_is_an_error_of_our_own(index: Index, target: object) -> None:
    with pytest.raises(OptionError, match="path"):
        index.backup(target)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", ["index/backup", "index/segments/a/b", "index/../index/c"])
def test_index_is_not_backed_up_into_itself(index: Index, tmp_path: Path, target: str) -> None:
    index.add(rows(3))
    before = sorted(index._open.store.path.rglob("*"))
    with pytest.raises(OptionError, match="inside the index"):
        index.backup(tmp_path / target)
    assert sorted(index._open.store.path.rglob("*")) == before
