"""Files of two states beside each other: a log, or a journal, that SQLite would apply."""

from __future__ import annotations

import shutil
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from layerdex import Index
from layerdex.errors import DamagedIndexError, StorageError
from layerdex.storage.catalog import log
from layerdex.storage.catalog.log import read_salt
from layerdex.storage.store import Store
from tests.encoders import WordEncoder
from tests.storage.corpora import ids_of, rows
from tests.storage.stored import query, read_versions

CATALOG = "catalog.sqlite3"


def killed(path: Path, target: Path, change: Callable[[Index], object]) -> None:
    """Copy an index as a writer leaves it that is killed after ``change``."""
    index = Index.open(path, encoder=WordEncoder())
    change(index)
    with index._open.store.write() as writer:
        writer.delete(["d1"])
        writer.delete(["d2"])
        shutil.copytree(path, target)
    assert (target / f"{CATALOG}-wal").stat().st_size > 0


def open_and_read(path: Path) -> list[str]:
    return ids_of(Index.open(path, encoder=WordEncoder()))


def add(path: Path) -> object:
    return Index.open(path, encoder=WordEncoder()).add(rows(1, start=90))


@pytest.fixture
def left(index: Index, tmp_path: Path) -> Path:
    """What a killed writer left; ``backup`` beside it is an earlier copy by hand, at rest."""
    index.add(rows(9))
    path = index._open.store.path
    shutil.copytree(path, tmp_path / "backup")
    killed(path, tmp_path / "left", lambda index: index.delete("d0"))
    return tmp_path / "left"


def test_log_of_a_killed_writer_is_applied_to_its_own_catalog(left: Path) -> None:
    assert open_and_read(left) == [f"d{i}" for i in range(3, 9)]
    add(left)
    assert open_and_read(left) == [*(f"d{i}" for i in range(3, 9)), "d90"]


@pytest.mark.parametrize("files", [[""], ["", ".crc32"], ["", ".crc32", "-shm"]], ids=str)
@pytest.mark.parametrize("use", [open_and_read, add, Store])
def test_log_beside_a_restored_catalog_is_refused_and_nothing_changes(
    left: Path, files: list[str], use: Callable[[Path], object]
) -> None:
    for suffix in files:
        shutil.copyfile(left.parent / "backup" / (CATALOG + suffix), left / (CATALOG + suffix))
    before = {file.name: file.read_bytes() for file in left.glob(f"{CATALOG}*")}
    with pytest.raises(DamagedIndexError, match=r"-wal holds changes.*layerdex restore.*remove"):
        use(left)
    assert {file.name: file.read_bytes() for file in left.glob(f"{CATALOG}*")} == before


def test_remedy_that_the_message_names_restores_the_copy(left: Path) -> None:
    shutil.copyfile(left.parent / "backup" / CATALOG, left / CATALOG)
    (left / f"{CATALOG}-wal").unlink()
    assert open_and_read(left) == [f"d{i}" for i in range(9)]
    assert read_versions(left) == read_versions(left.parent / "backup")
    assert Index.open(left).verify() == []


def test_log_beside_the_catalog_of_a_backup_made_meanwhile_is_refused(
    index: Index, tmp_path: Path
) -> None:
    index.add(rows(9))
    with index._open.store.write() as writer:
        writer.delete(["d1"])
        index.backup(tmp_path / "backup")  # by the very writer whose log it meets
        writer.delete(["d2"])
        shutil.copytree(index._open.store.path, tmp_path / "left")
    shutil.copyfile(tmp_path / "backup" / CATALOG, tmp_path / "left" / CATALOG)
    with pytest.raises(DamagedIndexError, match="-wal holds changes"):
        open_and_read(tmp_path / "left")


def test_log_of_an_earlier_writer_beside_a_later_catalog_is_refused(
    index: Index, left: Path
) -> None:
    later = index._open.store.path
    index.delete("d5")
    shutil.copyfile(left / f"{CATALOG}-wal", later / f"{CATALOG}-wal")
    with pytest.raises(DamagedIndexError, match="-wal holds changes"):
        open_and_read(later)


def test_log_of_another_index_beside_that_of_a_killed_writer_is_refused(
    left: Path, tmp_path: Path
) -> None:
    other = Index.create(tmp_path / "other", model=WordEncoder())
    other.add(rows(9))
    killed(tmp_path / "other", tmp_path / "other-left", lambda _: None)
    shutil.copyfile(tmp_path / "other-left" / f"{CATALOG}-wal", left / f"{CATALOG}-wal")
    with pytest.raises(DamagedIndexError, match="-wal holds changes"):
        open_and_read(left)


def test_catalog_restored_while_an_index_is_open_is_noticed_by_its_next_question(
    left: Path,
) -> None:
    index = Index.open(left, encoder=WordEncoder())
    assert len(index) == 6
    shutil.copyfile(left.parent / "backup" / CATALOG, left / CATALOG)
    with pytest.raises(DamagedIndexError, match="-wal holds changes"):
        index.search("text number3 of 3")


