"""Deduplication: the naive greedy loop over all pairs gives the same answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from layerdex.choices import Keep
from layerdex.errors import OptionError
from layerdex.records import Rows, Vectors
from layerdex.search.dedup.greedy import Duplicates, find_duplicates
from layerdex.search.vectors.in_memory import InMemoryVectors
from layerdex.storage.store import Store
from tests.search.brute_force import cosines, read_live
from tests.search.small_tiles import use_small_tiles
from tests.search.stores import add, create, random_codes, unit_codes

_WIDTH = 6


def _find(store: Store, threshold: float, keep: Keep = Keep.FIRST) -> Duplicates:
    return store.query(
        lambda snapshot: find_duplicates(
            snapshot.layer(0), snapshot.document_table(), threshold=threshold, keep=keep
        )
    )


def _order(texts: list[str], keep: Keep) -> list[int]:
    match keep:
        case Keep.FIRST:
            return list(range(len(texts)))
        case Keep.LAST:
            return list(range(len(texts)))[::-1]
        case Keep.LONGEST:
            return sorted(range(len(texts)), key=lambda i: -len(texts[i]))


def _greedy(
    codes: NDArray[np.float16], texts: list[str], threshold: float, keep: Keep
) -> tuple[set[int], dict[int, float], set[int]]:
    """Return what is kept, how similar each removed is to its nearest kept, and exact repeats."""
    true = cosines(codes, codes)
    kept: list[int] = []
    seen: set[str] = set()
    exact: set[int] = set()
    for i in _order(texts, keep):
        if texts[i] in seen:
            exact.add(i)
            continue
        seen.add(texts[i])
        if not kept or true[i, kept].max() < threshold:
            kept.append(i)
    kept_texts = {texts[i] for i in kept}
    nearest = {
        i: 1.0 if texts[i] in kept_texts else float(true[i, kept].max())
        for i in range(len(texts))
        if i not in kept
    }
    return set(kept), nearest, exact


def _assert_greedy(store: Store, texts: list[str], threshold: float, keep: Keep) -> Duplicates:
    rows, codes = read_live(store.path, 0)
    true = cosines(codes, codes)
    kept, nearest, exact = _greedy(codes, texts, threshold, keep)
    found = _find(store, threshold, keep)
    at = {int(row): i for i, row in enumerate(rows)}
    removed = [at[row] for row in found.removed.tolist()]
    assert [at[row] for row in found.kept.tolist()] == sorted(kept)
    assert removed == sorted(nearest)
    assert {i for i, is_exact in zip(removed, found.is_exact, strict=True) if is_exact} == exact
    for i, row, similarity in zip(
        removed, found.kept_for.tolist(), found.similarities, strict=True
    ):
        assert at[row] in kept
        assert similarity == pytest.approx(nearest[i], abs=1.2e-5)
        if texts[i] in {texts[j] for j in kept}:
            assert texts[at[row]] == texts[i]
        else:
            assert true[i, at[row]] == pytest.approx(nearest[i], abs=1.2e-5)
            assert similarity >= threshold - 2e-6
    return found


def _clustered(store: Store, n: int, *, n_segments: int = 3) -> list[str]:
    """Clusters of near documents, among them repeated texts of several lengths."""
    random = np.random.default_rng(n)
    centers = random.standard_normal((n // 6, _WIDTH))
    chosen = random.integers(len(centers), size=n)
    codes = unit_codes(centers[chosen] + 0.25 * random.standard_normal((n, _WIDTH)))
    texts = [f"{'long ' * int(random.integers(4))}text {i}" for i in range(n)]
    for i in range(n // 3, n // 3 + n // 10):
        original = int(random.integers(n // 3))
        texts[i], codes[i] = texts[original], codes[original]
    for part in np.array_split(np.arange(n), n_segments):
        add(store, codes[part], texts=[texts[i] for i in part])
    return texts


@pytest.fixture(scope="module")
def clustered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, list[str]]:
    store = create(tmp_path_factory.mktemp("dedup") / "index", width=_WIDTH)
    return store, _clustered(store, 240)


@pytest.mark.parametrize("keep", list(Keep))
@pytest.mark.parametrize("threshold", [-1, -0.5, 0.3, 0.8, 0.9, 0.97, 0.999, 1])
def test_greedy_loop_keeps_the_same(
    clustered: tuple[Store, list[str]], threshold: float, keep: Keep
) -> None:
    store, texts = clustered
    found = _assert_greedy(store, texts, threshold, keep)
    assert found.is_exact.sum() == 240 - len(set(texts))
    if threshold == -1:
        assert len(found.kept) == 1
    if threshold == 1:
        assert found.is_exact.all()


@pytest.mark.parametrize("keep", list(Keep))
def test_blocks_are_compared_with_all_kept_before_them(
    clustered: tuple[Store, list[str]], keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, texts = clustered
    whole = _find(store, 0.9, keep)
    for size in (7, 100):
        use_small_tiles(monkeypatch, size)
        found = _assert_greedy(store, texts, 0.9, keep)
        np.testing.assert_array_equal(found.kept, whole.kept)


def test_thousands_of_documents(tmp_path: Path) -> None:
    store = create(tmp_path / "index", width=_WIDTH)
    texts = _clustered(store, 2_600)
    found = _assert_greedy(store, texts, 0.95, Keep.FIRST)
    assert 100 < len(found.kept) < 2_000


def _at_angles(*degrees: float) -> NDArray[np.float16]:
    angles = np.deg2rad(degrees)
    plane = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return unit_codes(np.pad(plane, ((0, 0), (0, _WIDTH - 2))))


def test_removed_documents_pull_no_others_after_them(tmp_path: Path) -> None:
    # 0° – 20° – 40° – 60°: each is near its neighbours only.
    store = create(tmp_path / "index", width=_WIDTH)
    add(store, _at_angles(0, 20, 40, 60))
    threshold = float(np.cos(np.deg2rad(25)))
    found = _find(store, threshold)
    assert found.kept.tolist() == [1, 3]
    assert found.removed.tolist() == [2, 4]
    assert found.kept_for.tolist()[1] == 3
    assert _find(store, threshold, Keep.LAST).kept.tolist() == [2, 4]


def test_removed_document_belongs_to_its_most_similar_kept_one(tmp_path: Path) -> None:
    # The third is removed because of the first, yet nearer to the second.
    store = create(tmp_path / "index", width=_WIDTH)
    add(store, _at_angles(0, 30, 20))
    found = _find(store, float(np.cos(np.deg2rad(25))))
    assert found.kept.tolist() == [1, 2]
    assert (found.removed.tolist(), found.kept_for.tolist()) == ([3], [2])
    assert found.similarities[0] == pytest.approx(np.cos(np.deg2rad(10)), abs=1e-3)
    assert found.is_exact.tolist() == [False]


def test_removed_document_at_the_edge_of_the_threshold_has_a_kept_one(tmp_path: Path) -> None:
    # Transformed vectors differ in the last digits by how they are read.
    random = np.random.default_rng(7)
    base = unit_codes(random.standard_normal((60, _WIDTH))).astype(np.float64)
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    other = random.standard_normal(base.shape)
    other -= np.sum(other * base, axis=1, keepdims=True) * base
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    cosines = (0.9 - 0.5e-5 + random.uniform(-1e-7, 1e-7, 60))[:, None]
    vectors = np.concatenate([base, cosines * base + np.sqrt(1 - cosines**2) * other])
    source = _Wobbling(np.arange(1, 121), vectors.astype(np.float32))
    store = create(tmp_path / "index", width=_WIDTH)
    add(store, unit_codes(vectors))
    table = store.query(lambda snapshot: snapshot.document_table())
    found = find_duplicates(source, table, threshold=0.9)
    assert len(found.removed) > 10
    assert found.kept_for.min() >= 1
    assert found.similarities.min() > 0.89


class _Wobbling(InMemoryVectors):
    """Vectors that are a little shorter when they are gathered one by one."""

    def gather(self, rows: Rows) -> Vectors:
        return super().gather(rows) * np.float32(1 + 1.5e-7)


def test_repeats_of_a_removed_text_go_to_its_nearest_kept(tmp_path: Path) -> None:
    # Two positions, asked for twice, in a segment of two.
    store = create(tmp_path / "index", width=_WIDTH)
    codes = _at_angles(0, 10, 10)
    add(store, codes[:2], texts=["kept", "near"])
    add(store, codes[2:], texts=["near"])
    found = _find(store, 0.9)
    assert (found.kept.tolist(), found.removed.tolist()) == ([1], [2, 3])
    assert found.kept_for.tolist() == [1, 1]
    expected = float(cosines(codes[:1], codes[1:2])[0, 0])
    np.testing.assert_allclose(found.similarities, expected, atol=2e-6)
    assert found.is_exact.tolist() == [False, True]


def test_same_text_is_exact_whatever_its_vectors(tmp_path: Path) -> None:
    store = create(tmp_path / "index", width=_WIDTH)
    add(store, random_codes(3, _WIDTH), texts=["same", "other", "same"])
    found = _find(store, 1)
    assert (found.kept.tolist(), found.removed.tolist()) == ([1, 2], [3])
    assert (found.kept_for.tolist(), found.similarities.tolist()) == ([1], [1.0])
    assert found.is_exact.tolist() == [True]
    assert _find(store, 1, Keep.LAST).kept.tolist() == [2, 3]


def test_repeat_belongs_to_its_own_text_where_another_is_as_similar(tmp_path: Path) -> None:
    # By its own vector the third would belong to the first.
    store = create(tmp_path / "index", width=_WIDTH)
    codes = _at_angles(0, 20, 0)
    add(store, codes, texts=["a", "b", "b"])
    found = _find(store, 0.99)
    assert (found.kept.tolist(), found.removed.tolist()) == ([1, 2], [3])
    assert (found.kept_for.tolist(), found.similarities.tolist()) == ([2], [1.0])


def test_equal_vectors_of_different_texts_are_near_at_threshold_one(tmp_path: Path) -> None:
    store = create(tmp_path / "index", width=_WIDTH)
    codes = random_codes(40, _WIDTH)
    add(store, np.concatenate([codes, codes]))
    found = _find(store, 1)
    assert found.kept.tolist() == list(range(1, 41))
    assert found.kept_for.tolist() == list(range(1, 41))
    assert not found.is_exact.any()


def test_longest_text_is_kept_and_the_first_of_equally_long(tmp_path: Path) -> None:
    store = create(tmp_path / "index", width=_WIDTH)
    add(store, _at_angles(0, 1, 2, 90, 91), texts=["aa", "aaaa", "bbbb", "c", "d"])
    assert _find(store, 0.99, Keep.LONGEST).kept.tolist() == [2, 4]


@pytest.mark.parametrize("threshold", [-1.001, 1.001, 90, float("nan"), float("inf")])
def test_threshold_outside_the_range_of_similarities_is_an_error(
    clustered: tuple[Store, list[str]], threshold: float
) -> None:
    with pytest.raises(OptionError, match="between -1 and 1"):
        _find(clustered[0], threshold)


def test_empty_index_and_single_document_have_no_duplicates(tmp_path: Path) -> None:
    store = create(tmp_path / "index", width=_WIDTH)
    assert [len(column) for column in (_find(store, 0.9).kept, _find(store, 0.9).removed)] == [0, 0]
    add(store, random_codes(1, _WIDTH))
    assert (_find(store, -1).kept.tolist(), _find(store, -1).removed.tolist()) == ([1], [])
