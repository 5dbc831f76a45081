"""Label-free figures: NumPy and scikit-learn over the stored vectors say the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression

from layerdex.errors import OptionError
from layerdex.search.evaluation.geometry import Geometry, describe_layers, hubness, two_nn
from layerdex.storage.store import Store
from tests.search.brute_force import cosines, read_live
from tests.search.stores import add, create, unit_codes

_WIDTH, _N_LAYERS, _K = 12, 3, 4


def vectors(n: int, seed: int) -> NDArray[np.float16]:
    """Layers of different shapes: all directions, a narrow cone, a plane and a bit."""
    random = np.random.default_rng(seed)
    even = random.standard_normal((n, _WIDTH))
    flat = even * np.where(np.arange(_WIDTH) < 3, 1, 0.02)
    return unit_codes(np.stack([even, even + 2, flat]))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two segments with a dead document, exact repeats, and ten vectors under two texts each."""
    made = create(tmp_path_factory.mktemp("store") / "index", width=_WIDTH, n_layers=_N_LAYERS)
    first = vectors(90, seed=1)
    first[:, 50:60] = first[:, 20:30]  # under other texts
    add(made, first)
    again = vectors(40, seed=2)
    again[:, :6] = first[:, :6]
    add(made, again, texts=[f"text {i}" for i in range(6)] + [f"new {i}" for i in range(34)])
    with made.write() as writer:
        writer.delete(["d7"])
    return made


def describe(store: Store, *, k: int = _K, n_sampled: int = 10_000, seed: int = 0) -> Geometry:
    return store.query(
        lambda snapshot: describe_layers(
            snapshot, layers=range(_N_LAYERS), k=k, n_sampled=n_sampled, seed=seed
        )
    )


def distinct(store: Store, layer: int) -> NDArray[np.float64]:
    """The live vectors without the six repeats, which have the rows after the first 89."""
    _, codes = read_live(store.path, layer)
    wide = np.delete(codes, np.arange(89, 95), axis=0).astype(np.float64)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True))


def nearest_by_hand(unit: NDArray[np.float64]) -> NDArray[np.int64]:
    similarities = np.round(cosines(unit, unit), 5)
    np.fill_diagonal(similarities, -2)
    return np.argsort(-similarities, axis=1, kind="stable")[:, :_K]


def test_figures_are_numpys(store: Store) -> None:
    found = describe(store)
    assert (found.n, found.n_texts, found.k) == (129, 123, _K)
    assert [shape.layer for shape in found.layers] == [0, 1, 2]
    for shape in found.layers:
        unit = distinct(store, shape.layer)
        singular = np.linalg.svd(unit - unit.mean(axis=0), compute_uv=False)
        shares = singular / singular.sum()
        rank = np.exp(-np.sum(shares * np.log(shares)))
        assert shape.effective_rank == pytest.approx(rank, rel=1e-4)
        pairs = cosines(unit, unit)[np.triu_indices(len(unit), 1)]
        assert shape.anisotropy == pytest.approx(pairs.mean(), abs=1e-5)
        assert list(shape.percentiles) == ["p50", "p90", "p99", "p99.9", "p99.99"]
        expected = np.percentile(pairs, [50, 90, 99, 99.9, 99.99])
        assert list(shape.percentiles.values()) == pytest.approx(expected, abs=1e-5)
        times = np.bincount(nearest_by_hand(unit).ravel(), minlength=len(unit))
        centred = times - times.mean()
        skewness = np.mean(centred**3) / np.mean(centred**2) ** 1.5
        assert shape.hubness == pytest.approx(skewness, rel=1e-9)


def test_layers_differ_as_they_were_made(store: Store) -> None:
    even, cone, flat = describe(store).layers
    assert abs(even.anisotropy) < 0.02
    assert cone.anisotropy > 0.7
    assert flat.effective_rank < 0.6 * even.effective_rank
    assert flat.intrinsic_dimension is not None
    assert even.intrinsic_dimension is not None
    assert flat.intrinsic_dimension < 0.6 * even.intrinsic_dimension


def test_the_dimension_is_the_fit_of_its_paper_without_repeated_vectors(store: Store) -> None:
    for shape in describe(store).layers:
        repeats = np.arange(49, 59)  # d50 to d59, after d7 died
        unit = np.delete(distinct(store, shape.layer), repeats, axis=0)
        distances = np.sort(np.linalg.norm(unit[:, None] - unit[None], axis=2), axis=1)
        ratios = np.sort(distances[:, 2] / distances[:, 1])
        share = np.arange(1, len(ratios) + 1) / len(ratios)
        n_kept = int(0.9 * len(ratios))
        line = LinearRegression(fit_intercept=False).fit(
            np.log(ratios[:n_kept, None]), -np.log(1 - share[:n_kept])
        )
        assert shape.n_repeated == 10
        assert shape.intrinsic_dimension == pytest.approx(line.coef_[0], rel=1e-3)


@pytest.mark.parametrize("dimension", [2, 5])
def test_the_dimension_of_a_sphere_is_found(dimension: int) -> None:
    points = np.random.default_rng(3).standard_normal((3_000, dimension + 1))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    similarities = np.sort(points @ points.T, axis=1)[:, -3:-1]
    first, second = np.sqrt(2 - 2 * similarities[:, ::-1]).T
    assert two_nn(first, second) == pytest.approx(dimension, rel=0.06)


def test_a_lattice_has_no_dimension_and_no_hubs() -> None:
    assert two_nn(np.ones(20), np.ones(20)) is None
    assert hubness(np.array([[1], [2], [0]])) == 0


def test_agreement_is_the_mean_overlap_of_neighbours(store: Store) -> None:
    found = describe(store).agreement
    nearest = [nearest_by_hand(distinct(store, layer)) for layer in range(_N_LAYERS)]
    for i in range(_N_LAYERS):
        for j in range(_N_LAYERS):
            shared = [len(set(a) & set(b)) for a, b in zip(nearest[i], nearest[j], strict=True)]
            assert found[i, j] == pytest.approx(np.mean(shared) / _K)
    assert 0.05 < found[0, 2] < found[0, 1] < 1


def test_a_sample_is_the_same_for_a_seed_and_another_for_another(store: Store) -> None:
    one, again, other = (describe(store, n_sampled=60, seed=seed) for seed in (4, 4, 5))
    assert one.n_texts <= 60
    assert one.layers == again.layers
    assert one.layers != other.layers
    assert one.n == 129


def test_many_equal_vectors_leave_a_document_out_of_its_own_neighbours(tmp_path: Path) -> None:
    made = create(tmp_path / "index", width=_WIDTH)
    codes = vectors(30, seed=1)[0]
    codes[10:] = codes[10]
    add(made, codes)
    found = made.query(lambda snapshot: describe_layers(snapshot, layers=[0], k=3))
    [shape] = found.layers
    assert shape.n_repeated >= 19
    times = np.bincount(nearest_with_ties(codes, 3).ravel(), minlength=30)
    centred = times - times.mean()
    assert shape.hubness == pytest.approx(np.mean(centred**3) / np.mean(centred**2) ** 1.5)


def nearest_with_ties(codes: NDArray[np.float16], k: int) -> NDArray[np.int64]:
    similarities = np.round(cosines(codes, codes), 5)
    np.fill_diagonal(similarities, -2)
    return np.argsort(-similarities, axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize(("options", "message"), [({"k": 122}, "124"), ({"n_sampled": 5}, "6")])
def test_too_few_texts_are_an_error(store: Store, options: dict[str, int], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        describe(store, **options)
