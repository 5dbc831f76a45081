"""Tiles: the answers of brute force in float64, whatever the vectors and the arithmetic."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from layerdex.errors import DamagedIndexError
from layerdex.records import Vectors
from layerdex.search.knn.tiles import others as others_module
from layerdex.search.knn.tiles.arithmetic import BFloat16, Float32, Int8, _int8_is_exact
from layerdex.search.knn.tiles.codes import (
    PLAIN,
    Encoding,
    choose_encoding,
    principal_axes,
)
from layerdex.search.knn.tiles.device import DeviceVectors
from layerdex.search.knn.tiles.kept import keep_greedily
from layerdex.search.knn.tiles.nearest import NearestSearch
from layerdex.search.knn.tiles.others import find_others
from layerdex.search.knn.tiles.pairs import each_pair, encode_for_pairs
from layerdex.search.knn.tiles.tile import Pairs, Side, find_pairs, run_in_threads
from layerdex.search.knn.tiles.vectors import CodedVectors
from layerdex.search.vectors.in_memory import InMemoryVectors
from layerdex.search.vectors.similarity import SIMILARITY_STEP, floor_of, to_steps
from tests.search.small_tiles import use_small_tiles

_N, _WIDTH = 220, 40
ARITHMETICS = ("float32", "bfloat16", "int8")


def unit(vectors: NDArray[np.floating]) -> Vectors:
    wide = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(wide, np.float32)


def _narrow(random: np.random.Generator) -> Vectors:
    few = random.standard_normal((_N, 6)) @ random.standard_normal((6, _WIDTH))
    return unit(few + 0.2 * random.standard_normal((_N, _WIDTH)))


def _cone(random: np.random.Generator) -> Vectors:
    return unit(3 + random.standard_normal((_N, _WIDTH)) * np.geomspace(1, 1e-3, _WIDTH))


def _orthogonal(random: np.random.Generator) -> Vectors:
    axes = np.linalg.qr(random.standard_normal((_WIDTH, _WIDTH)))[0]
    return unit(np.concatenate([axes] * 6)[:_N] + 1e-4 * random.standard_normal((_N, _WIDTH)))


def _equal(random: np.random.Generator) -> Vectors:
    return np.repeat(unit(random.standard_normal((1, _WIDTH))), _N, axis=0)


def _opposite(random: np.random.Generator) -> Vectors:
    half = _narrow(random)[: _N // 2]
    return np.concatenate([half, -half])


def _one_outlier(random: np.random.Generator) -> Vectors:
    vectors = _cone(random)
    vectors[17] = -np.eye(_WIDTH, dtype=np.float32)[3]
    return vectors


def _clipped(random: np.random.Generator) -> Vectors:
    """Each has nearly all of its length in one component, which int8 would clip."""
    axes = np.eye(_WIDTH)[random.integers(0, _WIDTH, _N)]
    return unit(axes + 0.01 * random.standard_normal((_N, _WIDTH)))


def _few_distinct(random: np.random.Generator) -> Vectors:
    return _narrow(random)[random.integers(0, 9, _N)]


def _at_the_edge(random: np.random.Generator) -> Vectors:
    """Pairs at cosines of 0.9 and the tenth digits around the edge of its step."""
    base = unit(random.standard_normal((_N // 2, _WIDTH))).astype(np.float64)
    other = random.standard_normal(base.shape)
    other -= np.sum(other * base, axis=1, keepdims=True) * base
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    cosines = 0.9 - SIMILARITY_STEP / 2 + np.linspace(-3e-7, 3e-7, len(base))[:, None]
    return unit(np.concatenate([base, cosines * base + np.sqrt(1 - cosines**2) * other]))


KINDS: list[Callable[[np.random.Generator], Vectors]] = [
    *(_narrow, _cone, _orthogonal, _equal, _opposite, _one_outlier, _clipped, _few_distinct),
    _at_the_edge,
]


@pytest.fixture(params=KINDS, ids=lambda make: make.__name__.strip("_"), scope="module")
def vectors(request: pytest.FixtureRequest) -> Vectors:
    made: Vectors = request.param(np.random.default_rng(5))
    assert made.shape == (_N, _WIDTH)
    return made


def exact(left: Vectors, right: Vectors) -> NDArray[np.float32]:
    """Return similarities (n_left, n_right) from float64."""
    wide = left.astype(np.float64) @ right.astype(np.float64).T
    return np.clip(wide, -1, 1).astype(np.float32)


def is_certain(similarities: NDArray[np.float32], step: float) -> NDArray[np.bool_]:
    """Return which similarities sums in another order could not move across a step's edge."""
    away = np.abs(similarities / SIMILARITY_STEP - (step - 0.5)) > 2e-7 / SIMILARITY_STEP
    return np.asarray(away)


