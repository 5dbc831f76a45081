"""Documents that have vanished from the sources of a run."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from layerdex.choices import Change
from layerdex.errors import RowError, SourceError
from layerdex.indexer.pipeline.run_ids import RunIds
from layerdex.records import Rejected, Unset
from layerdex.storage.catalog.rows import Version

OnChange = Callable[[Change, str], None]
"""Told what becomes of a document, and its id."""


class Sync:
    """What a run has to know of its sources before a document may be called vanished.

    A rejected row keeps the document with its id as it is. If there is a rejected row whose id
    nobody can tell, any document could be its own, and none is called vanished.
    """

    def __init__(self, ids: RunIds) -> None:
        self._ids = ids
        self._n_accepted = 0
        self._n_unidentified = 0

    def look_at(self, n_accepted: int, rejected: Iterable[Rejected]) -> None:
        """Note what a window held."""
        self._n_accepted += n_accepted
        for one in rejected:
            if isinstance(one.id, Unset):
                self._n_unidentified += 1
            elif one.id is not None:
                self._ids.spare(one.id)

    def vanished(self, pages: Iterator[list[Version]]) -> Iterator[Version]:
        """Yield what a search of the index for `RunIds.unknown` found, if it may go.

        Raises `SourceError` where the sources held no document, `RowError` where there are rows
        of unknown documents.
        """
        for page in pages:
            if not self._n_accepted:
                raise SourceError(
                    "the sources hold no document, so that all documents of the index would be "
                    "removed: nothing was removed; 'layerdex delete' removes them by id"
                )
            if self._n_unidentified:
                n = self._n_unidentified
                raise RowError(
                    f"{n:,} rejected row{'s' * (n > 1)} may be of any document, as no id can be "
                    "read: nothing was removed"
                )
            yield from page


def collect(vanished: Iterator[Version], on_change: OnChange | None) -> NDArray[np.int64]:
    """Return the rows of vanished documents, ascending, and tell of each."""
    rows = array("q")  # 8 bytes a document, where a list would take 36
    for version in vanished:
        rows.append(version.row)
        if on_change is not None:
            on_change(Change.REMOVED, version.id)
    return np.array(rows, dtype=np.int64)
