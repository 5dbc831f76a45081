"""Checks of a whole catalog: SQLite's structures, and every row against its digest."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from enum import StrEnum
from hashlib import sha256
from pathlib import Path

from sqlalchemy import Connection, LargeBinary, cast, func, select
from sqlalchemy.exc import DatabaseError, OperationalError

from layerdex.errors import DamagedIndexError
from layerdex.storage.catalog.engine import empty_log, translate_errors
from layerdex.storage.catalog.log import draw_salt, has_log, write_salt
from layerdex.storage.catalog.rows import MAX_PARAMETERS, chunks, read_setting, read_versions
from layerdex.storage.catalog.schema import DOCUMENT, DOCUMENT_TEXT, SETTING
from layerdex.storage.catalog.seal import break_seal, check_seal, renew_seal
from layerdex.storage.catalog.segments import n_versions_within, read_segments
from layerdex.storage.directory import CATALOG
from layerdex.storage.place import Place

logger = logging.getLogger(__name__)


class CatalogCheck(StrEnum):
    """What a writer checks of the catalog first: its seal, or every row whatever the seal."""

    SEAL = "seal"
    ROWS = "rows"


def catalog_faults(connection: Connection) -> list[str]:
    """Return all damage of a catalog, as one line each. It takes seconds for 100,000 documents."""
    faults = structure_faults(connection) + _setting_faults(connection)
    faults += _faults_of(lambda: _check_segments(connection))
    rows = connection.scalars(select(DOCUMENT.c.row).order_by(DOCUMENT.c.row)).all()
    for chunk in chunks(rows, MAX_PARAMETERS):
        faults += _document_faults(connection, chunk)
    return faults


def structure_faults(connection: Connection) -> list[str]:
    """Return the damage that SQLite finds: of pages, of indexes, and rows without an owner.

    Unlike the digests of rows, this finds an index that hides a row. It takes a second for 100,000
    documents.
    """
    try:
        reports = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
        orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    except DatabaseError as error:
        if isinstance(
            error, OperationalError
        ):  # such as an I/O error, which says nothing of the catalog
            raise
        return [str(error.orig)]
    faults = [report for report in reports if report != "ok"]
    return faults + [f"row {row} of {table} has no owner" for table, row, *_ in orphans]


def check_catalog(connection: Connection, catalog: Path, check: CatalogCheck) -> bool:
    """Return whether a catalog is known to be sound, before a writer changes it.

    An unsealed catalog is not known to be sound after a check of its seal. Raises
    `DamagedIndexError` for damage.
    """
    if check is CatalogCheck.SEAL:
        return check_seal(catalog)
    faults = catalog_faults(connection)
    connection.rollback()
    if faults:
        raise DamagedIndexError(f"the catalog is damaged ({faults[0]}): restore a backup")
    return True


def begin_writing(connection: Connection, place: Place) -> int:
    """Break the seal, give the catalog a new salt, and return it; before the first change.

    If readers keep the log of a killed writer from being emptied, return that of its last commit.
    """
    catalog = place.folder / CATALOG
    break_seal(catalog)
    if has_log(catalog):
        empty_log(connection)
    # A transaction, so that no other writer changes the log meanwhile: if someone has removed the
    # file that is locked, there may be one.
    with connection.begin():
        if has_log(catalog):
            return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
        salt = draw_salt()
        write_salt(catalog, salt)
    return salt


def end_writing(connection: Connection, place: Place, *, is_sound: bool) -> None:
    """End a writer's work: empty the log, and seal the catalog.

    A catalog that was not known to be sound is sealed only if its structure is, as a seal hides
    damage for good.
    """
    catalog = place.path / CATALOG
    with translate_errors(catalog):
        connection.rollback()
        # After Ctrl-C SQLite may have a transaction that SQLAlchemy does not know of.
        connection.connection.rollback()
        empty_log(connection)
        faults: list[str] = []
        if not is_sound and not has_log(catalog):
            faults = structure_faults(connection)
        if not place.is_same():  # closing removes the log by its path
            return
        connection.close()
        if faults:
            logger.warning("%s is damaged (%s): run 'layerdex verify'", catalog, faults[0])
        else:
            renew_seal(place.folder / CATALOG)


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
    """Check document versions, dead ones included; one at a time only if there is damage."""
    try:
        versions = read_versions(connection, DOCUMENT.c.row.in_(rows))
    except DamagedIndexError as error:
        if len(rows) == 1:
            return [str(error)]
        return [fault for row in rows for fault in _document_faults(connection, [row])]
    # As bytes, since a damaged text may not be UTF-8; but a value stored as bytes is not a text.
    content = cast(DOCUMENT_TEXT.c.text, LargeBinary)
    query = select(DOCUMENT_TEXT.c.row, content).where(
        DOCUMENT_TEXT.c.row.in_(rows), func.typeof(DOCUMENT_TEXT.c.text) == "text"
    )
    texts = dict(connection.execute(query).all())
    return [
        f"the text of document {version.id!r} is damaged"
        for version in versions
        if version.row not in texts or sha256(texts[version.row]).digest() != version.content_hash
    ]


def _faults_of(check: Callable[[], object]) -> list[str]:
    try:
        check()
    except DamagedIndexError as error:
        return [str(error)]
    return []
