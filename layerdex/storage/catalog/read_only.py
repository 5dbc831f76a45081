"""Opening the catalog read-only, also where nothing can be written."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DatabaseError

from layerdex.errors import DamagedIndexError, IndexNotFoundError, StorageError
from layerdex.storage.catalog.engine import BUSY_TIMEOUT_S, address_of, new_engine
from layerdex.storage.catalog.journal import check_journal
from layerdex.storage.catalog.log import check_log, has_log
from layerdex.storage.catalog.metadata import parse_number
from layerdex.storage.catalog.sqlite_connection import CatalogConnection
from layerdex.storage.files import has_inode_left


def read_engine(path: Path) -> Engine:
    """Open the catalog read-only, and as immutable in a place that cannot be written.

    Raises `IndexNotFoundError` if there is no catalog.
    """
    if not path.is_file():
        raise IndexNotFoundError(f"{path.parent} holds no index{_why_none(path)}")
    return _read_engine(path.absolute())


def _why_none(path: Path) -> str:
    if path.parent.is_dir():
        return f" (no {path.name} in it)"
    what = "it is not a directory" if path.parent.exists() else "there is no such directory"
    return f": {what}"


# Cached as `write_engine` is.
@lru_cache(maxsize=8)
def _read_engine(path: Path) -> Engine:
    address = address_of(path, "ro")

    def connect() -> sqlite3.Connection:
        check_log(path)
        check_journal(path)
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
                state = _file_state(path)
                connection = _connect_read_only(address + "&immutable=1", _ImmutableConnection)
                connection.opened_state = state  # type: ignore[attr-defined]
        # Expressions in the schema of a forged catalog must not call functions of ours.
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.create_function("parse_number", 1, _parse_number, deterministic=True)
        return connection

    return new_engine(connect, begin="BEGIN")


class _ImmutableConnection(CatalogConnection):
    """A connection that takes no locks; ``opened_state`` is the state of the file when opened."""

    opened_state: tuple[int, int, bool]


@contextmanager
def unchanged_if_immutable(connection: Connection, path: Path) -> Iterator[None]:
    """Raise `StorageError` if a catalog opened as immutable was changed while it was read.

    `read_engine` opens it so where SQLite cannot share memory with a writer.
    """
    driver: Any = connection.connection.driver_connection
    if not isinstance(driver, _ImmutableConnection):
        yield
        return
    changed = StorageError(
        f"{path} was changed while it was read without SQLite's shared memory: try again"
    )
    try:
        yield
    except (DatabaseError, DamagedIndexError) as error:
        if _file_state(path) != driver.opened_state:  # the change explains the error
            raise changed from error
        raise
    if _file_state(path) != driver.opened_state:
        raise changed


def _connect_read_only(
    address: str, factory: type[CatalogConnection] = CatalogConnection
) -> sqlite3.Connection:
    connection = sqlite3.connect(
        address, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, factory=factory
    )
    try:
        connection.execute("SELECT 1 FROM sqlite_master").close()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _roll_back(path: Path) -> None:
    """Finish a change of the journal mode in which a migration was killed."""
    with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as connection:
        connection.execute("SELECT 1 FROM sqlite_master").close()


def _parse_number(text: str | None) -> float | None:
    return None if text is None else parse_number(text)


def _file_state(path: Path) -> tuple[int, int, bool]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, has_log(path)


def _cannot_share(error: sqlite3.OperationalError, folder: Path) -> bool:
    """Return whether SQLite failed because it cannot create its shared-memory file.

    A catalog in WAL mode needs one, which a read-only place prevents, a full disk, or a file system
    that has no inode left.
    """
    if error.sqlite_errorname == "SQLITE_IOERR_SHMSIZE" or is_read_only(folder):
        return True
    return error.sqlite_errorname == "SQLITE_CANTOPEN" and not has_inode_left(folder)


def is_read_only(folder: Path) -> bool:
    """Return whether this user cannot write to a folder."""
    read_only_mount = bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    return read_only_mount or not os.access(folder, os.W_OK)
