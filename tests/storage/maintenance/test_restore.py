"""Restoring: the old index or the backup is at the path, whole, whatever happens."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from layerdex import Index
from layerdex.errors import (
    DamagedIndexError,
    IndexExistsError,
    LockedIndexError,
    OptionError,
    StorageError,
)
from layerdex.storage.maintenance import restore
from layerdex.storage.store import Store
from tests.encoders import WordEncoder
from tests.storage.corpora import flip_byte, ids_of, rows
from tests.storage.scenes import CONTEXT
from tests.storage.steps import watched
from tests.storage.stored import layer_paths, read_versions

OLD, SAVED = [f"d{i}" for i in range(20) if i != 3], [f"d{i}" for i in range(9)]


@pytest.fixture
def backup(index: Index, tmp_path: Path) -> Path:
    """A backup of the first nine documents; the index has others by now, and a killed writer."""
    index.add(rows(9))
    index.backup(tmp_path / "backup")
    index.add(rows(11, start=9))
    path = index._open.store.path
    with index._open.store.write() as writer:
        writer.delete(["d3"])
        shutil.copytree(path, tmp_path / "left")
    shutil.rmtree(path)
    (tmp_path / "left").rename(path)
    return tmp_path / "backup"


@pytest.fixture
def path(index: Index) -> Path:
    return index._open.store.path


@pytest.fixture(params=["exchanged", "renamed"])
def exchange(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exchange directories at once, or as where the file system cannot."""
    if request.param == "renamed":
        monkeypatch.setattr(restore, "_exchange_at_once", lambda *_: False)


def test_backup_replaces_an_index_and_nothing_else_is_left(
    backup: Path, path: Path, exchange: None
) -> None:
    path.chmod(0o750)
    before = read_versions(backup)
    steps: list[tuple[int, int | None]] = []
    assert Index.open(backup).restore(path, on_progress=lambda *at: steps.append(at)) == 9
    assert steps[-1][0] == steps[-1][1]
    assert len(set(steps)) == 8  # layer files
    assert read_versions(path) == before == read_versions(backup)
    assert Index.open(path).verify() == []
    assert path.stat().st_mode & 0o777 == 0o750
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["backup", "index"]
    Index.open(path, encoder=WordEncoder()).add(rows(1, start=50))
    assert ids_of(Index.open(path)) == [*SAVED, "d50"]


