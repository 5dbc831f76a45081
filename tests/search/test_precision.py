"""Exact neighbours at each precision: NumPy brute force over what NumPy decodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from layerdex.choices import StoredPrecision
from layerdex.search.knn.neighbors import Neighbors, find_neighbors
from layerdex.storage.maintenance.compaction import compact
from layerdex.storage.store import Store
from tests.rounding import decoded, rounded
from tests.search.brute_force import assert_nearest, cosines, read_live
from tests.search.stores import add, create

_WIDTH = 32  # at multiples of 8, FAISS takes its fast ways, which round queries to int8
_SIZES = [700, 1, 2, 500, 297]
_EQUAL = slice(100, 160)  # more equal vectors than are fetched beyond k


def _vectors() -> NDArray[np.float32]:
    """Spread ones, peaked ones (long and short as int8), a close cluster, and equal ones."""
    random = np.random.default_rng(0)
    vectors = random.standard_normal((sum(_SIZES), _WIDTH))
    vectors[200:500] **= 5
    vectors[500:800] = vectors[0] + 0.02 * random.standard_normal((300, _WIDTH))
    vectors[_EQUAL] = vectors[1]
    vectors[900:940] = vectors[1]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors, dtype=np.float32)


VECTORS = _vectors()


def _fill(store: Store) -> None:
    for part in np.split(VECTORS, np.cumsum(_SIZES)[:-1]):
        add(store, part)


def _fill_and_delete(store: Store) -> None:
    _fill(store)
    numbers = np.random.default_rng(1).choice(sum(_SIZES), 300, replace=False)
    with store.write() as writer:
        writer.delete([f"d{number}" for number in numbers])


def _fill_delete_and_compact(store: Store) -> None:
    _fill_and_delete(store)
    with store.write() as writer:
        compact(store, writer)


@pytest.fixture(scope="module", params=[_fill, _fill_and_delete, _fill_delete_and_compact])
def fill(request: pytest.FixtureRequest) -> Callable[[Store], None]:
    chosen: Callable[[Store], None] = request.param
    return chosen


@pytest.fixture(scope="module", params=StoredPrecision)
def store(
    request: pytest.FixtureRequest,
    fill: Callable[[Store], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Store:
    path = tmp_path_factory.mktemp("precision") / "index"
    made = create(path, width=_WIDTH, precision=request.param)
    fill(made)
    return made


def _live(store: Store) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
    """The live rows, and their vectors as NumPy rounds them; the files hold no others."""
    rows, codes = read_live(store.path, 0)
    expected = rounded(VECTORS[rows - 1], store.precision)
    assert codes.tobytes() == expected.tobytes()
    return rows, expected


def _find(
    store: Store, queries: NDArray[np.float32], k: int, rows: NDArray[np.int64] | None = None
) -> Neighbors:
    return store.query(lambda snapshot: find_neighbors(snapshot.layer(0), queries, k, rows=rows))


def _queries(n: int) -> NDArray[np.float32]:
    """Near the cluster, near the equal ones, and anywhere."""
    random = np.random.default_rng(5)
    near = VECTORS[[0, 1]][np.arange(n) % 2] + 0.02 * random.standard_normal((n, _WIDTH))
    anywhere = random.standard_normal((n, _WIDTH))
    return np.where(np.arange(n)[:, None] % 3 == 2, anywhere, near).astype(np.float32)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("n_queries", [1, 16, 17, 40])
@pytest.mark.parametrize("k", [1, 10, 130])
def test_neighbors_are_those_of_brute_force(store: Store, n_queries: int, k: int) -> None:
    rows, codes = _live(store)
    queries = _queries(n_queries)
    assert_nearest(_find(store, queries, k), queries, rows, codes, k)


@pytest.mark.parametrize("n_queries", [1, 5, 40])
@pytest.mark.parametrize("n_rows", [1, 20, 150, 900])
def test_filter_is_applied_before_neighbors_are_taken(
    store: Store, n_queries: int, n_rows: int
) -> None:
    rows, codes = _live(store)
    chosen = np.sort(np.random.default_rng(n_rows).choice(len(rows), n_rows, replace=False))
    queries = _queries(n_queries)
    found = _find(store, queries, 10, rows[chosen])
    assert_nearest(found, queries, rows[chosen], codes[chosen], 10)


@pytest.mark.parametrize("n_queries", [1, 40])
@pytest.mark.parametrize("k", [1, 5, 30])
def test_equal_vectors_are_ordered_by_row(store: Store, k: int, n_queries: int) -> None:
    rows, codes = _live(store)
    queries = np.repeat(VECTORS[1:2], n_queries, axis=0)
    found = _find(store, queries, k)
    equal = rows[(codes == rounded(VECTORS[1:2], store.precision)).all(axis=1)]
    assert len(equal) > k + 16
    np.testing.assert_array_equal(found.rows, np.tile(equal[:k], (n_queries, 1)))
    assert_nearest(found, queries, rows, codes, k)


@pytest.mark.parametrize("n_queries", [1, 40])
def test_everything_asked_for_is_everything(store: Store, n_queries: int) -> None:
    rows, codes = _live(store)
    queries = _queries(n_queries)
    found = _find(store, queries, len(rows) + 5)
    assert_nearest(found, queries, rows, codes, len(rows) + 5)


def test_no_query_and_no_rows_have_no_answer(store: Store) -> None:
    assert _find(store, np.empty((0, _WIDTH), np.float32), 3).rows.shape == (0, 3)
    for n_queries in (1, 40):
        found = _find(store, _queries(n_queries), 3, np.empty(0, np.int64))
        assert found.rows.shape == (n_queries, 0)


def test_gathered_vectors_are_the_decoded_ones(store: Store) -> None:
    rows, _ = _live(store)
    asked = np.random.default_rng(3).permutation(rows)[:200]
    gathered = store.query(lambda snapshot: snapshot.layer(0).gather(asked))
    expected = decoded(VECTORS[asked - 1], store.precision)
    np.testing.assert_allclose(gathered, expected, atol=1e-6)


@pytest.mark.parametrize("n_queries", [1, 40])
def test_lengths_of_int8_vectors_do_not_decide(tmp_path: Path, n_queries: int) -> None:
    store = create(tmp_path / "index", width=_WIDTH, precision=StoredPrecision.INT8)
    _fill(store)
    rows, codes = _live(store)
    lengths = np.linalg.norm(codes, axis=1)
    assert lengths.max() > 1.5 * lengths.min()
    queries = np.repeat(VECTORS[600:601], n_queries, axis=0)
    raw = np.argsort(-(queries[:1] @ codes.T))[0, :10]
    true = np.argsort(-cosines(queries[:1], codes))[0, :10]
    assert set(raw.tolist()) != set(true.tolist())
    assert_nearest(_find(store, queries, 10), queries, rows, codes, 10)


@pytest.mark.parametrize("n_queries", [1, 40])
def test_nearest_float32_vectors_are_found_though_they_are_short(
    tmp_path: Path, n_queries: int
) -> None:
    # By raw product all others come before them, and none of these is longer than 1.
    store = create(tmp_path / "index", width=_WIDTH, precision=StoredPrecision.FLOAT32)
    random = np.random.default_rng(7)
    base = random.standard_normal((1, _WIDTH))
    vectors = base + 0.02 * random.standard_normal((400, _WIDTH))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    nearest = np.argsort(-cosines(base, vectors)[0])[:10]
    vectors[nearest] *= 1 - 4.9e-4
    codes = vectors.astype(np.float32)
    add(store, codes)
    raw = np.argsort(-(base @ codes.T))[0, :100]
    assert not set(raw.tolist()) & set(nearest.tolist())
    queries = np.repeat(base, n_queries, axis=0).astype(np.float32)
    assert_nearest(_find(store, queries, 10), queries, np.arange(1, 401), codes, 10)