def encodings(sample: Vectors) -> list[Encoding]:
    """Return short and whole codes in each arithmetic, and those that would be chosen."""
    axes = principal_axes(sample, 7)
    turned = np.linalg.qr(np.random.default_rng(1).standard_normal((8, 8)))[0]
    made = [PLAIN, Encoding(Float32(), axes), Encoding(BFloat16(), axes)]
    made += [Encoding(Int8(step), axes, turned) for step in (0.3 / 127, 1 / 127)]
    made += [choose_encoding(sample[:50], sample, 0.8, name) for name in ARITHMETICS]
    return [*made, Encoding(BFloat16()), Encoding(Int8(1 / 127))]


def test_no_product_is_further_below_the_similarity_than_its_margin(vectors: Vectors) -> None:
    similarities = exact(vectors, vectors).astype(np.float64)
    for encoding in encodings(vectors):
        codes, buffer = encoding.encode(vectors), np.empty(_N * _N, np.int32)
        raw = encoding.arithmetic.multiply(codes.values, codes.values, buffer)
        margins = encoding.margins(codes, codes)[:, None]
        for floors in (similarities, np.full_like(similarities, 0.5)):
            limits = encoding.arithmetic.limits((floors - margins).ravel()).reshape(_N, _N)
            ruled_out = raw < limits
            assert not (ruled_out & (similarities >= floors)).any()


def test_short_codes_rule_out_most_pairs_of_narrow_vectors() -> None:
    vectors = _narrow(np.random.default_rng(2))
    similarities = exact(vectors, vectors)
    n_true = np.count_nonzero(similarities >= 0.8)
    for name in ARITHMETICS:
        encoding = choose_encoding(vectors[:50], vectors, 0.8, name)
        codes, buffer = encoding.encode(vectors), np.empty(_N * _N, np.int32)
        raw = encoding.arithmetic.multiply(codes.values, codes.values, buffer)
        limits = encoding.arithmetic.limits(0.8 - encoding.margins(codes, codes))
        assert n_true <= np.count_nonzero(raw >= limits[:, None]) < 1.5 * n_true


