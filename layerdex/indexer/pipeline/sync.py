"""Documents of the index that are no longer in the sources."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection

from layerdex.choices import Change
from layerdex.errors import RowError, SourceError
from layerdex.indexer.pipeline.run_ids import RunIds
from layerdex.records import Blank, Rejected, Rows, Unset
from layerdex.storage.catalog.changes import NEXT_ORDINAL
from layerdex.storage.catalog.row_digests import setting_damage
from layerdex.storage.catalog.rows import Version, count_before, read_setting
from layerdex.storage.catalog.settings import SYNC_START

_OUTCOME = "nothing was removed; what is new or changed is committed"

OnChange = Callable[[Change, str], None]
"""Takes the change of a document, and its id."""


class Sync:
    """Decides which documents of the index have vanished from the sources of a run.

    A rejected or blank row keeps the document with its id. One whose id is unknown could be of any
    document, so then none is removed.
    """

    def __init__(self, ids: RunIds, *, outcome: str = _OUTCOME) -> None:
        """``outcome`` says what then happens to the documents."""
        self._ids = ids
        self._outcome = outcome
        self._n_accepted = 0
        self._n_unidentified = 0
        self._kinds: set[str] = set()
        self._unidentified: Rejected | None = None

    def record(self, n_accepted: int, keeping: Iterable[Rejected]) -> None:
        """Record the rows of a window: the number of documents, and the rejected and blank rows."""
        self._n_accepted += n_accepted
        for row in keeping:
            if isinstance(row.id, Unset):
                self._n_unidentified += 1
                self._kinds.add("blank" if isinstance(row, Blank) else "rejected")
                self._unidentified = self._unidentified or row
            elif row.id is not None:
                self._ids.protect(row.id)

    def vanished(self, pages: Iterator[list[Version]]) -> Iterator[Version]:
        """Yield the documents of ``pages``, those of the index that `RunIds` has not seen.

        Raises `SourceError` if the sources had no document, `RowError` if there were blank or
        rejected rows without a known id.
        """
        for page in pages:
            if not self._n_accepted:
                raise SourceError(
                    "the sources hold no document, so all documents of the index would be "
                    "removed: nothing was removed; 'layerdex delete' removes documents by id"
                )
            if self._unidentified is not None:
                n, kinds = self._n_unidentified, " or ".join(sorted(self._kinds))
                raise RowError(
                    f"{self._unidentified} ({n:,} {kinds} row{'s' * (n > 1)} may be of any "
                    f"document, as no id can be read): {self._outcome}"
                )
            yield from page


@dataclass(frozen=True, slots=True)
class Vanished:
    """The rows of vanished documents, ascending, and how many came with an unfinished sync."""

    rows: Rows
    n_new: int


def collect_vanished(
    vanished: Iterator[Version], on_change: OnChange | None, first_new: int
) -> Vanished:
    """Return the vanished documents, calling ``on_change`` for each; see `read_sync_start`."""
    rows, n_new = array("q"), 0  # 8 bytes per document, against 36 in a list
    for version in vanished:
        rows.append(version.row)
        n_new += version.ordinal >= first_new
        if on_change is not None:
            on_change(Change.REMOVED, version.id)
    return Vanished(np.array(rows, dtype=np.int64), n_new)


def read_sync_start(connection: Connection) -> int:
    """Return the ordinal from which on documents came with a sync that has not ended.

    A sync that was refused or interrupted has left its new documents. They must not make the
    documents that would vanish a smaller share when it is run again, as its source may be wrong.
    """
    stored = read_setting(connection, SYNC_START)
    if not isinstance(stored, int | None):
        raise setting_damage(SYNC_START)
    if stored is None or not count_before(connection, stored):
        return int(read_setting(connection, NEXT_ORDINAL))
    return stored
