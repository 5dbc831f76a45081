"""A few documents that stand for all, where looking at every pair would take too long."""

from __future__ import annotations

import numpy as np

from layerdex.errors import OptionError
from layerdex.records import Rows
from layerdex.storage.snapshot import Facts, Snapshot, Where


def draw_texts(
    snapshot: Snapshot, where: Where = (), *, n: int, least: int = 2, seed: int = 0
) -> Facts:
    """Return at most n matching documents, drawn without replacement, each text once.

    Documents are drawn first, and of those with the same text the first by row is kept: so the
    same index, conditions and seed give the same documents whoever asks. Raises `OptionError`
    where fewer than ``least`` texts are left.
    """
    facts = _draw(snapshot, snapshot.rows(where), n=n, seed=seed).each_text_once()
    if len(facts.rows) < least:
        raise OptionError(
            f"this takes {least} different texts or more, and there are {len(facts.rows)}"
        )
    return facts


def _draw(snapshot: Snapshot, rows: Rows, *, n: int, seed: int) -> Facts:
    if len(rows) > n:
        random = np.random.default_rng(seed)
        rows = np.sort(random.choice(rows, n, replace=False))
    return snapshot.facts_of(rows)