@pytest.mark.parametrize("name", ["new", "folder/new", "empty"])
def test_backup_is_restored_to_where_nothing_is(backup: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    assert Index.open(backup).restore(tmp_path / name) == 9
    assert ids_of(Index.open(tmp_path / name)) == SAVED


def test_link_to_an_index_stays_a_link(backup: Path, path: Path) -> None:
    link = path.with_name("current")
    link.symlink_to("index")
    Index.open(backup).restore(link)
    assert link.is_symlink()
    assert ids_of(Index.open(path)) == SAVED


def test_damaged_backup_replaces_nothing(backup: Path, path: Path) -> None:
    flip_byte(layer_paths(backup)[0])
    with pytest.raises(DamagedIndexError, match="is damaged"):
        Index.open(backup).restore(path)
    assert ids_of(Index.open(path)) == OLD
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["backup", "index"]


def test_damaged_index_is_replaced(backup: Path, path: Path) -> None:
    flip_byte(path / "catalog.sqlite3", 20)
    shutil.rmtree(path / "segments")
    Index.open(backup).restore(path)
    assert Index.open(path).verify() == []


def test_what_is_no_index_is_not_replaced(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    with pytest.raises(IndexExistsError, match=r"not an index and not empty .*cat.jpg"):
        Index.open(backup).restore(tmp_path / "photos")
    with pytest.raises(StorageError, match="is a file"):
        Index.open(backup).restore(tmp_path / "photos" / "cat.jpg")


@pytest.mark.parametrize("place", ["", "/segments/inside", "/.."])
def test_backup_is_not_restored_into_itself_or_around_it(backup: Path, place: str) -> None:
    with pytest.raises(OptionError, match="choose another directory"):
        Index.open(backup).restore(f"{backup}{place}")
    assert ids_of(Index.open(backup)) == SAVED


def test_writer_of_the_old_index_keeps_it(backup: Path, path: Path) -> None:
    with Store(path).write() as writer:
        with pytest.raises(LockedIndexError):
            Index.open(backup).restore(path, lock_timeout_s=0)
        writer.delete(["d5"])
    assert len(Index.open(path)) == len(OLD) - 1


def test_writer_that_waits_meanwhile_writes_to_the_restored_index(
    backup: Path, path: Path, exchange: None
) -> None:
    waiting = Index.open(path, encoder=WordEncoder())
    thread = threading.Thread(target=partial(waiting.add, rows(1, start=70), lock_timeout_s=60))

    def start(*_: object) -> None:
        if thread.ident is None:
            thread.start()

    Index.open(backup).restore(path, on_progress=start)
    thread.join()
    assert ids_of(Index.open(path)) == [*SAVED, "d70"]
    assert Index.open(path).verify() == []


def test_reader_goes_on_with_the_restored_index(backup: Path, path: Path) -> None:
    index = Index.open(path, encoder=WordEncoder())
    with index._open.store.read() as snapshot:
        Index.open(backup).restore(path)
        assert snapshot.n_documents == len(OLD)
    assert ids_of(index) == SAVED
    other = Index.create(path.with_name("other"), model=WordEncoder())
    other.restore(path)
    with pytest.raises(StorageError, match="now holds another index"):
        index.search_like("d1")


def _restore_and_die(backup: Path, path: Path, at: int, *, is_atomic: bool) -> None:
    n_steps = 0

    def step(_: str) -> None:
        nonlocal n_steps
        if n_steps == at:
            os.kill(os.getpid(), signal.SIGKILL)
        n_steps += 1

    if not is_atomic:
        restore._exchange_at_once = lambda *_: False
    with watched(step):
        Index.open(backup).restore(path)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("is_atomic", [True, False])
def test_restore_killed_at_any_step_leaves_one_of_the_two_whole(
    backup: Path, tmp_path: Path, is_atomic: bool, pytestconfig: pytest.Config
) -> None:
    apart = 1 if pytestconfig.getoption("--soak") else 5
    seen: list[list[str]] = []
    code: int | None = -signal.SIGKILL
    n_steps = 0
    while code == -signal.SIGKILL:
        folder = tmp_path / str(n_steps)
        shutil.copytree(tmp_path / "index", folder / "index")
        process = CONTEXT.Process(
            target=partial(_restore_and_die, backup, folder / "index", n_steps, is_atomic=is_atomic)
        )
        process.start()
        process.join()
        code = process.exitcode
        n_steps += 1 if n_steps < 3 else apart
        kept = folder / "index"
        if not is_atomic and not kept.exists():  # then the old one is beside it
            [kept] = folder.glob(".index.*.old")
            kept.rename(folder / "index")
            kept = folder / "index"
        assert Index.open(kept).verify() == []
        seen.append(ids_of(Index.open(kept)))
        Index.open(backup).restore(kept)
        assert ids_of(Index.open(kept)) == SAVED
    assert code == 0
    assert seen[0] == OLD
    assert seen[-1] == SAVED
    assert all(ids in (OLD, SAVED) for ids in seen)
    assert n_steps > 10


def test_failed_rename_leaves_the_old_index(
    backup: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename: Callable[[Path, Path], Path] = Path.rename
    monkeypatch.setattr(restore, "_exchange_at_once", lambda *_: False)

    def failing(source: Path, target: Path) -> Path:
        if target == path and not source.name.endswith(".old"):
            raise OSError(5, "Input/output error")
        return rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", failing)
        with pytest.raises(StorageError, match="Input/output error"):
            Index.open(backup).restore(path)
    assert ids_of(Index.open(path)) == OLD
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["backup", "index"]
