"""Which labels the live documents have, by the index on labels."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from layerdex.records import Rows
from layerdex.storage.catalog.rows import row_array
from layerdex.storage.catalog.schema import DOCUMENT, LIVE

_LABEL = DOCUMENT.c.label


def count_labels(connection: Connection) -> dict[str, int]:
    """Return the number of live documents per label, the most frequent label first."""
    n = func.count()
    query = select(_LABEL, n).where(LIVE, _LABEL.is_not(None)).group_by(_LABEL)
    counts = connection.execute(query.order_by(n.desc(), _LABEL))
    return {str(label): n_documents for label, n_documents in counts}


def has_single_label(connection: Connection) -> bool:
    """Return whether the smallest and the largest label of live documents are the same."""
    # Two queries: SQLite answers each by one look into the index, both at once by a scan.
    smallest = connection.scalar(select(func.min(_LABEL)).where(LIVE))
    return smallest is not None and smallest == connection.scalar(
        select(func.max(_LABEL)).where(LIVE)
    )


def read_labelled(connection: Connection) -> Rows:
    """Return the rows of all versions with a label, dead ones included, in no order."""
    return row_array(connection.scalars(select(DOCUMENT.c.row).where(_LABEL.is_not(None))))
