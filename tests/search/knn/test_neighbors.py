"""Exact neighbours: what NumPy brute force over the stored vectors finds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from layerdex.errors import OptionError
from layerdex.search.knn import neighbors
from layerdex.search.knn.neighbors import Neighbors, find_neighbors
from layerdex.search.knn.tiles.nearest import PLAIN_BLOCK
from layerdex.storage.maintenance.compaction import compact
from layerdex.storage.store import Store
from tests.search.brute_force import assert_nearest, cosines, read_live
from tests.search.stores import add, create, random_codes, unit_codes

_WIDTH = 12
_N = 1_500
_BASE = random_codes(1, _WIDTH, seed=3)


def _segments(store: Store, sizes: list[int], *, seed: int = 0) -> None:
    codes = random_codes(sum(sizes), _WIDTH, seed=seed)
    for part in np.split(codes, np.cumsum(sizes)[:-1]):
        add(store, part)


def _delete(store: Store, numbers: NDArray[np.int64] | list[int]) -> None:
    with store.write() as writer:
        writer.delete([f"d{number}" for number in numbers])


def _one_segment(store: Store) -> None:
    _segments(store, [_N])


def _several_segments(store: Store) -> None:
    _segments(store, [700, 1, 2, 500, 297])


def _with_dead_rows(store: Store) -> None:
    _several_segments(store)
    _delete(store, [*np.random.default_rng(1).choice(700, 300, replace=False), 700, 701, 1499])


def _not_contiguous(store: Store) -> None:
    _with_dead_rows(store)
    with store.write() as writer:
        assert compact(store, writer) == 5
    add(store, random_codes(40, _WIDTH, seed=9))
    _delete(store, [1301, 1510])


SHAPES = [_one_segment, _several_segments, _with_dead_rows, _not_contiguous]


@pytest.fixture(scope="module", params=SHAPES, ids=lambda make: make.__name__.strip("_"))
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = create(tmp_path_factory.mktemp("neighbors") / "index", width=_WIDTH)
    request.param(made)
    return made


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = create(tmp_path_factory.mktemp("neighbors") / "index", width=_WIDTH)
    _segments(made, [30, 20])
    return made


def _find(
    store: Store, queries: NDArray[np.float32], k: int, rows: NDArray[np.int64] | None = None
) -> Neighbors:
    return store.query(lambda snapshot: find_neighbors(snapshot.layer(0), queries, k, rows=rows))


def _queries(n: int, *, seed: int = 5) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((n, _WIDTH)).astype(np.float32)


@pytest.mark.parametrize(
    ("n_queries", "k"), [(1, 1), (1, 10), (1, 100), (16, 10), (17, 10), (60, 1), (60, 100)]
)
def test_neighbors_are_those_of_brute_force(store: Store, n_queries: int, k: int) -> None:
    rows, codes = read_live(store.path, 0)
    queries = _queries(n_queries)
    assert_nearest(_find(store, queries, k), queries, rows, codes, k)


@pytest.mark.parametrize("n_queries", [1, 30])
@pytest.mark.parametrize("n_rows", [1, 3, 20, 200, 900])
def test_filter_is_applied_before_neighbors_are_taken(
    store: Store, n_queries: int, n_rows: int
) -> None:
    rows, codes = read_live(store.path, 0)
    chosen = np.sort(np.random.default_rng(n_rows).choice(len(rows), n_rows, replace=False))
    queries = _queries(n_queries)
    found = _find(store, queries, 10, rows[chosen])
    assert_nearest(found, queries, rows[chosen], codes[chosen], 10)


@pytest.mark.parametrize("n_queries", [1, 30])
def test_filter_that_keeps_everything_changes_nothing(store: Store, n_queries: int) -> None:
    rows, _ = read_live(store.path, 0)
    queries = _queries(n_queries)
    free, kept = _find(store, queries, 10), _find(store, queries, 10, rows)
    np.testing.assert_array_equal(kept.rows, free.rows)
    np.testing.assert_allclose(kept.similarities, free.similarities, atol=1e-6)


@pytest.mark.parametrize("n_queries", [1, 30])
def test_empty_filter_finds_nothing(store: Store, n_queries: int) -> None:
    found = _find(store, _queries(n_queries), 10, np.empty(0, np.int64))
    assert found.rows.shape == found.similarities.shape == (n_queries, 0)


@pytest.mark.parametrize("n_queries", [1, 30])
def test_more_neighbors_than_documents_are_all_documents(store: Store, n_queries: int) -> None:
    rows, codes = read_live(store.path, 0)
    queries = _queries(n_queries)
    found = _find(store, queries, len(rows) + 7)
    assert_nearest(found, queries, rows, codes, len(rows) + 7)
    np.testing.assert_array_equal(np.sort(found.rows, axis=1), np.tile(rows, (n_queries, 1)))


def test_one_query_and_a_batch_agree(store: Store) -> None:
    queries = _queries(40)
    batch = _find(store, queries, 10)
    for i in range(0, 40, 8):
        one = _find(store, queries[i : i + 1], 10)
        np.testing.assert_array_equal(one.rows[0], batch.rows[i])
        np.testing.assert_allclose(one.similarities[0], batch.similarities[i], atol=1e-6)


@pytest.mark.parametrize("n_queries", [1, 30])
@pytest.mark.parametrize("length", [1e-30, 1e-4, 300.0, 1e30])
def test_querys_length_does_not_matter(small: Store, length: float, n_queries: int) -> None:
    rows, codes = read_live(small.path, 0)
    queries = _queries(n_queries)
    given = queries * np.float32(length)
    before = given.copy()
    assert_nearest(_find(small, given, 10), queries, rows, codes, 10)
    np.testing.assert_array_equal(given, before)


@pytest.mark.parametrize("n_queries", [1, 30])
def test_stored_vectors_find_themselves_at_similarity_one(store: Store, n_queries: int) -> None:
    rows, codes = read_live(store.path, 0)
    found = _find(store, codes[:n_queries].astype(np.float32), 1)
    np.testing.assert_array_equal(found.rows[:, 0], rows[:n_queries])
    assert found.similarities.max() <= 1
    np.testing.assert_allclose(found.similarities, 1, atol=1e-6)
    opposite = _find(store, -codes[:n_queries].astype(np.float32), len(rows))
    assert opposite.similarities.min() >= -1
    np.testing.assert_array_equal(opposite.rows[:, -1], rows[:n_queries])


@pytest.mark.parametrize("n_queries", [1, 30])
@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_an_error(small: Store, k: int, n_queries: int) -> None:
    with pytest.raises(OptionError, match=f"k must be at least 1, got {k}"):
        _find(small, _queries(n_queries), k)


@pytest.mark.parametrize("n_queries", [1, 30])
@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_query_without_a_direction_is_an_error(small: Store, bad: float, n_queries: int) -> None:
    queries = _queries(n_queries)
    queries[n_queries // 2] = bad
    with pytest.raises(OptionError, match="zero or not finite"):
        _find(small, queries, 3)


def test_no_query_has_no_answer(small: Store) -> None:
    assert _find(small, np.empty((0, _WIDTH), np.float32), 3).rows.shape == (0, 3)


@pytest.fixture(scope="module", params=[10, 100])
def repetitive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two segments with many equal vectors, near ones and others; two of them are dead."""
    made = create(tmp_path_factory.mktemp("repetitive") / "index", width=_WIDTH)
    near = unit_codes(_BASE + 0.05 * np.random.default_rng(4).standard_normal((6, _WIDTH)))
    for seed in (1, 2):
        equal = np.repeat(_BASE, request.param, axis=0)
        codes = np.concatenate([equal, near, random_codes(80, _WIDTH)])
        add(made, codes[np.random.default_rng(seed).permutation(len(codes))])
    _delete(made, [3, 90])
    return made


