"""A connection to SQLite that knows of forks.

SQLite must not be used in a process that was forked while its parent used it: the child has copies
of locks that it does not hold, so that it could read while another process writes
(https://www.sqlite.org/howtocorrupt.html, 2.6), and of mutexes that nobody releases.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from layerdex.errors import StorageError
from layerdex.forks import abandon, renew_after_fork


class _Usage:
    """The connections of this process that are open, and whether some were at a fork."""

    def __init__(self) -> None:
        self.open: set[int] = set()
        self.was_copied = False
        renew_after_fork(self, _Usage._note_fork)

    def _note_fork(self) -> None:
        self.was_copied |= bool(self.open)


_usage = _Usage()


class CatalogConnection(sqlite3.Connection):
    """A connection that counts as open from before SQLite opens it until after it is closed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Open a database. Raises `StorageError` in a process forked while one was open."""
        if _usage.was_copied:
            raise StorageError(
                "an index was in use when this process was forked, so none can be used here: fork "
                "while no question and no writer is running, or start processes with 'spawn'"
            )
        _usage.open.add(id(self))
        super().__init__(*args, **kwargs)

    _is_abandoned = False

    def abandon(self) -> None:
        """Never close the database, as SQLite would then remove its log by the path."""
        self._is_abandoned = True
        abandon(self)

    def close(self) -> None:
        """Close the database, unless it is abandoned."""
        if not self._is_abandoned:
            super().close()
        _usage.open.discard(id(self))

    def __del__(self) -> None:
        """Do not count one that could not be opened."""
        _usage.open.discard(id(self))


def overwriting(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Have a connection overwrite what it deletes, whatever its SQLite was built to do."""
    connection.execute("PRAGMA secure_delete=ON")
    return connection
