"""Bringing the catalog of an older version to this one's schema."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

from layerdex.errors import DamagedIndexError, SchemaError, StorageError
from layerdex.storage.catalog.engine import (
    OLDER_SCHEMAS,
    SCHEMA_VERSION,
    is_read_only,
    new_catalog,
    put_in_place,
    read_engine,
    read_schema,
    upgrade,
    write_engine,
)
from layerdex.storage.catalog.row_digests import damage_error
from layerdex.storage.catalog.seal import break_seal, check_seal, renew_seal
from layerdex.storage.directory import CATALOG, locked

logger = logging.getLogger(__name__)

_BUSY_TIMEOUT_S = 10.0


def migrate_if_older(path: Path, *, lock_timeout_s: float = 10.0) -> None:
    """Bring the catalog of the index at ``path`` to this version's schema, if it has an older one.

    A copy is migrated and checked, flushed, and renamed over the old catalog, which nobody can
    use meanwhile; a process killed before the rename leaves the old one as it was. Raises
    `SchemaError` where nothing can be written, `LockedIndexError`, `StorageError` or
    `DamagedIndexError`.
    """
    catalog = path / CATALOG
    with read_engine(catalog).connect() as connection:
        version = read_schema(connection)
    if version not in OLDER_SCHEMAS:
        return
    if is_read_only(path):
        raise SchemaError(
            f"this index has schema {version}, and to bring it to {SCHEMA_VERSION} "
            f"{path} must be writable"
        )
    with locked(path, timeout_s=lock_timeout_s):
        with read_engine(catalog).connect() as connection:
            if read_schema(connection) not in OLDER_SCHEMAS:
                return  # another process was faster
        _migrate(catalog)
    logger.info("migrated the catalog of %s from schema %s to %s", path, version, SCHEMA_VERSION)


def _migrate(catalog: Path) -> None:
    with closing(sqlite3.connect(catalog, timeout=_BUSY_TIMEOUT_S, isolation_level=None)) as old:
        _lock_out(old, catalog)
        check_seal(catalog)  # the schema's number itself may be damaged
        temporary = new_catalog(catalog)
        try:
            _make_copy(old, temporary)
        except BaseException:
            new_catalog(catalog)
            raise
        break_seal(catalog)
        put_in_place(temporary, catalog)
        renew_seal(catalog)


def _make_copy(old: sqlite3.Connection, temporary: Path) -> None:
    """Copy the old catalog, and bring the copy to this version's schema."""
    with closing(sqlite3.connect(temporary)) as copy:
        old.backup(copy)
    engine = write_engine(temporary, journal="DELETE")
    try:
        with engine.connect() as connection:
            upgrade(connection)
            connection.commit()
    except (AttributeError, TypeError, ValueError) as error:  # SQLite keeps any type anywhere
        raise damage_error("a row") from error
    finally:
        engine.dispose()
    _compare(old, temporary)


def _lock_out(old: sqlite3.Connection, catalog: Path) -> None:
    """Let nobody else open the old catalog, and leave no log beside it for the new one to meet."""
    try:
        (mode,) = old.execute("PRAGMA journal_mode=DELETE").fetchone()
        # The lock then outlasts the transaction, within which no backup could be made.
        old.execute("PRAGMA locking_mode=EXCLUSIVE")
        old.execute("BEGIN EXCLUSIVE")
        old.execute("COMMIT")
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
        mode = None
    if mode != "delete":
        raise StorageError(
            f"{catalog} must be brought to schema {SCHEMA_VERSION}, and other processes are "
            "reading it: try again when they are done"
        )


def _compare(old: sqlite3.Connection, new_path: Path) -> None:
    """Raise `DamagedIndexError` if the migrated copy is unsound or has lost rows."""
    with closing(sqlite3.connect(new_path)) as new:
        reports = [reason for (reason,) in new.execute("PRAGMA integrity_check")]
        if new.execute("PRAGMA foreign_key_check").fetchone() is not None:
            reports = ["it has rows that belong to nothing"]
        if reports != ["ok"]:
            raise DamagedIndexError(
                f"the catalog {new_path.with_suffix('')} is damaged ({reports[0]}): "
                "restore it from a backup"
            )
        for (table,) in old.execute("SELECT name FROM sqlite_master WHERE type = 'table'"):
            count = f'SELECT count(*) FROM "{table}"'
            if old.execute(count).fetchone() > new.execute(count).fetchone():
                raise DamagedIndexError(f"migration lost rows of the table {table}: report this")