@pytest.mark.one_in(2)
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("n_threads", [1, 3])
def test_nearest_are_those_of_brute_force(
    vectors: Vectors, arithmetic: str, n_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_small_tiles(monkeypatch, 16)
    random = np.random.default_rng(3)
    rows = np.sort(random.choice(10 * _N, _N, replace=False))
    queries = np.concatenate([vectors[::3], unit(random.standard_normal((5, _WIDTH)))])
    for n_queries in (1, len(queries)):
        search = NearestSearch(
            InMemoryVectors(rows, vectors),
            n_queries=n_queries,
            arithmetic=arithmetic,
            n_threads=n_threads,
        )
        for k in (1, 7, _N):
            found, similarities = search.find(queries, k)
            _check_nearest(found, similarities, exact(queries, vectors), rows)


def _check_nearest(
    found: NDArray[np.int64],
    similarities: NDArray[np.float32],
    true: NDArray[np.float32],
    rows: NDArray[np.int64],
) -> None:
    k = found.shape[1]
    assert similarities.shape == found.shape
    at = np.searchsorted(rows, found)
    assert (rows[at] == found).all()
    taken = np.take_along_axis(true, at, axis=1)
    np.testing.assert_allclose(similarities, taken, rtol=0, atol=1.3e-7)
    steps = to_steps(similarities)
    assert (np.diff(steps, axis=1) <= 0).all()
    assert (np.diff(found, axis=1)[np.diff(steps, axis=1) == 0] > 0).all()
    expected = np.sort(to_steps(true), axis=1)[:, ::-1][:, :k]
    clear = np.abs(true / SIMILARITY_STEP % 1 - 0.5).min(axis=1) > 2e-7 / SIMILARITY_STEP
    assert (steps[clear] == expected[clear]).all()
    order = np.lexsort((np.broadcast_to(rows, true.shape), -to_steps(true)), axis=1)[:, :k]
    assert (rows[order][clear] == found[clear]).all()


@pytest.mark.one_in(4)
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("n_threads", [1, 3])
def test_nearest_others_are_those_of_brute_force(
    vectors: Vectors, arithmetic: str, n_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_small_tiles(monkeypatch, 16)
    random = np.random.default_rng(3)
    rows = np.sort(random.choice(10 * _N, _N, replace=False))
    source = InMemoryVectors(rows, vectors)
    true = exact(vectors, vectors)
    few_groups = random.integers(0, 40, _N)
    few_groups[:30] = 3
    for groups in (None, few_groups):
        of = np.arange(_N) if groups is None else groups
        others = np.where(of[:, None] == of, np.float32(-2), true)
        for k in (1, 7, 150):
            found, similarities = find_others(
                source, rows, k, groups=groups, arithmetic=arithmetic, n_threads=n_threads
            )
            _check_nearest(rows[found], similarities, others, rows)


def test_documents_with_fewer_than_k_others_have_no_more() -> None:
    vectors = _narrow(np.random.default_rng(7))
    source = InMemoryVectors(np.arange(_N), vectors)
    for n in (0, 1, 2, 5):
        found, similarities = find_others(source, np.arange(n), 6)
        assert found.shape == similarities.shape == (n, 6)
        for i in range(n):
            assert sorted(found[i, : n - 1]) == [j for j in range(n) if j != i]
            assert (found[i, n - 1 :] == -1).all()
            assert (similarities[i, n - 1 :] == -2).all()
    found, _ = find_others(source, np.arange(_N), 3, groups=np.zeros(_N, np.int64))
    assert (found == -1).all()


def test_equal_vectors_leave_no_more_pairs_than_are_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_small_tiles(monkeypatch, 16)
    n_found = 0
    whole = find_pairs

    def count(*args: object, **kwargs: object) -> Pairs:
        nonlocal n_found
        pairs = whole(*args, **kwargs)  # type: ignore[arg-type]
        n_found += len(pairs.rows)
        return pairs

    monkeypatch.setattr(others_module, "find_pairs", count)
    for make in (_equal, _few_distinct):
        n_found = 0
        vectors = np.tile(make(np.random.default_rng(8)), (5, 1))
        rows = np.arange(len(vectors))
        find_others(InMemoryVectors(rows, vectors), rows, 2, arithmetic="float32", n_threads=1)
        # A block meets equal vectors in one tile, or in the first that has k of them.
        assert n_found < 3 * 48 * len(rows) < len(rows) ** 2 / 6


def test_neighbors_below_a_floor_may_be_left_out_and_no_others() -> None:
    vectors = _narrow(np.random.default_rng(1))
    true = exact(vectors, vectors)
    for n_queries in (1, 10_000):
        search = NearestSearch(InMemoryVectors(np.arange(_N), vectors), n_queries=n_queries)
        found, similarities = search.find(vectors, 30, floors=0.7)
        expected = np.minimum(np.count_nonzero(true >= 0.7, axis=1), 30)
        np.testing.assert_array_equal(np.count_nonzero(similarities >= 0.7, axis=1), expected)
        assert (found[similarities < 0.7] == -1).all() or n_queries == 1


@pytest.mark.one_in(5)
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("min_similarity", [-1.0, 0.3, 0.9, 1.0])
def test_pairs_are_those_of_brute_force(
    vectors: Vectors, arithmetic: str, min_similarity: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_small_tiles(monkeypatch, 16)
    order = np.random.default_rng(4).permutation(_N)  # documents come in any order
    source = InMemoryVectors(np.arange(_N), vectors)
    step = int(to_steps(min_similarity))
    # Of every third document other pairs matter, too.
    floors = np.full(_N, floor_of(step))
    floors[::3] -= 0.2
    for n_threads in (1, 3):
        coded = encode_for_pairs(
            source, order, min_similarity, arithmetic=arithmetic, n_threads=n_threads
        )
        parts: list[Pairs] = []
        each_pair(coded, floors.__getitem__, parts.append, n_threads=n_threads)
        found = np.zeros((_N, _N), np.int64)
        for part in parts:
            np.add.at(found, (part.rows, part.columns), 1)
        true = exact(vectors[order], vectors[order])
        lowest = np.minimum(floors[:, None], floors)
        expected = np.tril(true >= lowest, -1)
        certain = np.abs(true - lowest) > 2e-7
        np.testing.assert_array_equal(found[certain], expected[certain])
        assert found.max() <= 1
        assert not np.triu(found).any()


@pytest.mark.one_in(2)
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_kept_are_those_of_a_loop(
    vectors: Vectors, arithmetic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_small_tiles(monkeypatch, 10)
    true = exact(vectors, vectors)
    for threshold in (-1.0, 0.3, 0.9):
        step = int(to_steps(threshold))
        if not is_certain(true, step).all():
            continue
        expected: list[int] = []
        for i in range(_N):
            if not (to_steps(true[i, expected]) >= step).any():
                expected.append(i)
        for n_threads in (1, 3):
            coded = _coded(vectors, threshold, arithmetic)
            kept = [*keep_greedily(coded, step, n_threads=n_threads)]
            assert np.concatenate(kept).tolist() == expected


def _coded(vectors: Vectors, threshold: float, arithmetic: str) -> CodedVectors | DeviceVectors:
    source = InMemoryVectors(np.arange(_N), vectors)
    return encode_for_pairs(source, np.arange(_N), threshold, arithmetic=arithmetic)


def test_vectors_too_many_to_be_held_are_read_when_they_are_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_small_tiles(monkeypatch, 16)
    vectors = _narrow(np.random.default_rng(6))
    search = NearestSearch(InMemoryVectors(np.arange(_N), vectors), n_queries=9_999)
    held = search.find(vectors, 5)
    monkeypatch.setattr("layerdex.search.knn.tiles.vectors._MOST_HELD_BYTES", 100)
    search = NearestSearch(InMemoryVectors(np.arange(_N), vectors), n_queries=9_999)
    read = search.find(vectors, 5)
    np.testing.assert_array_equal(held, read)


def test_half_a_step_is_rounded_as_everywhere() -> None:
    # 55/64 is the lower edge of step 85,938, as halves are rounded to even numbers.
    vectors = np.zeros((2, 3), np.float32)
    vectors[0, 0] = 1
    vectors[1, :2] = 55 / 64, np.sqrt(1 - (55 / 64) ** 2)
    assert exact(vectors, vectors)[0, 1] == 55 / 64
    assert to_steps(55 / 64) == 85_938
    for step, n_kept in ((85_937, 1), (85_938, 1), (85_939, 2)):
        coded = encode_for_pairs(InMemoryVectors(np.arange(2), vectors), np.arange(2), 0.8)
        assert sum(len(kept) for kept in keep_greedily(coded, step)) == n_kept
        pairs: list[Pairs] = []
        each_pair(coded, np.full(2, floor_of(step)).__getitem__, pairs.append)
        assert len(pairs) == 2 - n_kept


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_vector_that_is_no_number_is_damage_and_no_missing_neighbor(arithmetic: str) -> None:
    vectors = _narrow(np.random.default_rng(8))
    vectors[31, 2] = np.nan
    source = InMemoryVectors(np.arange(_N), vectors)
    for n_queries in (1, 10_000):
        search = NearestSearch(source, n_queries=n_queries, arithmetic=arithmetic)
        with pytest.raises(DamagedIndexError, match="no number"):
            search.find(vectors[:3], 2)
    with pytest.raises(DamagedIndexError, match="no number"):
        encode_for_pairs(source, np.arange(_N), 0.9, arithmetic=arithmetic)


def test_int8_is_tried_before_it_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _int8_is_exact()
    whole = Int8.multiply

    def saturate(self: Int8, *args: NDArray[np.int32]) -> NDArray[np.int32]:
        raw: NDArray[np.int32] = whole(self, *args)
        np.minimum(raw, 127 * 127 * 100, out=raw)
        return raw

    monkeypatch.setattr(Int8, "multiply", saturate)
    assert not _int8_is_exact()


def test_an_error_ends_what_is_at_work_between_two_tiles() -> None:
    vectors = np.eye(8, dtype=np.float32)
    side = Side(PLAIN.encode(vectors), vectors.__getitem__)
    n_compared, has_begun = 0, threading.Event()

    def compare() -> None:
        nonlocal n_compared
        for _ in range(1_000_000):  # a minute
            find_pairs(PLAIN, side, side, np.ones(8))
            n_compared += 1
            has_begun.set()

    def fail() -> None:
        assert has_begun.wait(20)
        raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_in_threads([fail, compare, compare], 2)
    assert 0 < n_compared < 1_000_000
    assert time.monotonic() - begun < 10
