"""The SQL catalog: creating it, opening it for writing, and translating its errors."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from layerdex.errors import (
    DamagedIndexError,
    LockedIndexError,
    OptionError,
    StorageError,
)
from layerdex.storage.catalog.journal import check_journal
from layerdex.storage.catalog.log import check_log, draw_salt
from layerdex.storage.catalog.revisions import apply_migrations
from layerdex.storage.catalog.sqlite_connection import CatalogConnection, overwriting
from layerdex.storage.directory import CATALOG, JOURNALS, catalog_owner, check_length
from layerdex.storage.files import create_file, has_inode_left, sync_file, sync_folder

# In WAL mode readers wait for no commit, but for a process that opens or closes the catalog, or
# recovers the log that a killed writer left.
BUSY_TIMEOUT_S = 30.0
# Other programs lock everyone out for some milliseconds whenever they open or close the catalog:
# of writers that did not wait at all, a sixth was refused beside such programs.
LEAST_BUSY_TIMEOUT_S = 0.5
_POLL_S = 0.05
# What SQLite calls a lock that another process did not release; the second one, after ten seconds
# of its own, where that process was about to create the shared memory.
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL)
_CACHE_KB = 65_536


def create_catalog(path: Path, fill: Callable[[Connection], None]) -> None:
    """Create a catalog at ``path``, whole or not at all; ``fill`` adds its first rows.

    It is built under a temporary name, flushed, and renamed.
    """
    temporary = new_catalog(path)
    create_file(temporary)
    # A checkpoint of WAL fails silently on a full disk; with a rollback journal commit says so.
    engine = write_engine(temporary, journal="DELETE")
    with engine.connect() as connection:
        apply_migrations(connection)
        fill(connection)
        connection.commit()
    engine.dispose()
    put_in_place(temporary, path)


def new_catalog(path: Path) -> Path:
    """Return the temporary name for a new catalog, after removing what an earlier try left."""
    remove_unfinished(path)
    return path.with_name(path.name + ".new")


def remove_unfinished(path: Path) -> None:
    """Remove what a killed process left of a new catalog for ``path``."""
    for journal in JOURNALS:
        path.with_name(f"{path.name}.new{journal}").unlink(missing_ok=True)


def put_in_place(temporary: Path, path: Path) -> None:
    """Switch a finished catalog's journal to WAL, flush it, and rename it to ``path``."""
    # Before the rename: a reader cannot undo the rollback journal that a catalog would have under
    # its final name, and a reader of the renamed catalog would block the switch.
    switch_to_wal(temporary)
    sync_file(temporary)
    temporary.replace(path)
    sync_folder(path.parent)


def switch_to_wal(path: Path) -> None:
    """Switch a new catalog to write-ahead logging, so that readers and a writer do not block.

    It gets a salt of its own, so that no log of the catalog from which it was copied matches it.
    """
    with closing(overwriting(sqlite3.connect(path, isolation_level=None))) as connection:
        connection.execute(f"PRAGMA user_version={draw_salt()}")
        connection.execute("PRAGMA journal_mode=WAL")


def write_engine(
    path: Path, *, journal: str = "WAL", busy_timeout_s: float = BUSY_TIMEOUT_S
) -> Engine:
    """Open an existing catalog for the one writer: WAL, commits flushed, BEGIN IMMEDIATE.

    A connection waits ``busy_timeout_s`` for locks of SQLite, but at least
    `LEAST_BUSY_TIMEOUT_S`, and not more than `BUSY_TIMEOUT_S`, as Ctrl-C does not end that.
    """
    timeout_s = min(max(busy_timeout_s, LEAST_BUSY_TIMEOUT_S), BUSY_TIMEOUT_S)
    return _write_engine(path.absolute(), journal, timeout_s)


# SQLAlchemy caches compiled statements per engine, so the engine outlives a `Writer`. The timeout
# is part of the key because opening, with its PRAGMA journal_mode, may have to wait already.
@lru_cache(maxsize=8)
def _write_engine(path: Path, journal: str, busy_timeout_s: float) -> Engine:
    def connect() -> sqlite3.Connection:
        check_log(path)
        check_journal(path)
        connection = sqlite3.connect(
            address_of(path, "rw"),
            uri=True,
            timeout=busy_timeout_s,
            isolation_level=None,
            factory=CatalogConnection,
        )
        try:
            connection.execute("PRAGMA trusted_schema=OFF")
            connection.execute(f"PRAGMA journal_mode={journal}")
            # NORMAL can lose the last commits when the power goes.
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            # A window changes pages all over the indexes, more than the 2 MB that SQLite caches: at
            # 200,000 documents it read three times as many pages, and wrote a third more.
            connection.execute(f"PRAGMA cache_size=-{_CACHE_KB}")
            return overwriting(connection)
        except sqlite3.Error:
            connection.close()
            raise

    # A deferred transaction that reads and then writes fails with SQLITE_BUSY at once.
    return new_engine(connect, begin="BEGIN IMMEDIATE")