@pytest.mark.parametrize("n_queries", [1, 30])
@pytest.mark.parametrize("k", [1, 5, 30, 150])
def test_equal_vectors_are_ordered_by_row(repetitive: Store, k: int, n_queries: int) -> None:
    # 100 equal vectors are more than the spare neighbours fetched beyond k.
    rows, codes = read_live(repetitive.path, 0)
    noise = 0.02 * np.random.default_rng(5).standard_normal((n_queries, _WIDTH))
    queries = (_BASE + noise).astype(np.float32)
    assert_nearest(_find(repetitive, queries, k), queries, rows, codes, k)
    chosen = np.flatnonzero(rows % 3)
    found = _find(repetitive, queries, k, rows[chosen])
    assert_nearest(found, queries, rows[chosen], codes[chosen], k)


@pytest.mark.parametrize("n_queries", [1, 30])
@pytest.mark.parametrize("sign", [1, -1])
def test_lengths_of_rounded_vectors_do_not_decide(
    tmp_path: Path, sign: int, n_queries: int
) -> None:
    # In a tight cluster, raw products rank by the vectors' lengths, off by up to 5e-4.
    store = create(tmp_path / "index", width=_WIDTH)
    random = np.random.default_rng(6)
    base = random.standard_normal(_WIDTH)
    codes = unit_codes(base + 0.01 * random.standard_normal((800, _WIDTH)))
    add(store, codes)
    rows = np.arange(1, 801)
    queries = sign * (base + 0.005 * random.standard_normal((n_queries, _WIDTH)))
    raw = np.argsort(-(queries[:1] @ codes.astype(np.float64).T))[0, :20]
    found = _find(store, queries.astype(np.float32), 20)
    assert set(found.rows[0].tolist()) != set(rows[raw].tolist())
    assert_nearest(found, queries, rows, codes, 20)


