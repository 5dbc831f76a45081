"""One query over many segments: the same as brute force by any number of threads."""

from __future__ import annotations

from pathlib import Path
from threading import get_ident

import numpy as np
import pytest
from numpy.typing import NDArray

from layerdex.limits import Pool
from layerdex.records import Vectors
from layerdex.search.knn import segment_scan
from layerdex.search.knn.neighbors import Neighbors, find_neighbors
from layerdex.storage import commit_cache
from layerdex.storage.maintenance.compaction import compact
from layerdex.storage.store import Store
from layerdex.storage.vectors import layer_vectors
from layerdex.storage.vectors.faiss_library import load_faiss, one_omp_thread
from layerdex.storage.vectors.layer_file import LayerFile
from tests.search.brute_force import assert_nearest, read_live
from tests.search.stores import add, create, random_codes, unit_codes

_WIDTH = 12
_SIZES = [400, 1, 2, 300, 97, 250, 60, 90]


@pytest.fixture(scope="module", params=["contiguous", "compacted"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Segments with dead rows; compacted, positions and rows differ."""
    made = create(tmp_path_factory.mktemp("scan") / "index", width=_WIDTH)
    for number, n in enumerate(_SIZES):
        add(made, random_codes(n, _WIDTH, seed=number))
    with made.write() as writer:
        writer.delete([f"d{number}" for number in range(3, 900, 7)])
        if request.param == "compacted":
            assert compact(made, writer)
    for number in range(3):
        add(made, random_codes(50, _WIDTH, seed=20 + number))
    return made


@pytest.fixture
def in_threads(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Have three threads scan and open segments of any size; return those that have scanned."""
    monkeypatch.setattr(segment_scan, "_MIN_COMPONENTS_FOR_THREADS", 0)
    monkeypatch.setattr(segment_scan, "_SCANNED_TOGETHER", 70)
    monkeypatch.setattr(commit_cache, "_MIN_BYTES_FOR_THREADS", 0)
    monkeypatch.setattr(layer_vectors, "_OPENED_TOGETHER", 2)
    monkeypatch.setattr(Pool, "size", lambda _: 3)
    threads: set[int] = set()
    scan = LayerFile.scan

    def noted(self: LayerFile, *arguments: object, **options: object) -> object:
        threads.add(get_ident())
        return scan(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(LayerFile, "scan", noted)
    return threads


def _find(store: Store, query: Vectors, k: int, rows: NDArray[np.int64] | None = None) -> Neighbors:
    return store.query(lambda snapshot: find_neighbors(snapshot.layer(0), query, k, rows=rows))


def _query(seed: int = 5) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((1, _WIDTH)).astype(np.float32)


@pytest.mark.parametrize("share", [1.0, 0.6, 0.05])
@pytest.mark.parametrize("k", [1, 10, 300])
def test_threads_find_what_brute_force_finds(
    store: Store, in_threads: set[int], share: float, k: int
) -> None:
    opened = Store(store.path)  # opens its files in threads too
    rows, codes = read_live(store.path, 0)
    kept = np.flatnonzero(np.random.default_rng(1).random(len(rows)) < share)
    chosen = None if share == 1 else rows[kept]
    query = _query()
    assert_nearest(_find(opened, query, k, chosen), query, rows[kept], codes[kept], k)
    assert get_ident() not in in_threads


def test_threads_and_one_thread_agree_exactly(store: Store, request: pytest.FixtureRequest) -> None:
    queries = [_query(seed) for seed in range(5)]
    alone = [_find(store, query, 20) for query in queries]
    request.getfixturevalue("in_threads")
    for query, expected in zip(queries, alone, strict=True):
        found = _find(store, query, 20)
        np.testing.assert_array_equal(found.rows, expected.rows)
        np.testing.assert_array_equal(found.similarities, expected.similarities)


def test_small_segments_are_scanned_in_the_calling_thread(
    store: Store, in_threads: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_scan, "_MIN_COMPONENTS_FOR_THREADS", 1 << 23)
    _find(store, _query(), 5)
    assert in_threads == {get_ident()}


def test_of_equal_vectors_in_all_segments_the_first_rows_are_found(tmp_path: Path) -> None:
    made = create(tmp_path / "index", width=_WIDTH)
    base = random_codes(1, _WIDTH)
    for n in (60, 90, 5):  # more than a scan fetches at first, and fewer
        add(made, np.repeat(base, n, axis=0))
    rows, codes = read_live(made.path, 0)
    found = _find(made, _query(), 70)
    assert found.rows[0].tolist() == rows[:70].tolist()
    few = np.concatenate([rows[20:60:9], rows[-5:]])
    assert _find(made, _query(), 7, few).rows[0].tolist() == few[:7].tolist()
    assert len(codes) == 155


def test_a_shorter_code_that_is_nearer_is_found(tmp_path: Path) -> None:
    """The raw product of the nearest is smaller than that of 30 others in its segment."""
    made = create(tmp_path / "index", width=2)
    angles = np.array([0.0, *np.full(30, 0.005), *np.full(30, 1.5)])
    lengths = np.array([0.99952, *np.full(30, 1.00048), *np.ones(30)])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1) * lengths[:, None]
    add(made, vectors.astype(np.float16))
    add(made, unit_codes(np.array([[0.0, 1.0]] * 20, dtype=np.float32)))
    found = _find(made, np.array([[1.0, 0.0]], dtype=np.float32), 1)
    assert found.rows[0].tolist() == [1]


def test_few_vectors_are_decoded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = [0]
    decode = LayerFile.decode_codes

    def counted(self: LayerFile, codes: NDArray[np.uint8]) -> Vectors:
        decoded[0] += len(codes)
        return decode(self, codes)

    monkeypatch.setattr(LayerFile, "decode_codes", counted)
    _find(store, _query(), 10)
    assert 10 <= decoded[0] < 20


def test_the_threads_of_openmp_are_restored() -> None:
    faiss = load_faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(3)
    try:
        with one_omp_thread():
            assert faiss.omp_get_max_threads() == 1
        assert faiss.omp_get_max_threads() == 3
    finally:
        faiss.omp_set_num_threads(before)
