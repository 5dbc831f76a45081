"""Whether a catalog is what was committed: its structure, and every row against its digest."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

from sqlalchemy import Connection, LargeBinary, cast, func, select
from sqlalchemy.exc import DatabaseError, OperationalError

from layerdex.errors import DamagedIndexError
from layerdex.storage.catalog.engine import empty_log, translate_errors
from layerdex.storage.catalog.rows import MAX_PARAMETERS, chunks, read_setting, read_versions
from layerdex.storage.catalog.schema import DOCUMENT, DOCUMENT_TEXT, SETTING
from layerdex.storage.catalog.seal import has_log, renew_seal
from layerdex.storage.catalog.segments import n_versions_within, read_segments

logger = logging.getLogger(__name__)


def catalog_faults(connection: Connection) -> list[str]:
    """Return everything that is wrong with a catalog: seconds for 100,000 documents."""
    faults = structure_faults(connection) + _setting_faults(connection)
    faults += _faults_of(lambda: _check_segments(connection))
    rows = connection.scalars(select(DOCUMENT.c.row).order_by(DOCUMENT.c.row)).all()
    for chunk in chunks(rows, MAX_PARAMETERS):
        faults += _document_faults(connection, chunk)
    return faults


def structure_faults(connection: Connection) -> list[str]:
    """Return what SQLite itself finds wrong: its pages, its indexes, rows without an owner.

    Unlike the digests of rows this finds an index that hides a row. It takes a second for 100,000
    documents.
    """
    try:
        found = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
        strays = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    except DatabaseError as error:
        if isinstance(error, OperationalError):  # such as an I/O error: no word on the catalog
            raise
        return [str(error.orig)]
    faults = [reason for reason in found if reason != "ok"]
    return faults + [f"row {row} of {table} belongs to nothing" for table, row, *_ in strays]


def check_rows(connection: Connection) -> None:
    """Raise `DamagedIndexError` for any damage of a catalog but that of its seal."""
    faults = catalog_faults(connection)
    connection.rollback()
    if faults:
        raise DamagedIndexError(f"the catalog is damaged ({faults[0]}): restore a backup")


def end_writing(connection: Connection, catalog: Path, *, was_sealed: bool) -> None:
    """End a writer's work: leave no log behind, and seal the catalog.

    One that had no seal gets one only where it is sound, for a seal hides damage for good.
    """
    with translate_errors(catalog):
        connection.rollback()
        # Of what Ctrl-C ended between SQLAlchemy's books and SQLite's, only SQLite knows.
        connection.connection.rollback()
        empty_log(connection)
        faults: list[str] = []
        if not was_sealed and not has_log(catalog):
            faults = structure_faults(connection)
        connection.close()
        if faults:
            logger.warning("%s is damaged (%s): run 'layerdex verify'", catalog, faults[0])
        else:
            renew_seal(catalog)


def _setting_faults(connection: Connection) -> list[str]:
    keys = connection.scalars(select(SETTING.c.key)).all()
    return [
        fault
        for key in keys
        for fault in _faults_of(lambda key=key: read_setting(connection, key))  # type: ignore[misc]
    ]


def _check_segments(connection: Connection) -> None:
    for segment in read_segments(connection):
        if n_versions_within(connection, segment) != segment.n_documents:
            raise DamagedIndexError(f"lost documents of segment {segment.name}")


def _document_faults(connection: Connection, rows: Sequence[int]) -> list[str]:
    """Check document versions, dead ones included; one by one only where something is wrong."""
    try:
        versions = read_versions(connection, DOCUMENT.c.row.in_(rows))
    except DamagedIndexError as error:
        if len(rows) == 1:
            return [str(error)]
        return [fault for row in rows for fault in _document_faults(connection, [row])]
    # As bytes, since a damaged text need not be UTF-8; but what is stored as bytes is no text.
    content = cast(DOCUMENT_TEXT.c.text, LargeBinary)
    query = select(DOCUMENT_TEXT.c.row, content).where(
        DOCUMENT_TEXT.c.row.in_(rows), func.typeof(DOCUMENT_TEXT.c.text) == "text"
    )
    texts = dict(connection.execute(query).all())
    return [
        f"the text of document {one.id!r} is damaged"
        for one in versions
        if one.row not in texts or sha256(texts[one.row]).digest() != one.content_hash
    ]


def _faults_of(check: Callable[[], object]) -> list[str]:
    try:
        check()
    except DamagedIndexError as error:
        return [str(error)]
    return []
