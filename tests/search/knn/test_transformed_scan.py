"""A question of transformed vectors that scans codes: NumPy over all of them says the same."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerdex.choices import StoredPrecision
from layerdex.records import Vectors
from layerdex.search.knn import transformed_scan
from layerdex.search.knn.neighbors import Neighbors, find_neighbors
from layerdex.search.vectors.transform import Transform, TransformedVectors, find_axes
from layerdex.storage.store import Store
from tests.search.brute_force import assert_nearest, read_live
from tests.search.stores import add, create
from tests.search.vectors.test_transform import cone

_WIDTH = 24
SCANNED = [StoredPrecision.FLOAT16, StoredPrecision.FLOAT32]
TRANSFORMS: dict[str, Callable[[Vectors], Transform]] = {
    "center": lambda vectors: find_axes(vectors).center(),
    "whiten": lambda vectors: find_axes(vectors).whiten(0.1),
    "noise": lambda vectors: find_axes(vectors).whiten(1e-4),
}


@pytest.fixture(scope="module", params=SCANNED)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Three segments of a narrow cone, with repeats of a vector and with dead rows."""
    made = create(tmp_path_factory.mktemp("cone") / "i", width=_WIDTH, precision=request.param)
    for seed in range(3):
        vectors = cone(700, width=_WIDTH, seed=7)[seed * 200 : seed * 200 + 300]
        add(made, vectors)
    with made.write() as writer:
        writer.delete([f"d{i}" for i in range(0, 900, 7)])
    return made


def transformed(store: Store, how: str) -> Transform:
    return TRANSFORMS[how](read_live(store.path, 0)[1].astype(np.float32))


def find(
    store: Store, transform: Transform, queries: Vectors, k: int, rows: np.ndarray | None = None
) -> Neighbors:
    with store.read() as snapshot:
        source = TransformedVectors(transform, snapshot.layer(0))
        return find_neighbors(source, queries, k, rows=rows)


def moved(store: Store, transform: Transform, rows: np.ndarray) -> Vectors:
    """Return the documents' transformed vectors, all of them transformed."""
    with store.read() as snapshot:
        return transform.apply(snapshot.layer(0).gather(rows))


def unit(vectors: np.ndarray) -> Vectors:
    wide = vectors.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    return wide.astype(np.float32)


@pytest.mark.parametrize("how", TRANSFORMS)
@pytest.mark.parametrize("k", [1, 10, 900])
def test_neighbours_are_those_of_transforming_all(store: Store, how: str, k: int) -> None:
    transform, (rows, _) = transformed(store, how), read_live(store.path, 0)
    documents = moved(store, transform, rows)
    queries = transform.apply(cone(8, width=_WIDTH, seed=7))  # of which some are stored
    assert_nearest(find(store, transform, queries, k), queries, rows, documents, k)
    some = np.sort(np.random.default_rng(0).permutation(len(rows))[:300])
    found = find(store, transform, queries, k, rows[some])
    assert_nearest(found, queries, rows[some], documents[some], k)
    few = some[:5]
    assert_nearest(
        find(store, transform, queries, k, rows[few]), queries, rows[few], documents[few], k
    )


def test_few_questions_and_many_have_the_same_answers(store: Store) -> None:
    transform = transformed(store, "whiten")
    queries = transform.apply(cone(40, width=_WIDTH, seed=3))
    batch = find(store, transform, queries, 6)
    for start in range(0, 40, 8):
        found = find(store, transform, queries[start : start + 8], 6)
        np.testing.assert_allclose(
            found.similarities, batch.similarities[start : start + 8], atol=1e-6
        )
        np.testing.assert_array_equal(found.rows, batch.rows[start : start + 8])


