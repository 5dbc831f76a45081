"""Locks of SQLite that a process keeps because it stands still: one error, which names it."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

from layerdex import Index
from layerdex.errors import LayerdexError, LockedIndexError, StorageError
from layerdex.storage.catalog import engine
from layerdex.storage.maintenance import compaction
from tests.cli.runner import Cli
from tests.encoders import WordEncoder
from tests.storage import sqlite_calls
from tests.storage.corpora import ids_of, reopen, rows
from tests.storage.next_schema import DOCUMENTS, NEXT, installed, make_old, schema_of
from tests.storage.stopping import STATES, hold, read_with_locks, stopping, write_with_locks

# Without it each refusal takes the ten or thirty seconds that users wait.
needs_vfs = pytest.mark.skipif(
    sqlite_calls.library() is None, reason="this Python's SQLite hides its VFS"
)

# Of https://www.sqlite.org/src/file/src/os_unix.c and wal.c: the first byte and how many.
SHM = "catalog.sqlite3-shm"
PLACES = {
    "pending": ("catalog.sqlite3", 0x40000000, 1),
    "shared": ("catalog.sqlite3", 0x40000002, 510),
    "write": (SHM, 120, 1),
    "checkpoint": (SHM, 121, 1),
    "recovery": (SHM, 122, 1),
    "reader of the catalog": (SHM, 123, 1),
    "readers of the log": (SHM, 124, 4),
    "all of the shared memory": (SHM, 120, 8),
    "creating the shared memory": (SHM, 128, 1),
}
# Who only asks waits for all others: without shared memory the catalog must be recovered first.
FREE = {"reader of the catalog", "readers of the log"}


@pytest.fixture
def index(memory_folder: Path, encoder: WordEncoder) -> Index:
    index = Index.create(memory_folder / "index", model=encoder)
    index.add(rows(9))
    return index


@contextmanager
def begun(path: Path) -> Iterator[sqlite3.Connection]:
    """Write to a catalog with another program, which knows nothing of the writer's lock."""
    catalog = path / "catalog.sqlite3"
    with closing(
        sqlite3.connect(catalog, isolation_level=None, check_same_thread=False)
    ) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        yield foreign


def refusal_of(act: Callable[[], object]) -> LayerdexError | None:
    """Return the error of a question or change; any but those of this package comes through."""
    try:
        act()
    except LayerdexError as error:
        return error
    return None


def named(error: LayerdexError, pid: int) -> bool:
    """Return whether an error says who has to continue, in one line."""
    message = str(error)
    return (
        isinstance(error, LockedIndexError) and f"process {pid}" in message and "\n" not in message
    )


@needs_vfs
def test_a_writer_that_stops_anywhere_within_sqlite_is_named_and_loses_nothing(
    index: Index,
) -> None:
    refused: dict[str, LayerdexError] = {}
    answered: set[str] = set()
    seen: list[list[str]] = []

    def ask(asked: Index) -> None:
        ids = ids_of(asked)
        seen.extend([ids] if ids not in seen else [])

    with sqlite_calls.sleepless(), stopping(write_with_locks, index.path) as writer:
        for moment in writer.moments:
            for question in (lambda: ask(reopen(index)), lambda: ask(index)):
                if (error := refusal_of(question)) is None:
                    answered.add(moment)
                else:
                    refused[moment] = error
            refusal = refusal_of(lambda: index.delete("d1", lock_timeout_s=0))
            assert refusal is not None
            assert named(refusal, writer.pid)
    assert writer.process.exitcode == 0
    assert all(named(error, writer.pid) for error in refused.values())
    # Readers are refused while SQLite opens and closes the catalog, and not while it commits or
    # moves its log to the catalog.
    assert {moment.split()[0] for moment in refused} >= {"ftruncate", "fcntl", "unlink"}
    assert any("database is locked" in str(error) for error in refused.values())
    assert any("locking protocol" in str(error) for error in refused.values())
    assert {moment.split()[0] for moment in answered} >= {"pwrite64", "ftruncate", "fcntl"}
    assert len(answered) > 5
    assert seen == [state for state in STATES if state in seen]
    assert len(seen) > 1
    assert ids_of(reopen(index)) == STATES[-1]
    assert reopen(index).verify() == []


