"""Layers fused: NumPy over the stored vectors of each layer says the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from layerdex.choices import Fuse
from layerdex.errors import OptionError
from layerdex.records import Vectors
from layerdex.search.dedup.greedy import find_duplicates
from layerdex.search.knn.neighbors import Neighbors
from layerdex.search.knn.vector_space import VectorSpace
from layerdex.search.targets import SearchTarget
from layerdex.storage.store import Store
from tests.search.brute_force import assert_nearest, cosines, read_live
from tests.search.stores import add, create, random_codes

_WIDTH, _N_LAYERS, _N = 12, 4, 180
_LAYERS, _WEIGHTS = (0, 1, 3), (1.0, 0.25, 2.0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three segments with two dead documents."""
    made = create(tmp_path / "index", width=_WIDTH, n_layers=_N_LAYERS)
    for seed in range(3):
        codes = [random_codes(_N // 3, _WIDTH, seed=10 * seed + layer) for layer in range(4)]
        add(made, np.stack(codes))
    with made.write() as writer:
        writer.delete(["d5", "d100"])
    return made


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    lengths: NDArray[np.float64] = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / lengths


def by_hand(parts: list[NDArray[np.floating]], how: Fuse) -> NDArray[np.float64]:
    weighted = [w * unit(part) for w, part in zip(_WEIGHTS, parts, strict=True)]
    return sum(weighted[1:], weighted[0]) if how is Fuse.MEAN else np.concatenate(weighted, axis=1)


def questions(n: int) -> dict[int, Vectors]:
    return {
        layer: unit(random_codes(n, _WIDTH, seed=77 + layer)).astype(np.float32)
        for layer in range(_N_LAYERS)
    }


def find(
    store: Store,
    vectors: dict[int, Vectors],
    space: VectorSpace,
    k: int,
    rows: NDArray[np.int64] | None = None,
) -> Neighbors:
    return store.query(lambda snapshot: space.find(snapshot.layer, vectors, k, rows=rows))


@pytest.mark.parametrize("how", [Fuse.MEAN, Fuse.CONCAT])
@pytest.mark.parametrize("n_queries", [1, 40])
@pytest.mark.parametrize("filtered", [False, True])
def test_fused_neighbors_are_those_of_the_fused_vectors(
    store: Store, how: Fuse, n_queries: int, filtered: bool
) -> None:
    rows = read_live(store.path, 0)[0]
    keep = np.arange(len(rows)) % 3 == 0 if filtered else np.ones(len(rows), dtype=np.bool_)
    stored = [read_live(store.path, layer)[1][keep] for layer in _LAYERS]
    vectors = questions(n_queries)
    asked = [vectors[layer] for layer in _LAYERS]
    fusion = VectorSpace(SearchTarget(_LAYERS, how, _WEIGHTS))
    found = find(store, vectors, fusion, 7, rows[keep] if filtered else None)
    assert_nearest(found, by_hand(asked, how), rows[keep], by_hand(stored, how), 7)


def test_concat_is_the_weighted_mean_of_similarities(store: Store) -> None:
    vectors = questions(5)
    found = find(store, vectors, VectorSpace(SearchTarget(_LAYERS, Fuse.CONCAT, _WEIGHTS)), 3)
    rows = read_live(store.path, 0)[0]
    squares = np.square(_WEIGHTS)
    similarities = sum(
        square * cosines(vectors[layer], read_live(store.path, layer)[1])
        for square, layer in zip(squares, _LAYERS, strict=True)
    )
    at = np.searchsorted(rows, found.rows)
    expected = np.take_along_axis(np.asarray(similarities) / squares.sum(), at, axis=1)
    np.testing.assert_allclose(found.similarities, expected, atol=2e-6)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("filtered", [False, True])
def test_rrf_ranks_by_the_sum_of_reciprocal_ranks(store: Store, filtered: bool) -> None:
    rows = read_live(store.path, 0)[0]
    keep = np.arange(len(rows)) % 3 == 0 if filtered else np.ones(len(rows), dtype=np.bool_)
    vectors = questions(70)  # more than are ranked at once
    fusion = VectorSpace(SearchTarget(_LAYERS, Fuse.RRF, _WEIGHTS))
    found = find(store, vectors, fusion, 9, rows[keep] if filtered else None)
    assert found.rows.shape == (70, 9)
    for i in range(70):
        total = np.zeros(keep.sum())
        for weight, layer in zip(_WEIGHTS, _LAYERS, strict=True):
            steps = np.rint(
                cosines(vectors[layer][[i]], read_live(store.path, layer)[1][keep])[0] * 1e5
            )
            order = sorted(range(len(steps)), key=lambda j: (-steps[j], j))
            for rank, j in enumerate(order, 1):
                total[j] += weight / sum(_WEIGHTS) / (60 + rank)
        best = sorted(range(len(total)), key=lambda j: (-total[j], j))[:9]
        np.testing.assert_allclose(found.similarities[i], total[best], atol=1e-6)
        assert len(set(found.rows[i].tolist()) & set(rows[keep][best].tolist())) >= 8


def test_more_than_there_are_is_all_of_them(store: Store) -> None:
    for how in Fuse:
        found = find(store, questions(2), VectorSpace(SearchTarget((0, 1), how, (1.0, 1.0))), 500)
        assert found.rows.shape == (2, _N - 2)
        assert set(found.rows[0].tolist()) == set(read_live(store.path, 0)[0].tolist())


def test_no_questions_have_no_answers(store: Store) -> None:
    for how in Fuse:
        space = VectorSpace(SearchTarget((0, 1), how, (1.0, 1.0)))
        assert find(store, questions(0), space, 5, None).rows.shape == (0, 5)


def test_duplicates_are_found_among_fused_vectors(store: Store) -> None:
    fusion = VectorSpace(SearchTarget(_LAYERS, Fuse.MEAN, _WEIGHTS))
    found = store.query(
        lambda snapshot: find_duplicates(
            fusion.vectors(snapshot.layer), snapshot.document_table(), threshold=0.8
        )
    )
    rows = read_live(store.path, 0)[0]
    fused = by_hand([read_live(store.path, layer)[1] for layer in _LAYERS], Fuse.MEAN)
    similarities = cosines(fused, fused)
    kept: list[int] = []
    for i in range(len(rows)):
        if not kept or similarities[i, kept].max() < 0.8:
            kept.append(i)
    assert found.kept.tolist() == rows[kept].tolist()
    assert len(found.removed)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_is_above_zero(weight: float) -> None:
    with pytest.raises(OptionError, match="weight must be above 0"):
        SearchTarget((0, 1), Fuse.MEAN, (1.0, weight))


def test_a_fusion_names_its_layers_and_their_weights() -> None:
    assert SearchTarget((0, 2, 3), Fuse.MEAN, (1.0, 1.0, 1.0)).name == "mean(0,2-3)"
    assert SearchTarget((0, 2), Fuse.RRF, (1.0, 0.5)).name == "rrf(0:1,2:0.5)"
