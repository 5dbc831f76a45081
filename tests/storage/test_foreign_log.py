"""Files of two states beside each other: a log, or a journal, that SQLite would apply."""

from __future__ import annotations

import shutil
import sqlite3
import struct
from collections.abc import Callable
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path
from typing import Any

import pytest

from layerdex import Index
from layerdex.errors import DamagedIndexError, StorageError
from layerdex.storage.catalog import journal, log
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


def test_writer_killed_after_a_vacuum_leaves_its_own_log(index: Index, tmp_path: Path) -> None:
    index.add(rows(9))
    with Store(index._open.store.path).write() as writer:
        writer.vacuum()  # its first change
        shutil.copytree(writer.place.path, tmp_path / "left")
    assert (tmp_path / "left" / f"{CATALOG}-wal").stat().st_size > 0
    assert open_and_read(tmp_path / "left") == [f"d{i}" for i in range(9)]


def copies_of_a_session(path: Path, target: Path) -> list[Path]:
    """Copy an index after each commit of a writer whose log SQLite empties and begins again."""
    copies: list[Path] = []
    index = Index.create(path, model=WordEncoder(window=50))
    documents = [{"id": f"d{i}", "text": f"text number{i}", "m": "x" * 24_000} for i in range(200)]

    def copy(*_: object) -> None:
        copies.append(target / str(len(copies)))
        shutil.copytree(path, copies[-1], ignore=shutil.ignore_patterns("*-shm"))

    index.add(documents, on_progress=copy)
    with Store(path).write() as writer:
        writer.delete(["d0"])
        copy()
        writer.vacuum()
        copy()
        writer.delete(["d1"])
        copy()
    return copies


def test_log_of_the_same_writer_beside_a_later_or_an_earlier_catalog_is_refused(
    tmp_path: Path,
) -> None:
    copies = copies_of_a_session(tmp_path / "index", tmp_path)
    whole = [shutil.copytree(copy, tmp_path / "whole" / copy.name) for copy in copies]
    states = [open_and_read(path) for path in whole]
    assert [len(state) for state in states] == [50, 100, 150, 200, 199, 199, 198]
    n_refused = 0
    for at, catalog in enumerate(copies):
        for log_at, copy in enumerate(copies):
            mixed = shutil.copytree(catalog, tmp_path / "mixed" / f"{at}-{log_at}")
            shutil.copyfile(copy / f"{CATALOG}-wal", mixed / f"{CATALOG}-wal")
            try:
                found = open_and_read(mixed)
            except DamagedIndexError:
                n_refused += 1
            else:
                assert found == states[log_at]
                is_later = (catalog / CATALOG).read_bytes() != (copy / CATALOG).read_bytes()
                assert at <= log_at or not is_later
                assert Index.open(mixed).verify() == []
    assert n_refused > len(copies)


def test_commit_that_was_copied_in_part_does_not_bind_a_log_to_a_catalog(
    index: Index, tmp_path: Path
) -> None:
    index.add(rows(9))
    path = index._open.store.path
    with Store(path).write() as writer:
        writer.delete(["d1"])
        writer.delete(["d2"])
        content = (path / f"{CATALOG}-wal").read_bytes()
        driver: Any = writer._connection.connection.driver_connection
        driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        shutil.copytree(path, tmp_path / "copy", ignore=shutil.ignore_patterns("*-shm"))
    (tmp_path / "copy" / f"{CATALOG}-wal").write_bytes(content[: -(24 + 4096)])
    with pytest.raises(DamagedIndexError, match="-wal holds changes"):
        open_and_read(tmp_path / "copy")