@needs_vfs
@pytest.mark.parametrize("has_log", [False, True])
def test_a_reader_that_stops_while_it_opens_is_named(
    index: Index, tmp_path: Path, has_log: bool
) -> None:
    path = index.path
    if has_log:  # as a killed writer leaves it, so that the reader recovers the log
        with index._open.store.read():
            reopen(index).set_labels({"d1": "of the log"})
            path = shutil.copytree(index.path, tmp_path / "killed")
        (path / SHM).unlink()
    refused = []
    with sqlite_calls.sleepless(), stopping(read_with_locks, path) as reader:
        for _ in reader.moments:
            for act in (
                lambda: Index.open(path),
                lambda: Index.open(path).delete("d1", lock_timeout_s=0, dry_run=True),
                lambda: Index.open(path, encoder=WordEncoder()).set_labels(
                    {"d2": "z"}, lock_timeout_s=0
                ),
            ):
                if (error := refusal_of(act)) is not None:
                    assert named(error, reader.pid)
                    refused.append(error)
    assert reader.process.exitcode == 0
    assert len(refused) > 3
    whole = Index.open(path)
    assert ids_of(whole) == STATES[0]
    assert whole.get("d1")[0].label == ("of the log" if has_log else "l1")
    assert whole.verify() == []


@needs_vfs
@pytest.mark.parametrize("place", PLACES)
def test_whatever_lock_a_stopped_process_has_each_operation_works_or_names_it(
    index: Index, place: str, tmp_path: Path
) -> None:
    index.add([{"id": "d9", "text": "one more"}])
    name, start, n_bytes = PLACES[place]
    target, other = tmp_path / "backup", tmp_path / "other"
    index.backup(other)
    operations: dict[str, Callable[[], object]] = {
        "open": lambda: Index.open(index.path),
        "search": lambda: index.search("text number7 of 2", k=1),
        "documents": lambda: ids_of(index),
        "info": index.info,
        "verify": index.verify,
        "export": lambda: index.export(tmp_path / "exported.jsonl"),
        "backup": lambda: index.backup(target),
        "add": lambda: index.add(rows(2), lock_timeout_s=0),
        "label": lambda: index.set_labels({"d3": place}, lock_timeout_s=0),
        "delete": lambda: index.delete("d9", missing_ok=True, lock_timeout_s=0),
        "compact": lambda: index.compact(lock_timeout_s=0),
        "purge": lambda: index.delete(purge=True, lock_timeout_s=0),
        "repair": lambda: index.repair([], lock_timeout_s=0),
        "transform": lambda: index.fit_transforms(lock_timeout_s=0),
        "restore": lambda: Index.open(other).restore(index.path, lock_timeout_s=0),
    }
    held = partial(hold, name=name, start=start, n_bytes=n_bytes)
    with sqlite_calls.sleepless(), stopping(held, index.path) as holder:
        assert next(holder.moments) == "held"
        command = Cli()("info", index.path)
        errors = {what: refusal_of(operation) for what, operation in operations.items()}
        assert next(holder.moments, None) is None  # it continues, and ends
    refused = {what: error for what, error in errors.items() if error is not None}
    for what, error in refused.items():
        is_open_question = what == "purge" and "question" in str(error)
        assert named(error, holder.pid) or is_open_question, (what, error)
    if place in FREE:
        assert "search" not in refused
        assert command.exit_code == 0
    else:
        # Restoring asks nothing of the index that it replaces.
        assert refused.keys() == operations.keys() - {"restore"}
        assert command.exit_code == 75
        assert command.stderr.startswith(f"Error: process {holder.pid} has locked the catalog")
    index = reopen(index)
    assert {"d0", "d7", "d8"} <= set(ids_of(index))
    assert index.verify() == []
    index.set_labels({"d4": "after"})
    assert index.get("d4")[0].label == "after"


@needs_vfs
@pytest.mark.parametrize("place", PLACES)
def test_whatever_lock_a_stopped_process_has_a_migration_works_or_is_put_off(
    memory_folder: Path, place: str
) -> None:
    path = make_old(memory_folder / "old")
    name, start, n_bytes = PLACES[place]
    held = partial(hold, name=name, start=start, n_bytes=n_bytes)
    with installed():
        with sqlite_calls.sleepless(), stopping(held, path) as holder:
            assert next(holder.moments) == "held"
            error = refusal_of(lambda: Index.open(path))
            assert next(holder.moments, None) is None
        # Whoever uses the shared memory has the catalog open.
        assert error is not None
        assert named(error, holder.pid) or "other processes are reading it" in str(error)
        migrated = Index.open(path)
        assert schema_of(path) == NEXT
        assert len(migrated) == len(DOCUMENTS)
        assert migrated.verify() == []


