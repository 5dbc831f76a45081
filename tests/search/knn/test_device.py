"""Tiles on a device: the answers of brute force, also where PyTorch's CPU stands in for a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from layerdex.errors import DamagedIndexError
from layerdex.records import Vectors
from layerdex.search.knn.tiles import device as device_module
from layerdex.search.knn.tiles import others as others_module
from layerdex.search.knn.tiles import tile
from layerdex.search.knn.tiles.asked_device import asked_device, use_device
from layerdex.search.knn.tiles.device import Device, DeviceVectors
from layerdex.search.knn.tiles.kept import keep_greedily
from layerdex.search.knn.tiles.nearest import NearestSearch
from layerdex.search.knn.tiles.others import find_others
from layerdex.search.knn.tiles.pairs import each_pair, encode_for_pairs
from layerdex.search.knn.tiles.tile import Pairs
from layerdex.search.knn.tiles.vectors import ManyVectors
from layerdex.search.vectors.in_memory import InMemoryVectors
from layerdex.search.vectors.similarity import floor_of, to_steps
from tests.search.knn.test_tiles import (
    _N,
    _WIDTH,
    KINDS,
    _check_nearest,
    exact,
    is_certain,
    unit,
)
from tests.search.small_tiles import use_small_tiles

ON_A_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=ON_A_GPU)])
def name(request: pytest.FixtureRequest) -> str:
    given: str = request.param
    return given


@pytest.fixture(params=KINDS, ids=lambda make: make.__name__.strip("_"), scope="module")
def vectors(request: pytest.FixtureRequest) -> Vectors:
    made: Vectors = request.param(np.random.default_rng(5))
    return made


SOAKED = [pytest.param(how, marks=pytest.mark.soak) for how in ("sent by tiles", "streamed")]


@pytest.fixture(params=["sent", *SOAKED])
def device(
    request: pytest.FixtureRequest, name: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Device]:
    """Use a device with small tiles; what they leave is sent, or goes through tiles of a CPU."""
    use_small_tiles(monkeypatch, 16)
    monkeypatch.setattr(device_module, "N_ROWS", 16)
    monkeypatch.setattr(device_module, "N_COLUMNS", 48)
    if request.param == "sent by tiles":
        monkeypatch.setattr(device_module, "_MOST_LEFT", 40)
    budget = 1_000 if request.param == "streamed" else None
    made = Device(name, n_rows=40, n_columns=90, budget_bytes=budget)
    with use_device(lambda: made):
        yield made


def test_nearest_are_those_of_brute_force(vectors: Vectors, device: Device) -> None:
    random = np.random.default_rng(3)
    rows = np.sort(random.choice(10 * _N, _N, replace=False))
    queries = np.concatenate([vectors[::3], unit(random.standard_normal((5, _WIDTH)))])
    source, true = InMemoryVectors(rows, vectors), exact(queries, vectors)
    for k in (1, 7, 150, _N):
        search = NearestSearch(source, n_queries=9_999)
        found, similarities = search.find(queries, k)
        assert search._on_device is not None
        _check_nearest(found, similarities, true, rows)


def test_documents_of_a_querys_own_group_do_not_count(vectors: Vectors, device: Device) -> None:
    groups = np.random.default_rng(4).integers(0, 9, _N)
    groups[:30] = 3
    rows = np.arange(_N)
    search = NearestSearch(InMemoryVectors(rows, vectors), rows, n_queries=9_999, groups=groups)
    true = np.where(groups[:, None] == groups, np.float32(-2), exact(vectors, vectors))
    _check_nearest(*search.find(vectors, 7, groups=groups), true, rows)


def test_nearest_others_are_those_of_brute_force(
    vectors: Vectors, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(3)
    rows = np.sort(random.choice(10 * _N, _N, replace=False))
    source, true = InMemoryVectors(rows, vectors), exact(vectors, vectors)
    few_groups = random.integers(0, 40, _N)
    few_groups[:30] = 3
    for groups in (None, few_groups):
        of = np.arange(_N) if groups is None else groups
        others = np.where(of[:, None] == of, np.float32(-2), true)
        for k in (1, 7, 150):
            with monkeypatch.context() as patch:
                patch.setattr(others_module, "find_pairs", None)  # the CPU's way
                found, similarities = find_others(source, rows, k, groups=groups)
            _check_nearest(rows[found], similarities, others, rows)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("threshold", [0.3, 0.9, 0.99999])
def test_pairs_and_kept_are_those_of_brute_force(
    vectors: Vectors, device: Device, threshold: float
) -> None:
    step, true = int(to_steps(threshold)), exact(vectors, vectors)
    if not is_certain(true, step).all():
        pytest.skip("sums in another order could move a pair across the edge")
    reaches: NDArray[np.bool_] = to_steps(true) >= step
    source = InMemoryVectors(np.arange(_N), vectors)
    coded = encode_for_pairs(source, np.arange(_N), threshold)
    assert isinstance(coded, DeviceVectors)
    taken: list[Pairs] = []
    floors = np.full(_N, floor_of(step))
    floors[::3] -= 0.2  # of every third other pairs matter, too
    each_pair(coded, floors.__getitem__, taken.append)
    found = {
        (int(i), int(j)) for pairs in taken for i, j in zip(pairs.rows, pairs.columns, strict=True)
    }
    near = true >= np.minimum(floors[:, None], floors)
    certain = np.abs(true - np.minimum(floors[:, None], floors)) > 2e-7
    assert found >= {(i, j) for i, j in np.argwhere(near & certain).tolist() if i > j}
    assert found <= {(i, j) for i, j in np.argwhere(near | ~certain).tolist() if i > j}
    expected: list[int] = []
    for i in range(_N):
        if not reaches[i, expected].any():
            expected.append(i)
    kept = [*keep_greedily(encode_for_pairs(source, np.arange(_N), threshold), step)]
    assert np.concatenate(kept).tolist() == expected


def test_no_product_is_further_from_the_similarity_than_its_margin(
    vectors: Vectors, name: str
) -> None:
    made = Device(name, n_rows=_N, n_columns=_N)
    coded = DeviceVectors(made, ManyVectors(InMemoryVectors(np.arange(_N), vectors), np.arange(_N)))
    codes = coded.codes(slice(0, _N))
    raw = device_module._multiply(codes.values, codes.values).double().cpu().numpy()
    margins = coded.margins(codes)[:, None]
    off = np.abs(raw - exact(vectors, vectors))
    assert (off <= margins + np.abs(raw) * device_module._HALF_ROUNDOFF).all()
    assert margins.max() < 0.01


def test_few_vectors_near_the_limit_are_left() -> None:
    random = np.random.default_rng(0)
    made = unit(random.standard_normal((2_000, 384)))
    device = Device("cpu", n_rows=512, n_columns=1_024)
    n_left = 0
    whole = tile.rescore

    def count(*args: object) -> Pairs:
        nonlocal n_left
        n_left += len(args[2])  # type: ignore[arg-type]
        return whole(*args)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch, use_device(lambda: device):
        patch.setattr(device_module, "rescore", count)
        patch.setattr("layerdex.search.knn.tiles.vectors.N_CODED", 2)
        search = NearestSearch(InMemoryVectors(np.arange(2_000), made), n_queries=9_999)
        search.find(made[:500], 10)
    assert 500 * 10 <= n_left < 500 * 10 * 6


def test_a_component_that_is_no_number_is_damage() -> None:
    vectors = np.eye(3, dtype=np.float32)
    vectors[1, 2] = np.nan
    with pytest.raises(DamagedIndexError):
        Device("cpu").encode(vectors)


def test_without_a_choice_there_is_no_device() -> None:
    assert asked_device() is None


def test_what_the_caller_asks_of_pytorch_changes_no_answer(name: str) -> None:
    vectors = KINDS[0](np.random.default_rng(5))
    coded = DeviceVectors(
        Device(name), ManyVectors(InMemoryVectors(np.arange(_N), vectors), np.arange(_N))
    )
    plain = coded.find_pairs_within(np.arange(_N), int(to_steps(0.8)))
    with torch.autocast(name, dtype=torch.bfloat16):
        found = coded.find_pairs_within(np.arange(_N), int(to_steps(0.8)))
    assert len(plain.rows) > 100
    for one, other in zip(plain, found, strict=True):
        np.testing.assert_array_equal(one, other)
