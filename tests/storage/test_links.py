"""Links, pipes and devices in place of an index's files: never followed, waited for or written."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from layerdex import Index
from layerdex.errors import DamagedIndexError, LayerdexError
from tests.encoders import WordEncoder
from tests.storage.hostile import (
    assert_clear,
    use,
)
from tests.storage.redigest import redigest
from tests.storage.stored import layer_paths, query

CANARY = b"nothing of an index\n" * 4096


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file beside the index that nobody may write or take for a part of it."""
    file = tmp_path / "outside"
    file.write_bytes(CANARY)
    return file


OWN_FILES = [
    "catalog.sqlite3",
    "catalog.sqlite3-wal",
    "catalog.sqlite3-shm",
    "catalog.sqlite3-journal",
    "catalog.sqlite3.crc32",
    "catalog.sqlite3.crc32.new",
    "catalog.sqlite3.new",
    "writer.lock",
]


@pytest.mark.parametrize("name", OWN_FILES)
def test_link_in_place_of_a_file_is_neither_read_nor_written(
    path: Path, outside: Path, name: str
) -> None:
    (path / name).unlink(missing_ok=True)
    (path / name).symlink_to(outside)
    found = use(path)
    assert_clear(found)
    assert all(f"{name} is a symbolic link" in message for message in found.values())
    assert outside.read_bytes() == CANARY


def test_link_to_a_sound_catalog_elsewhere_is_not_followed(sound: Path, path: Path) -> None:
    before = (sound / "catalog.sqlite3").read_bytes()
    (path / "catalog.sqlite3").unlink()
    (path / "catalog.sqlite3").symlink_to(sound / "catalog.sqlite3")
    assert_clear(use(path))
    assert (sound / "catalog.sqlite3").read_bytes() == before


def test_creating_an_index_follows_no_link(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "new").mkdir()
    for name in ("writer.lock", "catalog.sqlite3.new"):
        (tmp_path / "new" / name).symlink_to(outside)
    with pytest.raises(LayerdexError, match="is a symbolic link"):
        Index.create(tmp_path / "new", model=WordEncoder())
    assert outside.read_bytes() == CANARY


@pytest.mark.parametrize("name", ["catalog.sqlite3.crc32", "catalog.sqlite3-wal", "writer.lock"])
def test_pipe_in_place_of_a_file_is_not_waited_for(path: Path, name: str) -> None:
    (path / name).unlink(missing_ok=True)
    os.mkfifo(path / name)
    assert_clear(use(path))


def test_seal_of_any_size_is_read_in_part_only(path: Path) -> None:
    os.truncate(path / "catalog.sqlite3.crc32", 1 << 40)
    assert use(path) == {}  # it is none


def _linked_file(path: Path, target: Path) -> None:
    file = layer_paths(path)[0]
    file.rename(target)
    file.symlink_to(target)


def _linked_segment(path: Path, target: Path) -> None:
    folder = layer_paths(path)[0].parent
    folder.rename(target)
    folder.symlink_to(target)


def _linked_segments(path: Path, target: Path) -> None:
    (path / "segments").rename(target)
    (path / "segments").symlink_to(target)


@pytest.mark.parametrize("link", [_linked_file, _linked_segment, _linked_segments])
def test_layer_file_is_not_reached_through_a_link(
    path: Path, tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    target = tmp_path / "elsewhere"
    link(path, target)
    folder = next(tmp_path.rglob("layer-01.faiss")).parent
    (folder / "mine.new").write_bytes(CANARY)  # as a killed repair would leave one
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if _is_outside(file, path)}
    found = use(path)
    assert_clear(found)
    assert any("a link" in message or "is not a folder" in message for message in found.values())
    after = {file: file.read_bytes() for file in tmp_path.rglob("*") if _is_outside(file, path)}
    assert after == before


