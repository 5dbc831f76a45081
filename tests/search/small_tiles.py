"""Tiles so small that a few hundred documents take many of them."""

from __future__ import annotations

import pytest

from layerdex.search.knn.tiles import kept, nearest, others, pairs, vectors


def use_small_tiles(monkeypatch: pytest.MonkeyPatch, n_rows: int) -> None:
    """Compare ``n_rows`` with three times as many columns at once, and short codes always."""
    for module in (kept, nearest, others, pairs):
        monkeypatch.setattr(module, "N_ROWS", n_rows)
    for module in (kept, nearest, others, vectors):
        monkeypatch.setattr(module, "N_COLUMNS", 3 * n_rows)
    monkeypatch.setattr(kept, "KEPT_BLOCK", 4 * n_rows)
    monkeypatch.setattr(nearest, "PLAIN_BLOCK", 5 * n_rows)
    monkeypatch.setattr(vectors, "N_CODED", 2)
    monkeypatch.setattr(vectors, "N_CODED_QUERIES", 2)
    monkeypatch.setattr(others, "_N_ALIKE", 2 * n_rows)