def test_log_that_a_reader_kept_from_being_emptied_stays_valid(
    index: Index, tmp_path: Path
) -> None:
    index.add(rows(9))
    with index._open.store.read() as snapshot:
        Index.open(index._open.store.path, encoder=WordEncoder()).delete("d0")
        Index.open(index._open.store.path, encoder=WordEncoder()).delete("d1")
        assert snapshot.n_documents == 9
        shutil.copytree(index._open.store.path, tmp_path / "copy")
    assert open_and_read(tmp_path / "copy") == [f"d{i}" for i in range(2, 9)]
    assert open_and_read(index._open.store.path) == [f"d{i}" for i in range(2, 9)]


def test_index_of_a_version_without_salts_is_accepted_as_before(left: Path) -> None:
    query(left, "PRAGMA user_version=0")
    with (
        closing(sqlite3.connect(left / CATALOG)) as reader,
        closing(sqlite3.connect(left / CATALOG, isolation_level=None)) as old,
    ):
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM setting").fetchone()
        old.execute("UPDATE document SET label = 'l9' WHERE row = 4")
        old.execute("UPDATE document SET label = 'l0' WHERE row = 4")
        shutil.copytree(left, left.parent / "old")
    assert (left.parent / "old" / f"{CATALOG}-wal").stat().st_size > 0
    assert open_and_read(left.parent / "old") == [f"d{i}" for i in range(3, 9)]
    add(left.parent / "old")
    assert query(left.parent / "old", "PRAGMA user_version") > [(0,)]


@pytest.mark.parametrize("size", [0, 20, 32, 40, 56, 2_000, 4_151])
def test_torn_log_is_none_as_it_is_to_sqlite(left: Path, size: int) -> None:
    shutil.copyfile(left.parent / "backup" / CATALOG, left / CATALOG)
    torn = left / f"{CATALOG}-wal"
    torn.write_bytes(torn.read_bytes()[:size])
    assert open_and_read(left) == [f"d{i}" for i in range(9)]


def test_shared_memory_of_another_catalog_is_not_used(index: Index, left: Path) -> None:
    index.add(rows(40, start=100))
    shm = index._open.store.path / f"{CATALOG}-shm"
    with index._open.store.write() as writer:
        writer.delete(["d5"])
        content = shm.read_bytes()
    for path in (left, left.parent / "backup"):
        expected = open_and_read(path)
        (path / f"{CATALOG}-shm").write_bytes(content)
        assert open_and_read(path) == expected
        add(path)
        assert open_and_read(path) == [*expected, "d90"]


def journal_of(catalog: Path, statement: str) -> bytes:
    """Return the rollback journal of a transaction that was cut off."""
    with closing(sqlite3.connect(catalog, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("PRAGMA cache_size=1")
        connection.execute("BEGIN")
        connection.execute(statement)
        connection.execute("UPDATE document_text SET text = text || printf('%5000d', row)")
        journal = catalog.with_name(f"{CATALOG}-journal").read_bytes()
        connection.execute("ROLLBACK")
    assert struct.unpack_from(">I", journal, 8) > (0,)  # flushed: it would be undone
    return journal


@pytest.mark.parametrize("use", [open_and_read, add])
def test_journal_of_another_catalog_is_refused_and_nothing_changes(
    index: Index, left: Path, use: Callable[[Path], object]
) -> None:
    index.add(rows(40, start=100))
    shutil.copytree(index._open.store.path, left.parent / "other")
    journal = journal_of(left.parent / "other" / CATALOG, "DELETE FROM metadatum")
    for path in (index._open.store.path, left.parent / "backup"):
        (path / f"{CATALOG}-journal").write_bytes(journal)
        before = (path / CATALOG).read_bytes()
        with pytest.raises(DamagedIndexError, match=r"-journal would undo.*remove"):
            use(path)
        assert (path / CATALOG).read_bytes() == before
        (path / f"{CATALOG}-journal").unlink()
        assert Index.open(path).verify() == []


def test_journal_without_records_of_another_catalog_does_not_cut_this_one(
    index: Index, left: Path
) -> None:
    index.add(rows(400, start=100))
    path = index._open.store.path
    journal = bytearray(512)
    size = (path / CATALOG).stat().st_size // 4096
    header = bytes.fromhex("d9d505f920a163d7") + struct.pack(">5I", 0, 7, size - 3, 512, 4096)
    journal[: len(header)] = header
    (path / f"{CATALOG}-journal").write_bytes(bytes(journal))
    with pytest.raises(DamagedIndexError, match="-journal would undo"):
        open_and_read(path)


def test_writers_that_end_and_begin_during_the_check_are_no_damage(
    index: Index, left: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check has read the log of one writer when it reads the salt of the next."""
    catalog, n_calls = left / CATALOG, 0
    old = (left / f"{CATALOG}-wal").read_bytes()
    Index.open(left, encoder=WordEncoder()).delete("d5")  # empties the log, draws a salt

    def overtaken(path: Path) -> int:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 1:
            (left / f"{CATALOG}-wal").write_bytes(b"")
        return read_salt(path)

    (left / f"{CATALOG}-wal").write_bytes(old)
    monkeypatch.setattr(log, "read_salt", overtaken)
    log.check_log(catalog)
    assert n_calls == 1


def test_catalog_that_is_gone_is_an_error_and_not_an_endless_check(left: Path) -> None:
    index = Index.open(left, encoder=WordEncoder())
    (left / CATALOG).unlink()
    with pytest.raises(StorageError, match=r"catalog.sqlite3: No such file"):
        index.search("text")
