"""The SQL catalog: how it is created, opened for reading and opened for writing."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from layerdex.errors import (
    DamagedIndexError,
    IndexNotFoundError,
    OptionError,
    StorageError,
)
from layerdex.storage.catalog.metadata import parse_number
from layerdex.storage.catalog.revisions import apply_migrations
from layerdex.storage.catalog.seal import has_log
from layerdex.storage.files import sync_file, sync_folder

# Readers never wait for a writer in WAL mode; this covers the writer's own first checkpoint.
_BUSY_TIMEOUT_S = 30.0


def create_catalog(path: Path, fill: Callable[[Connection], None]) -> None:
    """Create a catalog at ``path``, whole or not at all; ``fill`` adds its first rows.

    It is built under a temporary name, flushed, and renamed.
    """
    temporary = new_catalog(path)
    # A checkpoint of WAL fails silently on a full disk; with a rollback journal commit says so.
    engine = write_engine(temporary, journal="DELETE", mode="rwc")
    with engine.connect() as connection:
        apply_migrations(connection)
        fill(connection)
        connection.commit()
    engine.dispose()
    put_in_place(temporary, path)


def new_catalog(path: Path) -> Path:
    """Return the name under which a catalog is made, where nothing is left of an earlier try."""
    for leftover in path.parent.glob(path.name + ".new*"):
        leftover.unlink()
    return path.with_name(path.name + ".new")


def put_in_place(temporary: Path, path: Path) -> None:
    """Turn a finished catalog's journal to WAL, flush it, and rename it."""
    # Not later: under its own name it would have a rollback journal meanwhile, which no reader
    # can undo, and a reader of the renamed one would be in the way.
    turn_to_wal(temporary)
    sync_file(temporary)
    temporary.replace(path)
    sync_folder(path.parent)


