"""Where an index may not be put: over what is no part of one, inside another, on a mount point."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from layerdex import Index
from layerdex.errors import IndexExistsError, OptionError, StorageError
from layerdex.storage.maintenance import restore
from tests.encoders import WordEncoder
from tests.storage.corpora import ids_of, rows

SEGMENT = "segments/0123456789abcdef"


@pytest.fixture
def path(index: Index) -> Path:
    index.add(rows(5))
    index.fit_transforms()
    return index._open.store.path


@pytest.fixture
def backup(path: Path, tmp_path: Path) -> Path:
    Index.open(path).backup(tmp_path / "backup")
    return tmp_path / "backup"


def tree(folder: Path) -> dict[str, bytes | None]:
    """Return all that is in a folder, but for what whoever reads the catalog makes."""
    made = ("catalog.sqlite3-wal", "catalog.sqlite3-shm")
    files = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.name not in made}
    return {name: p.read_bytes() if p.is_file() else None for name, p in files.items()}


def put_file(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("mine")


def put_folder(folder: Path) -> None:
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_text("mine")


def put_link(link: Path) -> None:
    link.symlink_to("catalog.sqlite3")


@pytest.mark.parametrize(
    ("name", "put"),
    [
        ("cron.log", put_file),
        ("backups", put_folder),
        ("link", put_link),
        (".hidden", put_file),
        ("a\nb", put_file),
        ("catalog.sqlite3.bak", put_file),
        ("catalog.sqlite3.new2", put_file),
        ("Segments", put_folder),
        ("segments/notes.txt", put_file),
        (f"{SEGMENT}/notes.txt", put_file),
        (f"{SEGMENT}/layer-00.faiss.bak", put_file),
        (f"{SEGMENT}.old", put_folder),
        ("transforms/mine.safetensors", put_file),
        ("approximate/mine.safetensors", put_file),
        ("heads/deep", put_folder),
    ],
)
def test_nothing_is_removed_that_is_no_part_of_an_index(
    backup: Path, path: Path, name: str, put: Callable[[Path], None]
) -> None:
    put(path / name)
    before, steps = tree(path.parent), list[int]()
    with pytest.raises(IndexExistsError, match="move it away first") as caught:
        Index.open(backup).restore(path, on_progress=lambda done, _: steps.append(done))
    assert str(caught.value) == f"{path} also holds {name!r}: move it away first"
    assert steps == []  # before anything is copied
    assert tree(path.parent) == before


def test_nested_index_survives(backup: Path, path: Path) -> None:
    shutil.copytree(backup, path / "nested")
    with pytest.raises(IndexExistsError, match="also holds 'nested'"):
        Index.open(backup).restore(path)
    assert Index.open(path / "nested").verify() == []


def test_what_is_put_there_meanwhile_is_not_removed_either(backup: Path, path: Path) -> None:
    def put(*_: object) -> None:
        if not (path / "cron.log").exists():
            put_file(path / "cron.log")

    with pytest.raises(IndexExistsError, match=r"also holds 'cron.log'"):
        Index.open(backup).restore(path, on_progress=put)
    assert (path / "cron.log").read_text() == "mine"
    assert Index.open(path).verify() == []
    assert {entry.name for entry in path.parent.iterdir()} == {"backup", "index"}


def test_all_that_writers_leave_is_replaced(backup: Path, path: Path) -> None:
    killed = path.with_name("killed")
    with Index.open(path)._open.store.write():  # with its log, its shared memory and its lock
        shutil.copytree(path, killed)
    assert (killed / "catalog.sqlite3-wal").exists()
    for suffix in ("-journal", ".new", ".new-wal", ".new-shm", ".new-journal", ".crc32.new"):
        put_file(killed / f"catalog.sqlite3{suffix}")
    put_file(killed / f"{SEGMENT}.new" / "layer-00.faiss")
    put_file(killed / SEGMENT / "layer-11.new")
    put_file(killed / "heads" / f"{'0' * 32}.safetensors")
    Index.open(backup).restore(killed)
    assert Index.open(killed).verify() == []


@pytest.mark.parametrize("place", ["nested", "segments/deep/nested", "link"])
def test_no_index_is_put_inside_another(backup: Path, path: Path, place: str) -> None:
    path.with_name("link").symlink_to(path / "nested")
    target = path.parent / place if place == "link" else path / place
    before = tree(path)
    for put in (
        lambda: Index.create(target, model=WordEncoder()),
        lambda: Index.open(backup).restore(target),
        lambda: Index.open(path).backup(target),
        lambda: Index.open(backup).backup(target),
    ):
        with pytest.raises(OptionError, match=f"is inside the index {path}: choose another"):
            put()
    assert tree(path) == before


def test_a_file_that_is_only_called_as_a_catalog_makes_no_index(tmp_path: Path) -> None:
    (tmp_path / "catalog.sqlite3").write_text("of another program")
    assert len(Index.create(tmp_path / "mine", model=WordEncoder())) == 0


def test_backup_inside_the_target_is_told_to_be_moved(backup: Path, path: Path) -> None:
    inside = path / "backups" / "monday"
    inside.parent.mkdir()
    backup.rename(inside)
    with pytest.raises(OptionError, match="move the backup away first"):
        Index.open(inside).restore(path)
    assert ids_of(Index.open(inside)) == ids_of(Index.open(path))


@pytest.mark.parametrize("told_by", ["ismount", "mountinfo"])
def test_mount_point_is_refused_before_anything_is_copied(
    backup: Path, path: Path, monkeypatch: pytest.MonkeyPatch, told_by: str
) -> None:
    path = path.rename(path.with_name("an index\\"))
    if told_by == "ismount":
        monkeypatch.setattr(os.path, "ismount", lambda name: str(name) == str(path))
    else:  # a folder of the same disk
        line = f"36 35 98:0 /m {path}".replace("\\", "\\134").replace("an index", "an\\040index")
        mounted = f"22 1 0:21 / / rw\n{line} rw,noatime shared:1 - ext4 /dev/root rw\n"
        read = Path.read_bytes
        monkeypatch.setattr(
            Path,
            "read_bytes",
            lambda file: mounted.encode() if file.name == "mountinfo" else read(file),
        )
    before, steps = tree(path.parent), list[int]()
    with pytest.raises(OptionError, match="cannot be exchanged: restore to a folder inside it"):
        Index.open(backup).restore(path, on_progress=lambda done, _: steps.append(done))
    assert steps == []
    assert tree(path.parent) == before


def test_circle_of_links_is_a_clear_error(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    index = Index.open(backup)
    for put in (index.restore, index.backup, lambda path: Index.create(path, model=WordEncoder())):
        with pytest.raises(StorageError):
            put(tmp_path / "circle")


def test_working_directory_that_was_removed_is_a_clear_error(
    backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index.open(backup)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for use in (
        index.restore,
        index.backup,
        Index.open,
        lambda path: Index.create(path, model=WordEncoder()),
    ):
        with pytest.raises(StorageError, match="current directory is not there any more"):
            use("index")


def test_mount_points_are_those_of_the_system() -> None:
    assert b"/proc" in restore._mount_points()