def test_log_kept_by_readers_goes_on_with_its_salts_in_the_next_session(
    index: Index, tmp_path: Path
) -> None:
    index.add(rows(9))
    path = index._open.store.path
    with ExitStack() as readers:
        readers.enter_context(index._open.store.read())
        for i in range(3):
            Index.open(path, encoder=WordEncoder()).delete(f"d{i}")
            shutil.copytree(path, tmp_path / str(i), ignore=shutil.ignore_patterns("*-shm"))
        with Store(path).write() as writer:
            writer.delete(["d3"])
            readers.close()  # so that this writer can empty the log
    for i in range(3):
        assert open_and_read(tmp_path / str(i)) == [f"d{k}" for k in range(i + 1, 9)]
        shutil.copyfile(path / CATALOG, tmp_path / str(i) / CATALOG)
        with pytest.raises(DamagedIndexError, match="-wal holds changes"):
            open_and_read(tmp_path / str(i))
    assert open_and_read(path) == [f"d{k}" for k in range(4, 9)]


def test_log_copied_before_a_vacuum_beside_a_catalog_copied_after_it(tmp_path: Path) -> None:
    path = tmp_path / "index"
    index = Index.create(path, model=WordEncoder(window=1_000))
    index.add([{"id": f"d{i}", "text": f"text number{i}", "m": "x" * 4_000} for i in range(1_500)])
    index.delete(*(f"d{i}" for i in range(0, 1_500, 3)))

    def copy(statement: str) -> None:
        if statement == "VACUUM":
            shutil.copytree(path, tmp_path / "before")
        elif statement.startswith("PRAGMA application_id="):
            shutil.copyfile(path / CATALOG, tmp_path / "after")

    with Store(path).write() as writer:
        driver: Any = writer._connection.connection.driver_connection
        driver.set_trace_callback(copy)
        writer.vacuum()
    shutil.copyfile(tmp_path / "after", tmp_path / "before" / CATALOG)
    assert open_and_read(tmp_path / "before") == [f"d{i}" for i in range(1_500) if i % 3]
    assert Index.open(tmp_path / "before").verify() == []


def log_of_a_large_commit(path: Path, *, at: int, salt: int) -> bytes:
    """Return a log of one commit whose first page comes after ``at`` others.

    SQLite keeps that page in memory until the commit, and spills others before.
    """
    for n in range(at, at + 40):
        copy = shutil.copytree(path, path.with_name(f"{path.name}-{salt}-{at}-{n}"))
        with closing(sqlite3.connect(copy / CATALOG, isolation_level=None)) as connection:
            connection.execute("PRAGMA cache_size=5")
            connection.execute("BEGIN")
            connection.execute(f"PRAGMA user_version={salt}")
            connection.execute("CREATE TABLE other (content)")
            for _ in range(n):
                connection.execute("INSERT INTO other VALUES (zeroblob(3000))")
            connection.execute("COMMIT")
            content = (copy / f"{CATALOG}-wal").read_bytes()
        frames = range(32, len(content), 24 + 4096)
        pages = [struct.unpack_from(">2I", content, frame) for frame in frames]
        if [page for page, _ in pages].index(1) == at:
            assert [n_pages > 0 for _, n_pages in pages].index(True) == len(pages) - 1
            return content
    raise AssertionError(at)