@pytest.mark.parametrize("n_queries", [1, 30])
def test_nearest_vectors_are_found_though_rounding_made_them_short(
    tmp_path: Path, n_queries: int
) -> None:
    # By raw product a hundred decoys come before them, and none of these is longer than 1.
    random = np.random.default_rng(0)
    base = np.full((1, 3), 3**-0.5)
    codes = unit_codes(base + 0.01 * random.standard_normal((200_000, 3)))
    lengths, cosine = np.linalg.norm(codes.astype(np.float64), axis=1), cosines(base, codes)[0]
    short = np.flatnonzero((lengths < 1 - 2.5e-4) & (cosine > 0.99999))[:5]
    is_decoy = (lengths > 1 - 8e-5) & (lengths < 1 - 3e-5) & (cosine < 0.99998) & (cosine > 0.9999)
    codes = codes[[*np.flatnonzero(is_decoy)[:100], *short]]
    assert len(codes) == 105
    store = create(tmp_path / "index", width=3)
    add(store, codes)
    queries = np.repeat(base, n_queries, axis=0).astype(np.float32)
    found = _find(store, queries, 5)
    assert set(found.rows[0].tolist()) == set(range(101, 106))
    assert_nearest(found, queries, np.arange(1, 106), codes, 5)


@pytest.mark.parametrize("n_queries", [4, 20])
def test_segments_larger_than_a_block_are_searched_whole(tmp_path: Path, n_queries: int) -> None:
    store = create(tmp_path / "index", width=_WIDTH)
    n = PLAIN_BLOCK + 2_000
    codes = random_codes(n, _WIDTH, seed=8)
    codes[-40:] = codes[7]
    add(store, codes)
    rows = np.arange(1, n + 1)
    edges = codes[[7, PLAIN_BLOCK - 1, PLAIN_BLOCK, 0]].astype(np.float32)
    queries = np.concatenate([edges, _queries(17)])[:n_queries]
    for k in (5, 30):
        assert_nearest(_find(store, queries, k), queries, rows, codes, k)


def test_similarity_is_in_the_step_that_it_is_shown_in() -> None:
    # In float64 the first is in the step of the second, and its row is lower.
    exact = np.array([[0.808325005, 0.80833]])
    assert np.rint(exact / 1e-5).tolist() == [[80_833, 80_833]]
    found = neighbors.take_nearest(np.array([[1, 2]]), exact, 2)
    assert found.rows.tolist() == [[2, 1]]
    assert np.rint(found.similarities.astype(np.float64) / 1e-5).tolist() == [[80_833, 80_832]]


def test_empty_index_has_no_neighbors(tmp_path: Path) -> None:
    store = create(tmp_path / "index", width=_WIDTH)
    for n_queries in (1, 30):
        assert _find(store, _queries(n_queries), 4).rows.shape == (n_queries, 0)


@pytest.mark.parametrize("order", [np.sort, np.random.default_rng(2).permutation])
def test_gathered_vectors_are_those_of_the_rows_asked(
    store: Store, order: Callable[[NDArray[np.int64]], NDArray[np.int64]]
) -> None:
    rows, codes = read_live(store.path, 0)
    at = order(np.random.default_rng(3).choice(len(rows), 200, replace=False))
    gathered = store.query(lambda snapshot: snapshot.layer(0).gather(rows[at]))
    expected = codes[at].astype(np.float64)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(gathered, expected, atol=1e-6)


def test_row_asked_for_as_often_as_its_segment_is_long_is_gathered_each_time(
    tmp_path: Path,
) -> None:
    store = create(tmp_path / "index", width=_WIDTH)
    codes = random_codes(3, _WIDTH)
    add(store, codes)
    for row in (1, 2, 3):
        asked = np.full(3, row)
        with store.read() as snapshot:
            gathered = snapshot.layer(0).gather(asked)
        np.testing.assert_allclose(gathered, codes[[row - 1] * 3], atol=1e-3)