def address_of(path: Path, mode: str) -> str:
    """Return the URI by which SQLite opens a catalog; raises `StorageError` for a long path."""
    check_length(path)
    return f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}"


def empty_log(connection: Connection, *, timeout_s: float = 0.0) -> bool:
    """Move the write-ahead log into the catalog, and return whether nothing is left in it.

    Readers that still need the log keep it; ``timeout_s`` is how long to wait for them.
    """
    connection.rollback()
    driver: Any = connection.connection.driver_connection
    (busy_timeout_ms,) = driver.execute("PRAGMA busy_timeout").fetchone()
    driver.execute("PRAGMA busy_timeout=0")
    deadline = time.monotonic() + timeout_s
    # Not SQLite's own waiting, which Ctrl-C would not end.
    while not (is_empty := _checkpoint(driver)) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    driver.execute(f"PRAGMA busy_timeout={busy_timeout_ms}")
    return is_empty


def set_busy_timeout(connection: Connection) -> None:
    """Have a connection wait for SQLite's locks as long as it may, whatever it waited before."""
    driver: Any = connection.connection.driver_connection
    driver.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_S * 1000:.0f}")


def _checkpoint(driver: sqlite3.Connection) -> bool:
    try:
        is_busy, *_ = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError as error:
        # Ctrl-C interrupted a query of this connection; that error is the one to report.
        if error.sqlite_errorcode != sqlite3.SQLITE_LOCKED:
            raise
        return False
    return not is_busy


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Turn database and operating-system errors about ``path`` into `LayerdexError`."""
    try:
        yield
    except (DatabaseError, sqlite3.DatabaseError) as error:
        original = error.orig if isinstance(error, DatabaseError) else error
        reason = str(original)
        signs = ("no such table", "malformed", "Could not decode")
        if getattr(original, "sqlite_errorcode", 0) & 0xFF in _LOCKED:
            raise _locked_error(path, reason) from error
        is_operational = isinstance(original, sqlite3.OperationalError)
        if not is_operational or any(sign in reason for sign in signs):
            raise DamagedIndexError(
                f"the catalog {path} is damaged ({reason}): restore it from a backup"
            ) from error
        # SQLite cannot grow its shared-memory file on a full disk, and calls that an I/O error.
        hint = " (is the disk full?)" if "I/O" in reason else ""
        if "unable to open" in reason and not has_inode_left(path.parent):
            hint = " (the file system has no free inode: its table is full)"
        raise StorageError(f"cannot use the catalog {path}: {reason}{hint}") from error
    except BrokenPipeError:
        raise  # of a callback: an index has no pipes
    except UnicodeEncodeError as error:
        if error.encoding != "utf-8":  # of a callback, such as one that prints
            raise
        raise OptionError(
            f"{error.object!a} is not valid Unicode: it has a lone surrogate"
        ) from error
    except OSError as error:
        used = error.filename or path
        raise StorageError(f"cannot use {used}: {error.strerror or error}") from error


def _locked_error(path: Path, reason: str) -> LockedIndexError:
    """Return the error of a catalog, or of an index, that SQLite could not lock."""
    catalog = _catalog_at(path)
    owner = catalog_owner(catalog)
    if owner == os.getpid():
        who, hint = "another connection of this process", "later; end what it does, or close it"
    else:
        who = "another process or connection" if owner is None else f"process {owner}"
        hint = "later; if that process is stopped, let it continue or end it"
    return LockedIndexError(f"{who} has locked the catalog {catalog} ({reason}): try again {hint}")


def _catalog_at(path: Path) -> Path:
    """Return which catalog an error about ``path``, it or a folder of its index, is about."""
    if path.is_file():
        return path
    names = (CATALOG, f"{CATALOG}.new")  # the second one until it is renamed
    found = (folder / name for folder in (path, path.parent) for name in names)
    return next(filter(Path.is_file, found), path)


def new_engine(connect: object, *, begin: str) -> Engine:
    """Return an engine over SQLite that begins transactions with the statement ``begin``."""
    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)

    def on_begin(connection: Connection) -> None:
        # With isolation_level=None the driver itself never begins a transaction.
        connection.exec_driver_sql(begin)

    event.listen(engine, "begin", on_begin)
    return engine