@pytest.mark.parametrize("n_rows", [None, 5], ids=["scanned", "decoded"])
def test_a_question_alone_has_the_similarities_of_one_in_a_batch(
    store: Store, n_rows: int | None
) -> None:
    """Where transforming rounds alike: what BLAS adds depends on a row's place in the block."""
    axes = find_axes(read_live(store.path, 0)[1].astype(np.float32))
    scales = np.random.default_rng(0).uniform(0.3, 3, _WIDTH).astype(np.float32)
    rows = None if n_rows is None else read_live(store.path, 0)[0][:n_rows]
    for transform in (axes.center(), Transform(axes.mean, np.diag(scales))):
        for seed in range(4):
            queries = transform.apply(cone(20, width=_WIDTH, seed=seed))
            batch = find(store, transform, queries, 50, rows)
            for at in range(20):
                alone = find(store, transform, queries[at : at + 1], 50, rows)
                np.testing.assert_array_equal(alone.similarities[0], batch.similarities[at])
                np.testing.assert_array_equal(alone.rows[0], batch.rows[at])


def test_what_is_almost_the_mean_is_compared_by_its_own_vector(tmp_path: Path) -> None:
    """Lengths of next to nothing divide rounding by rounding."""
    store = create(tmp_path / "i", width=_WIDTH, precision=StoredPrecision.FLOAT32)
    mean = cone(1, width=_WIDTH)
    noise = np.random.default_rng(1).standard_normal((30, _WIDTH))
    near = unit(mean + noise * np.geomspace(1e-8, 1e-3, 30)[:, None])
    vectors = np.concatenate([cone(60, width=_WIDTH, seed=2), near, mean])
    add(store, vectors)
    axes = find_axes(vectors)
    transform = Transform(mean[0], axes.whiten(0.2).matrix)
    rows = np.arange(1, 92)
    documents = moved(store, transform, rows)
    assert np.linalg.norm(vectors - mean, axis=1)[-31:].min() < 1e-7
    queries = transform.apply(cone(9, width=_WIDTH, seed=3))
    for k in (1, 5, 40, 91):
        found = find(store, transform, queries, k)
        truth = queries.astype(np.float64) @ documents.T.astype(np.float64)
        ranked = np.sort(truth, axis=1)[:, ::-1][:, :k]
        np.testing.assert_allclose(found.similarities, ranked, atol=2e-6)
        at = np.take_along_axis(truth, found.rows - rows[0], axis=1)
        np.testing.assert_allclose(found.similarities, at, atol=2e-6)


@pytest.mark.parametrize("how", ["center", "whiten"])
def test_the_bound_holds_and_leaves_few_to_transform(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    width, n = 96, 4_000
    store = create(tmp_path / "i", width=width)
    vectors = cone(n, width=width)
    add(store, vectors)
    transform = TRANSFORMS[how](vectors)
    queries = transform.apply(cone(6, width=width, seed=5))
    documents = transform.apply(unit(vectors.astype(np.float16)))
    estimate = transformed_scan._estimate
    asked: list[float] = []

    def spying(*words: Any) -> Any:
        similarities, errors = estimate(*words)
        true = documents @ queries[len(asked)]
        assert (np.abs(similarities - true) < errors).all()
        asked.append(float(errors.max()))
        return similarities, errors

    apply = Transform.apply
    n_moved: list[int] = []

    def counting(self: Transform, chosen: Vectors) -> Vectors:
        n_moved.append(len(chosen))
        return apply(self, chosen)

    monkeypatch.setattr(transformed_scan, "_estimate", spying)
    monkeypatch.setattr(Transform, "apply", counting)
    find(store, transform, queries, 10)
    assert len(asked) == 6
    assert max(asked) < 0.02
    assert len(n_moved) == 6
    assert max(n_moved) < n / 10


def test_lengths_are_learned_once_and_forgotten_with_the_file(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    transform = transformed(store, "whiten")
    queries = transform.apply(cone(1, width=_WIDTH))
    reader = Store(store.path)
    before = find(reader, transform, queries, 5)
    assert len(transform._lengths) == 3
    with monkeypatch.context() as patched:
        patched.setattr(Transform, "_map", lambda _, vectors: pytest.fail(str(len(vectors))))
        with pytest.raises(pytest.fail.Exception, match=r"^\d$|^1\d$"):  # the nearest, no file
            find(reader, transform, queries, 5)
    assert find(reader, transform, queries, 5).rows.tolist() == before.rows.tolist()
    del reader
    gc.collect()
    assert len(transform._lengths) == 0