@pytest.mark.parametrize("link", [_linked_file, _linked_segment])
def test_backup_copies_nothing_through_a_link(
    path: Path, tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    index = Index.open(path, encoder=WordEncoder())
    link(path, tmp_path / "elsewhere")
    with pytest.raises(DamagedIndexError):
        index.backup(tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def _is_outside(file: Path, path: Path) -> bool:
    return file.is_file() and not file.is_relative_to(path)


def test_linked_segment_is_mended_beside_its_target(path: Path, tmp_path: Path) -> None:
    _linked_segment(path, tmp_path / "elsewhere")
    before = {file: file.read_bytes() for file in (tmp_path / "elsewhere").iterdir()}
    index = Index.open(path, encoder=WordEncoder(), damaged=True)
    problems = index.verify()
    assert {problem.reason for problem in problems} == {"a link"}
    index.repair(problems)
    assert Index.open(path, encoder=WordEncoder()).verify() == []
    assert not layer_paths(path)[0].parent.is_symlink()
    assert {file: file.read_bytes() for file in (tmp_path / "elsewhere").iterdir()} == before


@pytest.mark.parametrize("size_bytes", [0, None])
def test_layer_file_that_is_a_pipe_is_not_waited_for(path: Path, size_bytes: int | None) -> None:
    file = layer_paths(path)[0]
    file.unlink()
    os.mkfifo(file)
    if size_bytes is not None:
        query(path, f"UPDATE segment_file SET size_bytes = {size_bytes} WHERE layer = 0")
        redigest(path)
    assert_clear(use(path))


def test_devices_are_no_layer_files(path: Path) -> None:
    file = layer_paths(path)[0]
    file.unlink()
    try:
        os.mknod(file, 0o600 | 0o020000, os.makedev(1, 5))  # as /dev/zero
    except OSError as error:
        pytest.skip(os.strerror(error.errno or errno.EPERM))
    index = Index.open(path, encoder=WordEncoder(), damaged=True)
    assert [problem.reason for problem in index.verify()] == ["not a file"]


@pytest.fixture
def link(path: Path) -> Path:
    """A link to the directory, by which a user names the index."""
    (path.parent / "links").symlink_to(".")
    (path.parent / "named").symlink_to("links/index")
    return path.parent / "named"


def test_link_that_the_user_names_is_followed(link: Path, path: Path) -> None:
    assert use(link) == {}
    index = Index.open(link, encoder=WordEncoder())
    assert index.path == path
    index.add([{"id": "new", "text": "a text of its own"}])
    assert [document.id for document in Index.open(path).get("new")] == ["new"]
    assert link.is_symlink()


@pytest.mark.parametrize("name", OWN_FILES)
def test_forged_links_stay_refused_behind_a_link_of_the_user(
    link: Path, path: Path, outside: Path, name: str
) -> None:
    test_link_in_place_of_a_file_is_neither_read_nor_written(path, outside, name)
    found = use(link)
    assert_clear(found)
    assert all(f"{name} is a symbolic link" in message for message in found.values())
    assert outside.read_bytes() == CANARY


@pytest.mark.parametrize("forge", [_linked_file, _linked_segment, _linked_segments])
def test_layer_file_is_not_reached_through_a_second_link(
    link: Path, path: Path, tmp_path: Path, forge: Callable[[Path, Path], None]
) -> None:
    forge(path, tmp_path / "elsewhere")
    assert_clear(use(link))


def test_index_stays_the_one_to_which_a_link_led(link: Path, path: Path, sound: Path) -> None:
    index = Index.open(link, encoder=WordEncoder())
    n_documents = len(index)
    Index.create(path.with_name("other"), model=WordEncoder())
    link.unlink()
    link.symlink_to("other")
    assert len(index) == n_documents
    assert len(Index.open(link)) == 0


def test_what_is_put_to_a_link_is_put_where_that_leads(link: Path, path: Path) -> None:
    for name in ("created", "saved", "back"):
        path.with_name(name).symlink_to(f"places/{name}")
    Index.create(path.with_name("created"), model=WordEncoder())
    index = Index.open(link)
    n_documents = index.backup(path.with_name("saved"))
    assert Index.open(path.with_name("saved")).restore(path.with_name("back")) == n_documents
    assert Index.open(path.with_name("created")).restore(link) == 0
    assert len(Index.open(path)) == 0
    for name in ("created", "saved", "back"):
        assert path.with_name(name).is_symlink()
        assert Index.open(path.with_name(name)).path == path.parent / "places" / name
    assert {entry.name for entry in (path.parent / "places").iterdir()} == {
        "created",
        "saved",
        "back",
    }
