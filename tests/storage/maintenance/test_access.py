"""Who may use a copy: those who may use the index; and where this user may not write."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from layerdex import Index
from layerdex.errors import StorageError
from layerdex.storage.store import Store
from tests.encoders import WordEncoder
from tests.storage.corpora import ids_of, rows
from tests.storage.next_schema import installed
from tests.storage.permissions import unprivileged
from tests.storage.steps import accelerate

GROUP = 4_321


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    entries = [folder, *folder.rglob("*")]
    return {str(p.relative_to(folder)): stat.S_IMODE(p.stat().st_mode) for p in entries}


def assert_modes(folder: Path, *, folders: int, files: int) -> None:
    for name, mode in modes(folder).items():
        expected = folders if (folder / name).is_dir() else files
        assert oct(mode) == oct(expected), name


@pytest.mark.parametrize(
    ("mask", "folders", "files"), [(0o002, 0o775, 0o664), (0o077, 0o700, 0o600)]
)
def test_every_file_has_the_mode_that_the_umask_gives(
    tmp_path: Path, mask: int, folders: int, files: int
) -> None:
    with umask(mask):
        index = Index.create(tmp_path / "index", model=WordEncoder())
        index.add(rows(20))
        index.fit_transforms()
        accelerate(index, 0.5)
        with index._open.store.write():
            assert {"catalog.sqlite3-wal", "catalog.sqlite3-shm"} <= modes(index.path).keys()
            assert_modes(index.path, folders=folders, files=files)
        index.compact()
        with installed():
            Store(index.path)  # which migrates it
        assert_modes(index.path, folders=folders, files=files)


def test_migration_keeps_the_mode_of_the_catalog(tmp_path: Path) -> None:
    Index.create(tmp_path / "index", model=WordEncoder())
    (tmp_path / "index" / "catalog.sqlite3").chmod(0o660)
    with installed():
        Store(tmp_path / "index")
    assert modes(tmp_path / "index")["catalog.sqlite3"] == 0o660


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """An index that a group works with: what is made in it belongs to the group, too."""
    with umask(0o002):
        index = Index.create(tmp_path / "shared", model=WordEncoder())
        index.add(rows(9))
    for entry in (index.path, *index.path.rglob("*")):
        try:
            os.chown(entry, -1, GROUP)
        except PermissionError:
            pytest.skip("only root may give files to any group")
        if entry.is_dir():
            entry.chmod(0o2775)
    return index.path


def assert_shared(path: Path) -> None:
    assert_modes(path, folders=0o2775, files=0o664)
    assert {entry.stat().st_gid for entry in (path, *path.rglob("*"))} == {GROUP}


def test_backup_is_shared_as_the_index_is(shared: Path, tmp_path: Path) -> None:
    with umask(0o077):
        Index.open(shared).backup(tmp_path / "backup")
    assert_shared(tmp_path / "backup")
    with umask(0o002):
        Index.open(tmp_path / "backup", encoder=WordEncoder()).add(rows(2, start=20))
    assert_shared(tmp_path / "backup")


def test_restored_index_is_shared_as_the_one_before(shared: Path, index: Index) -> None:
    index.add(rows(4))
    with umask(0o077):
        index.restore(shared)
    assert ids_of(Index.open(shared)) == ["d0", "d1", "d2", "d3"]
    (shared / "writer.lock").unlink(missing_ok=True)
    assert_shared(shared)


def test_private_index_stays_private(index: Index, tmp_path: Path) -> None:
    index.add(rows(4))
    for entry in (index.path, *index.path.rglob("*")):
        entry.chmod(0o700 if entry.is_dir() else 0o600)
    with umask(0o022):
        index.backup(tmp_path / "backup")
    assert_modes(tmp_path / "backup", folders=0o700, files=0o600)


def test_group_that_may_not_be_given_is_left_out(shared: Path, public_folder: Path) -> None:
    path = shared.rename(public_folder / "shared")
    public_folder.chmod(0o777)
    with unprivileged():
        Index.open(path).backup(public_folder / "backup")
    assert GROUP not in {entry.stat().st_gid for entry in (public_folder / "backup").rglob("*")}
    assert Index.open(public_folder / "backup").verify() == []


def test_index_that_cannot_be_removed_is_named(
    public_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    public_folder.chmod(0o777)
    with unprivileged():
        index = Index.create(public_folder / "index", model=WordEncoder())
        index.add(rows(3))
        index.backup(public_folder / "backup")
        index.add(rows(3, start=3))
        index.path.chmod(0o555)
        Index.open(public_folder / "backup").restore(index.path)
        assert ids_of(Index.open(index.path)) == ["d0", "d1", "d2"]
    [left] = public_folder.glob(".index.*")
    assert f"{left} is not needed any more and cannot be removed" in caplog.text


@pytest.mark.parametrize("method", ["backup", "restore"])
def test_place_that_may_not_be_written_is_named(
    index: Index, public_folder: Path, method: str
) -> None:
    path = index.path.rename(public_folder / "index")
    for entry in (path, *path.rglob("*")):
        entry.chmod(0o777 if entry.is_dir() else 0o666)
    (public_folder / "closed").mkdir(mode=0o755)
    if os.getuid() != 0:
        (public_folder / "closed").chmod(0o555)
    with unprivileged(), pytest.raises(StorageError) as caught:
        getattr(Index.open(path), method)(public_folder / "closed" / "copy")
    assert str(caught.value) == f"cannot write in {public_folder}/closed: Permission denied"
