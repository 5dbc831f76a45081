"""A few documents that stand for all, where looking at every pair would take too long."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from layerdex.errors import OptionError
from layerdex.storage.catalog.filters import Where
from layerdex.storage.snapshot import DocumentTable, Snapshot


def sample_texts(
    snapshot: Snapshot, where: Where = (), *, n: int, least: int = 2, seed: int = 0
) -> DocumentTable:
    """Return at most n matching documents, drawn without replacement, each text once.

    Documents are drawn first, and of those with the same text the first by row is kept: so the
    same index, conditions and seed give the same documents whoever asks. Raises `OptionError`
    where fewer than ``least`` texts are left.
    """
    table = sample_documents(snapshot, where, n=n, seed=seed).drop_repeats()
    if len(table.rows) < least:
        raise OptionError(
            f"this takes {least} different texts or more, and there are {len(table.rows)}"
        )
    return table


def sample_documents(
    snapshot: Snapshot, where: Where = (), *, n: int, seed: int = 0
) -> DocumentTable:
    """Return at most n matching documents, drawn without replacement."""
    rows = snapshot.rows(where)
    return snapshot.table_of(rows[_places(len(rows), n=n, seed=seed)])


def sample_table(table: DocumentTable, *, n: int, seed: int = 0) -> DocumentTable:
    """Return at most n of these documents, the same that `sample_documents` draws of their rows."""
    return table.take(_places(len(table.rows), n=n, seed=seed).tolist())


def _places(n_there: int, *, n: int, seed: int) -> NDArray[np.int64]:
    if n_there <= n:
        return np.arange(n_there)
    return np.sort(np.random.default_rng(seed).choice(n_there, n, replace=False))
