"""Neighbours as NumPy finds them in float64, and what an answer must have in common with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from layerdex.search.knn.neighbors import Neighbors
from tests.storage.stored import query, read_codes

STEP = 1e-5
_ROUNDING = 2e-6


def cosines(queries: NDArray[np.floating], codes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the cosine of each query with each vector, (n_queries, n), clipped."""
    left, right = queries.astype(np.float64), codes.astype(np.float64)
    left /= np.linalg.norm(left, axis=1, keepdims=True)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    return np.clip(left @ right.T, -1, 1)


def read_live(path: Path, layer: int) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
    """Return the live rows of an index, ascending, and their vectors, read from its files."""
    rows: list[int] = []
    parts: list[NDArray[np.floating]] = []
    for name, first, last in query(
        path, "SELECT name, first_row, last_row FROM segment ORDER BY first_row"
    ):
        versions = query(
            path,
            f"SELECT row, live FROM document WHERE row BETWEEN {first} AND {last} ORDER BY row",
        )
        codes = read_codes(path / "segments" / name / f"layer-{layer:02d}.faiss")
        assert len(codes) == len(versions)
        parts.append(codes[[bool(live) for _, live in versions]])
        rows.extend(row for row, live in versions if live)
    return np.array(rows, dtype=np.int64), np.concatenate(parts)


def assert_nearest(
    found: Neighbors,
    queries: NDArray[np.floating],
    rows: NDArray[np.int64],
    codes: NDArray[np.floating],
    k: int,
) -> None:
    """Check an answer against every candidate: ``codes`` (n, width) at ``rows``, ascending."""
    n_expected = min(k, len(rows))
    assert found.similarities.dtype == np.float32
    assert found.rows.shape == found.similarities.shape == (len(queries), n_expected)
    for row, similarities, true in zip(
        found.rows, found.similarities, cosines(queries, codes), strict=True
    ):
        _assert_one(row, similarities, rows, true)


def _assert_one(
    found: NDArray[np.int64],
    similarities: NDArray[np.float32],
    rows: NDArray[np.int64],
    true: NDArray[np.float64],
) -> None:
    assert len(set(found.tolist())) == len(found)
    assert set(found.tolist()) <= set(rows.tolist())
    assert np.abs(similarities).max(initial=0) <= 1
    at = np.searchsorted(rows, found)
    np.testing.assert_allclose(similarities, true[at], rtol=0, atol=_ROUNDING)

    steps = np.rint(similarities.astype(np.float64) / STEP)
    assert (np.diff(steps) <= 0).all()
    assert (np.diff(found)[np.diff(steps) == 0] > 0).all()

    others = np.ones(len(rows), dtype=np.bool_)
    others[at] = False
    if others.any() and len(found):
        last = true[at].min()
        assert true[others].max() <= last + STEP + _ROUNDING
        # Of exactly equal vectors, the ones with the smallest rows are taken.
        equal = np.abs(true - last) < 1e-12
        taken = rows[equal & ~others]
        assert taken.max(initial=-1) < rows[equal & others].min(initial=np.iinfo(np.int64).max)
