"""Where an index may lie: odd names, read-only places, and what is there already."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from layerdex import Index
from layerdex.errors import IndexExistsError, IndexNotFoundError, LayerdexError, StorageError
from tests.encoders import WordEncoder
from tests.results import first
from tests.storage.corpora import ids_of, reopen, rows
from tests.storage.permissions import make_read_only, unprivileged
from tests.storage.stored import contents


@pytest.mark.parametrize(
    "name",
    ["with space", "what?mode=rw", "a#b", "100%25", "a&b=c", "naïve-書-🙂", "'quote\"", "a;b", "~"],
)
def test_odd_names_are_only_names(tmp_path: Path, name: str) -> None:
    index = Index.create(tmp_path / name / "index", model=WordEncoder())
    index.add(rows(3))
    again = reopen(index)
    assert ids_of(again) == ["d0", "d1", "d2"]
    assert first(again.search("text number2 of 2", k=1))[0].id == "d2"
    assert again.verify() == []
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_name_that_is_not_unicode_is_only_a_name(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"latin-\xe9")
    Index.create(path, model=WordEncoder()).add(rows(3))
    assert ids_of(Index.open(path)) == ["d0", "d1", "d2"]


def test_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Index.create("here", model=WordEncoder()).add(rows(3))
    assert ids_of(Index.open(Path("here"))) == ["d0", "d1", "d2"]


def test_read_only_copy_opens_without_a_log(index: Index, public_folder: Path) -> None:
    index.add(rows(5))
    path = public_folder / "copy"
    path.mkdir()
    shutil.copy(index._open.store.path / "catalog.sqlite3", path)
    shutil.copytree(index._open.store.path / "segments", path / "segments")
    make_read_only(path)
    before = {entry.name for entry in path.iterdir()}
    with unprivileged():
        reader = Index.open(path, encoder=WordEncoder())
        assert ids_of(reader) == [f"d{i}" for i in range(5)]
        assert first(reader.search("text number3 of 3", k=1))[0].id == "d3"
        assert reader.verify() == []
        assert reader.info().n_documents == 5
    assert {entry.name for entry in path.iterdir()} == before


def test_read_only_copy_opens_with_an_empty_log(index: Index, public_folder: Path) -> None:
    index.add(rows(5))
    path = public_folder / "copy"
    shutil.copytree(index._open.store.path, path)
    (path / "catalog.sqlite3-wal").write_bytes(b"")
    (path / "catalog.sqlite3-shm").unlink(missing_ok=True)
    make_read_only(path)
    with unprivileged():
        assert ids_of(Index.open(path)) == [f"d{i}" for i in range(5)]


def _copy_with_log(index: Index, path: Path) -> None:
    """Copy an index whose last commit is in the log alone: a reader keeps it from moving on."""
    index.add(rows(3))
    with index._open.store.read():
        reopen(index).add(rows(2, start=3))
        shutil.copytree(index._open.store.path, path)
    assert (path / "catalog.sqlite3-wal").stat().st_size > 0


def test_read_only_copy_with_a_log_shows_the_newest_commit(
    index: Index, public_folder: Path
) -> None:
    path = public_folder / "copy"
    _copy_with_log(index, path)
    make_read_only(path)
    with unprivileged():
        assert ids_of(Index.open(path)) == [f"d{i}" for i in range(5)]


def test_read_only_copy_whose_log_cannot_be_read_is_no_older_state(
    index: Index, public_folder: Path
) -> None:
    path = public_folder / "copy"
    _copy_with_log(index, path)
    (path / "catalog.sqlite3-shm").unlink()
    make_read_only(path)
    with unprivileged(), pytest.raises(StorageError, match=r"No such file|unable to open"):
        Index.open(path)


@pytest.mark.parametrize("seal", ["whole", "torn", "none"])
def test_read_only_index_is_read_whatever_its_seal(
    index: Index, public_folder: Path, seal: str
) -> None:
    index.add(rows(5))
    path = public_folder / "copy"
    shutil.copytree(index.path, path)
    if seal != "whole":
        (path / "catalog.sqlite3.crc32").unlink()
    if seal == "torn":
        (path / "catalog.sqlite3.crc32").write_bytes(b"1234")
    make_read_only(path)
    before = {entry.name for entry in path.iterdir()}
    with unprivileged():
        reader = Index.open(path, encoder=WordEncoder())
        assert ids_of(reader) == [f"d{i}" for i in range(5)]
        assert reader.verify() == []
        with pytest.raises(StorageError, match="Permission denied"):
            reader.delete("d1")
        with pytest.raises(StorageError, match="Permission denied"):
            reader.repair([])
    assert {entry.name for entry in path.iterdir()} == before


def test_writing_in_a_read_only_place_is_refused(index: Index, public_folder: Path) -> None:
    index.add(rows(3))
    path = public_folder / "index"
    index._open.store.path.rename(path)
    make_read_only(path)
    before = contents(path)
    with unprivileged():
        reader = Index.open(path, encoder=WordEncoder())
        with pytest.raises(StorageError, match="Permission denied"):
            reader.add(rows(1, start=9))
        with pytest.raises(StorageError):
            reader.compact()
        assert len(reader) == 3
    assert contents(path) == before


def test_folder_that_may_not_be_entered_is_a_clear_error(index: Index, public_folder: Path) -> None:
    path = public_folder / "index"
    index._open.store.path.rename(path)
    path.chmod(0o700)
    if os.getuid() != 0:
        path.chmod(0)
    with unprivileged(), pytest.raises(StorageError, match="Permission denied"):
        Index.open(path)


def test_creating_in_a_place_that_may_not_be_written_is_a_clear_error(public_folder: Path) -> None:
    public_folder.chmod(0o555)
    with unprivileged(), pytest.raises(StorageError, match="Permission denied"):
        Index.create(public_folder / "index", model=WordEncoder())


def test_opening_what_is_no_index_is_an_error_and_creates_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "folder").mkdir()
    for name in ("file", "folder", "nothing"):
        with pytest.raises(IndexNotFoundError, match=rf"{name} holds no index"):
            Index.open(tmp_path / name)
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["file", "folder"]


def test_creating_in_an_existing_index_is_an_error_and_harms_nothing(index: Index) -> None:
    index.add(rows(3))
    with pytest.raises(IndexExistsError, match="already holds an index"):
        Index.create(index._open.store.path, model=WordEncoder())
    assert ids_of(reopen(index)) == ["d0", "d1", "d2"]


def test_creating_in_a_folder_of_other_things_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(IndexExistsError, match=r"'thesis\.tex'"):
        Index.create(tmp_path, model=WordEncoder())
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_creating_over_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(LayerdexError, match="is a file"):
        Index.create(tmp_path / "file", model=WordEncoder())
    with pytest.raises(StorageError):
        Index.create(tmp_path / "file" / "below", model=WordEncoder())
    assert (tmp_path / "file").read_text() == "text"


def test_what_an_interrupted_creation_left_is_not_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "segments").mkdir()
    (tmp_path / "writer.lock").touch()
    (tmp_path / "catalog.sqlite3.new").write_bytes(b"half a catalog")
    (tmp_path / "catalog.sqlite3.new-wal").write_bytes(b"half a log")
    index = Index.create(tmp_path, model=WordEncoder())
    assert index.add(rows(2)).n_new == 2
    assert not list(tmp_path.glob("*.new*"))


def test_failed_creation_leaves_no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("layerdex.storage.catalog.engine.sync_file", fail)
        with pytest.raises(StorageError, match="Input/output error"):
            Index.create(tmp_path / "index", model=WordEncoder())
    with pytest.raises(IndexNotFoundError):
        Index.open(tmp_path / "index")
    assert len(Index.create(tmp_path / "index", model=WordEncoder())) == 0


def test_working_directory_may_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: WordEncoder
) -> None:
    monkeypatch.chdir(tmp_path)
    index = Index.create("mine", model=encoder)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    index.add(rows(3))
    assert first(index.search("text number1 of 1", k=1))[0].id == "d1"
    assert list(Path().iterdir()) == []


def test_index_that_is_gone_is_a_clear_error(index: Index) -> None:
    index.add(rows(3))
    shutil.rmtree(index._open.store.path)
    with pytest.raises(StorageError, match="No such file"):
        first(index.search("text"))


def test_reader_without_permission_to_write_sees_commits_beside_a_writer(
    index: Index, public_folder: Path
) -> None:
    index.add(rows(3))
    path = public_folder / "index"
    index._open.store.path.rename(path)
    writer = Index.open(path, encoder=index.encoder)
    for entry in path.rglob("*"):
        entry.chmod(0o755 if entry.is_dir() else 0o644)
    # SQLite's shared memory is there meanwhile, and the writer's files are open already.
    with writer._open.store.write() as open_writer, unprivileged():
        reader = Index.open(path, encoder=index.encoder)
        with reader._open.store.read() as snapshot:
            open_writer.delete(["d1"])
            assert snapshot.n_documents == 3
        assert len(reader) == 2


def test_size_of_an_index_is_told_beside_a_writer(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add(rows(3))
    whole = os.scandir

    def vanishing(path: Any) -> Any:
        if Path(path).parent.name == "segments":
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return whole(path)

    sizes = [file.stat().st_size for file in index._open.store.path.iterdir() if file.is_file()]
    monkeypatch.setattr(os, "scandir", vanishing)
    assert index.info().size_bytes >= min(sizes)


@pytest.mark.parametrize("name", [b"n\xff\xfe", b"a%20b", b"q?mode=ro", b"h#x", b"two words"])
def test_an_index_may_have_any_name(name: bytes, tmp_path: Path, encoder: WordEncoder) -> None:
    path = tmp_path / os.fsdecode(name)
    Index.create(path, model=encoder).add([{"id": "a", "text": "a cat"}])

    (result,) = Index.open(path, encoder=encoder).search("a cat", k=1)
    assert [hit.id for hit in result.hits] == ["a"]
    assert [os.fsencode(entry.name) for entry in tmp_path.iterdir()] == [name]