def test_a_change_waits_for_sqlite_as_long_as_for_another_writer(index: Index) -> None:
    with begun(index.path):
        start = time.monotonic()
        with pytest.raises(LockedIndexError, match=r"locked the catalog .*: try again later"):
            index.delete("d1", lock_timeout_s=0.2)
        assert 0.15 < time.monotonic() - start < 15  # SQLite's own timeout is 30 s
        assert ids_of(index) == STATES[0]
    index.delete("d1", lock_timeout_s=0)


def test_a_change_waits_a_moment_for_sqlite_even_if_it_waits_for_no_other_writer(
    index: Index,
) -> None:
    # Other programs open and close the catalog without the writer's lock.
    with begun(index.path) as foreign:
        timer = threading.Timer(0.15, partial(foreign.execute, "ROLLBACK"))
        timer.start()
        index.delete("d1", lock_timeout_s=0)
        timer.join()
        foreign.execute("BEGIN IMMEDIATE")
        start = time.monotonic()
        with pytest.raises(LockedIndexError):
            index.delete("d2", lock_timeout_s=0)
        assert 0.3 < time.monotonic() - start < 15
    assert "d1" not in ids_of(index)


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="the kernel does not list locks")
def test_a_lock_of_this_very_process_is_not_said_to_be_anothers(index: Index) -> None:
    catalog = index.path / "catalog.sqlite3"
    with begun(index.path), pytest.raises(LockedIndexError) as caught:
        index.delete("d1", lock_timeout_s=0)
    assert str(caught.value) == (
        f"another connection of this process has locked the catalog {catalog} (database is "
        "locked): try again later; end what it does, or close it"
    )


@pytest.mark.parametrize(
    ("about", "existing", "named"),
    [
        ("catalog.sqlite3", "catalog.sqlite3", "catalog.sqlite3"),
        ("catalog.sqlite3.new", "catalog.sqlite3.new", "catalog.sqlite3.new"),
        (".", "catalog.sqlite3", "catalog.sqlite3"),
        (".", "catalog.sqlite3.new", "catalog.sqlite3.new"),
        ("segments", "catalog.sqlite3", "catalog.sqlite3"),
        ("gone", "other", "gone"),
    ],
)
def test_an_error_of_a_lock_names_the_catalog_that_is_there(
    tmp_path: Path, about: str, existing: str, named: str
) -> None:
    (tmp_path / "segments").mkdir()
    (tmp_path / existing).touch()
    error = sqlite3.OperationalError("why")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    with pytest.raises(LockedIndexError) as caught, engine.translate_errors(tmp_path / about):
        raise error
    assert str(caught.value).startswith(
        f"another process or connection has locked the catalog {tmp_path / named} (why)"
    )


def test_a_writer_that_has_begun_waits_longer_whatever_its_lock_timeout(index: Index) -> None:
    with index._open.store.write(lock_timeout_s=0) as writer, begun(index.path) as foreign:
        timer = threading.Timer(0.5, partial(foreign.execute, "ROLLBACK"))
        timer.start()
        assert writer.delete(["d1"]) == 1
        timer.join()
    assert "d1" not in ids_of(index)


@needs_vfs
def test_segments_that_cannot_be_merged_for_a_lock_are_only_a_warning(
    index: Index, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for row in rows(8, start=9):
        index.add([row], auto_compact=False)
    merge = compaction._merge

    def merge_beside_another(*arguments: object) -> int:
        with begun(index.path):
            return merge(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(compaction, "_merge", merge_beside_another)
    with sqlite_calls.sleepless(), caplog.at_level(logging.WARNING):
        assert index.add(rows(1, start=17)).n_new == 1
    assert "locked the catalog" in caplog.text
    assert len(ids_of(index)) == 18
    monkeypatch.undo()
    index.add([])
    assert reopen(index).verify() == []


@pytest.mark.parametrize("kind", ["SQLITE_BUSY", "SQLITE_BUSY_RECOVERY", "SQLITE_PROTOCOL"])
def test_an_error_of_a_lock_is_told_from_one_of_the_disk(tmp_path: Path, kind: str) -> None:
    def fail(name: str) -> None:
        error = sqlite3.OperationalError("why")
        error.sqlite_errorcode = getattr(sqlite3, name)
        with engine.translate_errors(tmp_path):
            raise error

    with pytest.raises(LockedIndexError):
        fail(kind)
    with pytest.raises(StorageError):
        fail("SQLITE_IOERR_LOCK")
