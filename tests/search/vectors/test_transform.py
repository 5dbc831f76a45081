"""Transforms: what scikit-learn and NumPy in float64 make of the same vectors."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from layerdex.choices import Fuse, StoredPrecision, TransformName
from layerdex.errors import OptionError
from layerdex.records import Vectors
from layerdex.search.knn.neighbors import find_neighbors
from layerdex.search.knn.vector_space import VectorSpace, layer_spaces
from layerdex.search.targets import SearchTarget
from layerdex.search.vectors.fusion import fuse_vectors
from layerdex.search.vectors.transform import TransformedVectors, find_axes
from tests.search.brute_force import assert_nearest, cosines
from tests.search.stores import add, create, random_codes

_WIDTH = 12


def cone(n: int, *, width: int = _WIDTH, seed: int = 0, n_axes: int | None = None) -> Vectors:
    """Unit vectors around one direction, with spreads from 1 to 0.1 along ``n_axes`` others."""
    random = np.random.default_rng(seed)
    n_axes = width if n_axes is None else n_axes
    spread = random.standard_normal((n, n_axes)) * np.geomspace(1, 0.1, n_axes)
    turned = np.linalg.qr(random.standard_normal((width, width)))[0]
    found = spread @ turned[:n_axes] * 0.2 + turned[0] * 3
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), dtype=np.float32)


def shrunk(vectors: NDArray[np.floating], shrinkage: float) -> tuple[NDArray[np.float64], ...]:
    """Return mean and whitening matrix (width, width) by the book, in float64."""
    wide = vectors.astype(np.float64)
    mean = wide.mean(axis=0)
    covariance = np.cov((wide - mean).T, bias=True)
    even = np.trace(covariance) / len(mean) * np.eye(len(mean))
    values, axes = np.linalg.eigh((1 - shrinkage) * covariance + shrinkage * even)
    return mean, axes / np.sqrt(values)


def by_book(vectors: NDArray[np.floating], fitted: tuple[NDArray[np.float64], ...]) -> Vectors:
    mean, matrix = fitted
    found = (vectors.astype(np.float64) - mean) @ matrix
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


def test_without_shrinkage_it_is_scikit_learns_whitening() -> None:
    vectors, others = cone(400), cone(30, seed=1)
    whiten = find_axes(vectors).whiten(0)
    model = PCA(whiten=True, svd_solver="full").fit(vectors.astype(np.float64))
    expected = cosines(model.transform(others), model.transform(vectors))
    found = whiten.apply(others) @ whiten.apply(vectors).T
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert np.abs(found - cosines(others, vectors)).max() > 0.5  # it does something


@pytest.mark.parametrize("shrinkage", [0.05, 0.5, 1.0])
@pytest.mark.parametrize(("n", "n_axes"), [(300, _WIDTH), (300, 4), (7, _WIDTH), (2, _WIDTH)])
def test_with_shrinkage_it_is_the_shrunk_covariances(n: int, n_axes: int, shrinkage: float) -> None:
    vectors, others = cone(n, n_axes=n_axes), cone(20, seed=2)
    transform = find_axes(vectors).whiten(shrinkage)
    fitted = shrunk(vectors, shrinkage)
    expected = by_book(others, fitted)
    found = transform.apply(others)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=5e-5)


def test_centring_takes_the_mean_off_and_is_all_that_full_shrinkage_does() -> None:
    vectors = cone(200)
    axes = find_axes(vectors)
    wide = vectors.astype(np.float64) - vectors.astype(np.float64).mean(axis=0)
    expected = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    np.testing.assert_allclose(axes.center().apply(vectors), expected, atol=1e-5)
    whitened = axes.whiten(1).apply(vectors)
    np.testing.assert_allclose(whitened @ whitened.T, expected @ expected.T, atol=1e-5)


def test_the_number_of_threads_changes_no_byte_and_is_left_as_it_was() -> None:
    vectors, before = cone(3_000, width=64), faiss.omp_get_max_threads()
    found = []
    try:
        for n_threads in (1, 2, 3):
            faiss.omp_set_num_threads(n_threads)
            axes = find_axes(vectors)
            assert faiss.omp_get_max_threads() == n_threads
            found.append((axes.mean.tobytes(), axes.axes.tobytes(), axes.variances.tobytes()))
    finally:
        faiss.omp_set_num_threads(before)
    assert found[0] == found[1] == found[2]


def test_vectors_that_are_all_alike_stay_as_they_are() -> None:
    axes = find_axes(np.repeat(cone(1), 50, axis=0))
    others = cone(9, seed=1)
    for transform in (axes.center(), axes.whiten(0.1), axes.whiten(1)):
        np.testing.assert_allclose(transform.apply(others), others, atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_vector_is_refused(bad: float) -> None:
    for n in (5, 300):
        vectors = cone(n)
        vectors[3, 2] = bad
        with pytest.raises(OptionError, match="not finite"):
            find_axes(vectors)


def test_too_even_a_shrinkage_is_refused() -> None:
    axes = find_axes(cone(300, n_axes=4))
    for shrinkage in (-0.1, 1.1, float("nan")):
        with pytest.raises(OptionError, match="shrinkage must be between 0 and 1"):
            axes.whiten(shrinkage)
    with pytest.raises(OptionError, match="must be above 0"):
        find_axes(cone(5)).whiten(0)


@pytest.mark.parametrize("precision", list(StoredPrecision))
def test_neighbours_are_those_of_the_transformed_vectors(
    tmp_path: Path, precision: StoredPrecision
) -> None:
    store = create(tmp_path / "index", width=_WIDTH, precision=precision)
    for seed in range(3):
        add(store, cone(40, seed=seed).astype(np.float16))
    with store.write() as writer:
        writer.delete(["d5", "d77"])
    queries = cone(25, seed=9)
    with store.read() as snapshot:
        layer, rows = snapshot.layer(0), snapshot.rows()
        kept = layer.gather(rows)
        for transform in (find_axes(kept).center(), find_axes(kept).whiten(0.3)):
            space = layer_spaces([0])[0].transformed(TransformName.WHITEN, {0: transform})
            assert (space.name, space.layers) == (0, (0,))
            documents, asked = transform.apply(kept), transform.apply(queries)
            found = space.find(snapshot.layer, {0: queries}, 7, rows=None)
            assert_nearest(found, asked, rows, documents, 7)
            few = space.find(snapshot.layer, {0: queries}, 7, rows=rows[::3])
            assert_nearest(few, asked, rows[::3], documents[::3], 7)
            np.testing.assert_array_equal(space.queries({0: queries}), asked)


def test_layers_are_transformed_before_they_are_fused(tmp_path: Path) -> None:
    store = create(tmp_path / "index", width=_WIDTH, n_layers=2)
    codes = np.stack([random_codes(50, _WIDTH, seed=1), cone(50).astype(np.float16)])
    add(store, codes)
    asked = {0: cone(6, seed=3), 1: cone(6, seed=4)}
    with store.read() as snapshot:
        rows = snapshot.rows()
        plain = [snapshot.layer(layer).gather(rows) for layer in (0, 1)]
        transforms = {layer: find_axes(plain[layer]).whiten(0.4) for layer in (0, 1)}
        documents = [transforms[layer].apply(plain[layer]) for layer in (0, 1)]
        queries = [transforms[layer].apply(asked[layer]) for layer in (0, 1)]
        for how in (Fuse.MEAN, Fuse.CONCAT):
            plain_space = VectorSpace(SearchTarget((0, 1), how, (1.0, 2.0)))
            space = plain_space.transformed(TransformName.WHITEN, transforms)
            assert (space.name, space.layers) == (plain_space.name, (0, 1))
            found = find_neighbors(
                space.vectors(snapshot.layer), space.queries(asked), 5, rows=rows
            )
            fused_queries, fused_documents = (
                fuse_vectors(side, how, (1.0, 2.0)) for side in (queries, documents)
            )
            assert_nearest(found, fused_queries, rows, fused_documents, 5)
        ranking = VectorSpace(SearchTarget((0, 1), Fuse.RRF, (1.0, 1.0)))
        ranking = ranking.transformed(TransformName.WHITEN, transforms)
        fused = ranking.find(snapshot.layer, asked, 5, rows=None)
    by_layer = [
        np.argsort(np.argsort(-np.round(cosines(q, d), 5), axis=1, kind="stable"), axis=1) + 1
        for q, d in zip(queries, documents, strict=True)
    ]
    scores = sum(0.5 / (60 + ranks) for ranks in by_layer)
    expected = np.argsort(-np.asarray(scores), axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(fused.rows, rows[expected])


def test_rows_are_gathered_in_any_order(tmp_path: Path) -> None:
    store = create(tmp_path / "index", width=_WIDTH)
    add(store, cone(20).astype(np.float16))
    with store.read() as snapshot:
        layer = snapshot.layer(0)
        rows = np.array([7, 2, 19, 7])
        transform = find_axes(layer.gather(snapshot.rows())).whiten(0.5)
        source = TransformedVectors(transform, layer)
        assert (source.n_documents, source.width) == (20, _WIDTH)
        np.testing.assert_array_equal(source.gather(rows), transform.apply(layer.gather(rows)))