# A sector ends between the header of the first page's frame and the salt, or (41 and 62) within
# that header.
@pytest.mark.parametrize("at", [17, 18, 19, 41, 62])
@pytest.mark.parametrize("lost", [bytes(512), bytes(range(256)) * 2], ids=["zeros", "old"])
def test_large_first_commit_torn_by_a_power_loss_is_none_as_it_is_to_sqlite(
    left: Path, at: int, lost: bytes
) -> None:
    backup = left.parent / "backup"
    salt = read_salt(backup / CATALOG)
    content = log_of_a_large_commit(backup, at=at, salt=salt + 1)
    frame = 32 + at * (24 + 4096)
    sectors = range(frame // 512 * 512, frame + 84, 512)
    assert len(sectors) == 2
    for start in sectors:
        torn = shutil.copytree(backup, left.parent / f"torn-{start}")
        (torn / f"{CATALOG}-wal").write_bytes(content[:start] + lost + content[start + 512 :])
        assert open_and_read(torn) == [f"d{i}" for i in range(9)]
        assert query(torn, "SELECT count(*) FROM sqlite_master WHERE name = 'other'") == [(0,)]


@pytest.mark.parametrize("at", [17, 41])
def test_large_first_commit_to_another_catalog_is_refused(left: Path, at: int) -> None:
    backup = left.parent / "backup"
    salt = read_salt(backup / CATALOG)
    content = log_of_a_large_commit(backup, at=at, salt=salt + 2)
    (backup / f"{CATALOG}-wal").write_bytes(content)
    with pytest.raises(DamagedIndexError, match="-wal holds changes"):
        open_and_read(backup)


def test_log_of_a_version_without_salts_beside_a_catalog_with_one_is_refused(left: Path) -> None:
    path = left.parent / "backup"
    with closing(sqlite3.connect(path / CATALOG, isolation_level=None)) as old:
        old.execute("UPDATE document SET label = 'l9' WHERE row = 4")
        shutil.copytree(path, left.parent / "old")
    with pytest.raises(DamagedIndexError, match="-wal holds changes"):
        open_and_read(left.parent / "old")


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


@pytest.mark.parametrize(("at", "is_own"), [(18, True), (27, True), (95, True), (40, False)])
def test_journal_of_a_migration_is_its_own_catalogs(left: Path, at: int, is_own: bool) -> None:
    """It has the first page, with another journal mode (18) and change counter (24 and 92)."""
    catalog = left.parent / "backup" / CATALOG
    page = bytearray(catalog.read_bytes()[:4096])
    page[at] ^= 3
    n_pages = catalog.stat().st_size // 4096
    header = bytes.fromhex("d9d505f920a163d7") + struct.pack(">5I", 1, 7, n_pages, 512, 4096)
    record = struct.pack(">I", 1) + page + bytes(4)
    catalog.with_name(f"{CATALOG}-journal").write_bytes(header.ljust(512, b"\0") + record)
    with nullcontext() if is_own else pytest.raises(DamagedIndexError, match="-journal would undo"):
        journal.check_journal(catalog)


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
    with Store(left).write() as writer:  # empties the log, draws a salt
        writer.delete(["d5"])
        new = (left / f"{CATALOG}-wal").read_bytes()
        after = (left / CATALOG).read_bytes()
    (left / CATALOG).write_bytes(after)

    def overtaken(path: Path) -> int:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 1:
            # As the last connection and the next do; what is open stays as it was.
            (left / f"{CATALOG}-wal").unlink()
            (left / f"{CATALOG}-wal").write_bytes(new)
        return read_salt(path)

    (left / f"{CATALOG}-wal").write_bytes(old)
    monkeypatch.setattr(log, "read_salt", overtaken)
    log.check_log(catalog)
    assert n_calls == 2


def test_migration_that_ends_during_the_check_is_no_damage(
    left: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = left.parent / "other"
    shutil.copytree(left.parent / "backup", other)
    path = left.parent / "backup" / f"{CATALOG}-journal"
    path.write_bytes(journal_of(other / CATALOG, "DELETE FROM metadatum"))
    is_foreign = journal._is_foreign

    def overtaken(content: bytes, catalog: Path) -> bool:
        path.unlink()
        return is_foreign(content, catalog)

    with pytest.raises(DamagedIndexError, match="-journal would undo"):
        journal.check_journal(left.parent / "backup" / CATALOG)
    monkeypatch.setattr(journal, "_is_foreign", overtaken)
    journal.check_journal(left.parent / "backup" / CATALOG)


def test_catalog_that_is_gone_is_an_error_and_not_an_endless_check(left: Path) -> None:
    index = Index.open(left, encoder=WordEncoder())
    (left / CATALOG).unlink()
    with pytest.raises(StorageError, match=r"catalog.sqlite3: No such file"):
        index.search("text")