def turn_to_wal(path: Path) -> None:
    """Let readers and a writer of a catalog work side by side from now on."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def write_engine(path: Path, *, journal: str = "WAL", mode: str = "rw") -> Engine:
    """Open the catalog for the one writer: WAL, every commit flushed, BEGIN IMMEDIATE.

    Mode ``rw`` never makes a file where there is none.
    """
    address = f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}"

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            address, uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None
        )
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute(f"PRAGMA journal_mode={journal}")
        # NORMAL can lose the last commits when the power goes.
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        return connection

    # A deferred transaction that reads and then writes fails with SQLITE_BUSY at once.
    return _engine(connect, begin="BEGIN IMMEDIATE")


def read_engine(path: Path) -> Engine:
    """Open the catalog read-only; in a place that cannot be written, as immutable.

    Raises `IndexNotFoundError` where there is no catalog and `StorageError` where it cannot be
    read.
    """
    if not path.is_file():
        raise IndexNotFoundError(f"{path.parent} holds no index (no {path.name} in it)")
    address = f"file:{quote(os.fsencode(path.absolute()))}?mode=ro"

    def connect() -> sqlite3.Connection:
        connection: sqlite3.Connection
        try:
            connection = _connect_read_only(address)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname == "SQLITE_READONLY_ROLLBACK":
                _roll_back(path)
                connection = _connect_read_only(address)
            elif has_log(path) or not _cannot_share(error, path.parent):
                raise
            else:
                stamp = _stamp(path)
                connection = _connect_read_only(address + "&immutable=1", _ImmutableConnection)
                connection.stamp = stamp  # type: ignore[attr-defined]
        # What a catalog from elsewhere computes in its schema calls no function of ours.
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.create_function("parse_number", 1, _parse_number, deterministic=True)
        return connection

    return _engine(connect, begin="BEGIN")


def empty_log(connection: Connection) -> None:
    """Bring the write-ahead log into the catalog, unless a reader still needs it."""
    connection.rollback()
    driver: Any = connection.connection.driver_connection
    driver.execute("PRAGMA busy_timeout=0")
    try:
        driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError as error:
        # A query of this connection that Ctrl-C cut off; its own error is the one to tell.
        if error.sqlite_errorcode != sqlite3.SQLITE_LOCKED:
            raise
    driver.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_S * 1000:.0f}")


class _ImmutableConnection(sqlite3.Connection):
    """A connection that looks at no lock; ``stamp`` is of the catalog before it was opened."""

    stamp: tuple[int, int, bool]


@contextmanager
def unchanged_if_immutable(connection: Connection, path: Path) -> Iterator[None]:
    """Refuse an answer from a catalog that its owner changed while it was read as immutable.

    That is how `read_engine` opens it where SQLite can share no memory with a writer.
    """
    driver: Any = connection.connection.driver_connection
    if not isinstance(driver, _ImmutableConnection):
        yield
        return
    changed = StorageError(
        f"{path} was changed while it was read without SQLite's shared memory: ask again"
    )
    try:
        yield
    except (DatabaseError, DamagedIndexError) as error:
        if _stamp(path) != driver.stamp:  # which explains it
            raise changed from error
        raise
    if _stamp(path) != driver.stamp:
        raise changed


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Turn database and operating-system errors about ``path`` into Layerdex's own."""
    try:
        yield
    except (DatabaseError, sqlite3.DatabaseError) as error:
        original = error.orig if isinstance(error, DatabaseError) else error
        reason = str(original)
        signs = ("no such table", "malformed", "Could not decode")
        is_usual = isinstance(original, sqlite3.OperationalError)
        if not is_usual or any(sign in reason for sign in signs):
            raise DamagedIndexError(
                f"the catalog {path} is damaged ({reason}): restore it from a backup"
            ) from error
        # SQLite cannot grow its shared-memory file on a full disk, and calls that an I/O error.
        hint = " (is the disk full?)" if "I/O" in reason else ""
        raise StorageError(f"cannot use the catalog {path}: {reason}{hint}") from error
    except BrokenPipeError:
        raise  # a callback's: nothing of an index is a pipe
    except UnicodeEncodeError as error:
        if error.encoding != "utf-8":  # a callback's, such as one that prints
            raise
        raise OptionError(f"{error.object!a} is not text: it has a lone surrogate") from error
    except OSError as error:
        where = error.filename or path
        raise StorageError(f"cannot use {where}: {error.strerror or error}") from error


def _engine(connect: object, *, begin: str) -> Engine:
    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)

    def on_begin(connection: Connection) -> None:
        # With isolation_level=None the driver itself never begins a transaction.
        connection.exec_driver_sql(begin)

    event.listen(engine, "begin", on_begin)
    return engine


def _connect_read_only(
    address: str, kind: type[sqlite3.Connection] = sqlite3.Connection
) -> sqlite3.Connection:
    connection = sqlite3.connect(
        address, uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None, factory=kind
    )
    try:
        connection.execute("SELECT 1 FROM sqlite_master").close()
    except sqlite3.OperationalError:
        connection.close()
        raise
    return connection


def _roll_back(path: Path) -> None:
    """Undo what a migration was changing in the journal's mode when its process died."""
    with closing(sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S)) as connection:
        connection.execute("SELECT 1 FROM sqlite_master").close()


def _parse_number(text: str | None) -> float | None:
    return None if text is None else parse_number(text)


def _stamp(path: Path) -> tuple[int, int, bool]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, has_log(path)


def _cannot_share(error: sqlite3.OperationalError, folder: Path) -> bool:
    """Say whether SQLite failed for want of its shared-memory file beside a WAL catalog.

    It can make none in a read-only place, nor on a full disk.
    """
    return error.sqlite_errorname == "SQLITE_IOERR_SHMSIZE" or is_read_only(folder)


def is_read_only(folder: Path) -> bool:
    """Say whether this user can write nothing in a folder."""
    read_only_mount = bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    return read_only_mount or not os.access(folder, os.W_OK)
