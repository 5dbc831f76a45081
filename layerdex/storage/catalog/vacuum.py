"""Whether a catalog was rewritten since its last commit, so that only its rows are in the file.

SQLite leaves copies of deleted values in free pages and, when it moves rows to another page, in the
unused bytes of the old one. ``VACUUM`` drops them. The catalog has the number of the commit for
which that was done as its ``application_id``.
"""

from __future__ import annotations

from sqlalchemy import Connection

from layerdex.storage.catalog.changes import COMMITS
from layerdex.storage.catalog.rows import read_setting

# SQLite keeps a signed 32-bit number for its users in each database.
_APPLICATION_IDS = 1 << 31


def is_vacuumed(connection: Connection) -> bool:
    """Return whether nothing was committed since `mark_vacuumed`."""
    marked: int = connection.exec_driver_sql("PRAGMA application_id").scalar_one()
    return marked == _mark(connection)


def mark_vacuumed(connection: Connection) -> None:
    """Note that the catalog was rewritten after its last commit."""
    connection.exec_driver_sql(f"PRAGMA application_id={_mark(connection)}")


def _mark(connection: Connection) -> int:
    return int(read_setting(connection, COMMITS)) % _APPLICATION_IDS
