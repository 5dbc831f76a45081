"""Migrating the catalog of an older version to this version's schema."""

from __future__ import annotations

import logging
import sqlite3
import warnings
from contextlib import closing
from pathlib import Path

from sqlalchemy.exc import NoSuchTableError, SAWarning

from layerdex.errors import DamagedIndexError, SchemaError, StorageError
from layerdex.storage.catalog import revisions
from layerdex.storage.catalog.engine import (
    new_catalog,
    put_in_place,
    write_engine,
)
from layerdex.storage.catalog.read_only import is_read_only, read_engine
from layerdex.storage.catalog.row_digests import damage_error
from layerdex.storage.catalog.seal import break_seal, check_seal, renew_seal
from layerdex.storage.catalog.sqlite_connection import overwriting
from layerdex.storage.directory import CATALOG, locked
from layerdex.storage.files import copy_access, create_file, sync_folder
from layerdex.storage.place import Place

logger = logging.getLogger(__name__)

_BUSY_TIMEOUT_S = 10.0


def migrate_if_older(path: Path, *, lock_timeout_s: float = 10.0) -> None:
    """Bring the catalog of the index at ``path`` to this version's schema, if it has an older one.

    A copy is migrated, checked, flushed, and renamed over the old catalog, which is locked
    meanwhile; a process killed before the rename leaves the old one in use. Raises `SchemaError`
    if the index cannot be written, `LockedIndexError`, `StorageError` or `DamagedIndexError`.
    """
    catalog = path / CATALOG
    older = _older_schema(catalog)
    if older is None:
        return
    if is_read_only(path):
        raise SchemaError(
            f"this index has schema {older}: to migrate it to {revisions.SCHEMA_VERSION}, "
            f"{path} must be writable"
        )
    with locked(path, timeout_s=lock_timeout_s) as place:
        if _older_schema(catalog) is None:
            return  # another process was faster
        place.hold_catalog(CATALOG)
        with place.unmoved():
            _migrate(catalog, place)
    logger.info("migrated %s from schema %s to %s", catalog, older, revisions.SCHEMA_VERSION)


def _older_schema(catalog: Path) -> str | None:
    """Return the catalog's schema if it is an older one that can be migrated."""
    with read_engine(catalog).connect() as connection:
        version = revisions.read_schema(connection)
    return version if version in revisions.OLDER_SCHEMAS else None


def _migrate(path: Path, place: Place) -> None:
    is_sealed = check_seal(path)  # the schema's number itself may be damaged
    catalog = place.folder / CATALOG
    break_seal(catalog)  # before locking, which changes the journal mode in the file
    connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
    with closing(overwriting(connection)) as old:
        place.check()  # SQLite has opened what is at the path
        try:
            _lock_out(old, path)
            sync_folder(place.folder)  # a power loss must not bring its log back, or its journal
            temporary = new_catalog(catalog)
            _make_copy(old, temporary, path)
            place.check()
        except BaseException:
            new_catalog(catalog)
            if is_sealed:
                renew_seal(catalog)
            raise
        put_in_place(temporary, catalog)
        place.hold_catalog(CATALOG)
        renew_seal(catalog)


def _lock_out(old: sqlite3.Connection, catalog: Path) -> None:
    """Lock the old catalog for all others, and leave no log beside it for the new one to meet."""
    try:
        (mode,) = old.execute("PRAGMA journal_mode=DELETE").fetchone()
        # This lock outlasts the transaction; a backup cannot be made within one.
        old.execute("PRAGMA locking_mode=EXCLUSIVE")
        old.execute("BEGIN EXCLUSIVE")
        old.execute("COMMIT")
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
        mode = None
    if mode != "delete":
        raise StorageError(
            f"{catalog} must be migrated to schema {revisions.SCHEMA_VERSION}, and other "
            "processes are reading it: try again when they are done"
        )


def _make_copy(old: sqlite3.Connection, temporary: Path, path: Path) -> None:
    """Copy the old catalog, migrate the copy and check it."""
    create_file(temporary)
    copy_access(temporary, path)
    with closing(overwriting(sqlite3.connect(temporary))) as copy:
        old.backup(copy)
    engine = write_engine(temporary, journal="DELETE")
    try:
        with engine.connect() as connection, warnings.catch_warnings():
            warnings.simplefilter("ignore", SAWarning)  # of an index that is none of ours
            revisions.apply_migrations(connection)
            connection.commit()
    except (AttributeError, TypeError, ValueError) as error:  # SQLite allows any type anywhere
        raise damage_error("a row") from error
    except (KeyError, NoSuchTableError) as error:
        raise damage_error("a table") from error
    finally:
        engine.dispose()
    _compare(old, temporary, path)


def _compare(old: sqlite3.Connection, new_path: Path, path: Path) -> None:
    """Raise `DamagedIndexError` if the migrated copy is damaged or has lost rows."""
    with closing(sqlite3.connect(new_path)) as new:
        reports = [reason for (reason,) in new.execute("PRAGMA integrity_check")]
        if new.execute("PRAGMA foreign_key_check").fetchone() is not None:
            reports = ["it has rows without an owner"]
        if reports != ["ok"]:
            raise DamagedIndexError(
                f"the catalog {path} is damaged ({reports[0]}): restore it from a backup"
            )
        for (table,) in old.execute("SELECT name FROM sqlite_master WHERE type = 'table'"):
            count = f'SELECT count(*) FROM "{table}"'
            if old.execute(count).fetchone() > new.execute(count).fetchone():
                raise DamagedIndexError(
                    f"the migration lost rows of the table {table}: please report this"
                )
