"""Which labels the live documents have, by the index on labels."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import Connection, func, select

from layerdex.records import Rows
from layerdex.storage.catalog.row_sets import fetch_rows
from layerdex.storage.catalog.schema import DEAD, DOCUMENT, LIVE

_LABEL = DOCUMENT.c.label


def count_labels(connection: Connection) -> dict[str, int]:
    """Return the number of live documents per label, the most frequent label first."""
    # All versions, as the index has them, without the dead ones: to see whether each is alive would
    # take a look at a million documents.
    query = select(_LABEL, func.count()).where(_LABEL.is_not(None)).group_by(_LABEL)
    counts = Counter({str(label): n for label, n in connection.execute(query)})
    of_dead = connection.scalars(select(_LABEL).where(DEAD))
    counts.subtract(str(label) for label in of_dead if label is not None)
    by_count = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {label: n for label, n in by_count if n > 0}


def has_single_label(connection: Connection) -> bool:
    """Return whether the smallest and the largest label of live documents are the same."""
    # Two queries: SQLite answers each by one look into the index, both at once by a scan.
    smallest = connection.scalar(select(func.min(_LABEL)).where(LIVE))
    return smallest is not None and smallest == connection.scalar(
        select(func.max(_LABEL)).where(LIVE)
    )


def read_labelled(connection: Connection, n_versions: int) -> Rows:
    """Return the rows of all versions with a label, dead ones included, ascending."""
    query = select(DOCUMENT.c.row).where(_LABEL.is_not(None))
    return fetch_rows(connection, query, at_most=n_versions)
