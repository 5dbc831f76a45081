"""Approximate search against brute force: recall, filters, deletes, tails, and when it is exact."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from layerdex import Index
from layerdex.errors import OptionError, StorageError
from layerdex.index import accelerating, approximates
from layerdex.records import OnProgress, Rows, Scalar, Vectors
from layerdex.search.knn import approximate, recall_choice
from layerdex.search.knn.approximate import ApproximateLayer, Measured, find_approximate
from layerdex.search.knn.recall_choice import n_questions, recall_bound
from layerdex.search.results import SearchResult
from layerdex.storage.maintenance.purge import purge
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.vectors.approximate import (
    ApproximateIndex,
    Numbers,
    count_lists,
    estimate_bytes,
)
from layerdex.storage.vectors.layer_vectors import LayerVectors
from tests.encoders import WordEncoder
from tests.search.brute_force import cosines
from tests.search.stores import add, create, unit_codes

N, WIDTH, N_CLUSTERS, TARGET = 3_000, 32, 30, 0.9


def clustered(n: int, seed: int) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """Return unit vectors around common directions, and which each is near to."""
    centers = np.random.default_rng(0).standard_normal((N_CLUSTERS, WIDTH))
    rng = np.random.default_rng(seed)
    cluster = rng.integers(N_CLUSTERS, size=n)
    return unit_codes(centers[cluster] + rng.standard_normal((n, WIDTH))), cluster


VECTORS, CLUSTER = clustered(N, 1)
QUERIES = clustered(100, 2)[0].astype(np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with an approximate index, of documents with numbers and clusters to filter by."""
    path = tmp_path_factory.mktemp("accelerated") / "index"
    store = create(path, width=WIDTH)
    for start in range(0, N, 1_000):
        numbers = range(start, start + 1_000)
        fields: list[dict[str, Scalar]] = [
            {"number": i * 7 % N, "cluster": int(CLUSTER[i])} for i in numbers
        ]
        add(store, VECTORS[start : start + 1_000], metadata=fields)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(approximates, "N_LEAST", 1_000)
        patch.setattr(recall_choice, "_LEAST_PER_HALF", 150)
        [layer] = open_(path).accelerate(recall=TARGET)
    assert layer.reaches_target
    return path


@pytest.fixture
def path(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # So few documents are compared sooner than candidates of a batch are.
    monkeypatch.setattr(approximate, "_ROW_COST_IN_BATCH", approximate._ROW_COST)
    return Path(shutil.copytree(made, tmp_path / "index"))


def open_(path: Path) -> Index:
    return Index.open(path, encoder=WordEncoder(depth=0, width=WIDTH))


def ask(
    path: Path, where: str | None = None, *, k: int = 10, on_progress: OnProgress | None = None
) -> approximate.ApproximateNeighbors:
    index = open_(path)
    options = index.at(where=where)._options

    def question(snapshot: object) -> approximate.ApproximateNeighbors:
        layer = index._open.approximates.find(index._open.store, snapshot, 0)  # type: ignore[arg-type]
        assert layer is not None
        return find_approximate(
            snapshot,  # type: ignore[arg-type]
            layer,
            QUERIES,
            k,
            where=options.where,
            on_progress=on_progress,
        )

    return index._open.store.query(question)


def check(
    found: approximate.ApproximateNeighbors, at: NDArray[np.int64], *, k: int = 10, least: float
) -> float:
    """Compare with brute force over the vectors ``at`` some places; row r is place r - 1."""
    similarities = cosines(QUERIES, VECTORS[at])
    rows = found.neighbors.rows
    assert rows.shape == (len(QUERIES), min(k, len(at)))
    recalls = []
    for query, of_query in enumerate(rows):
        assert np.isin(of_query - 1, at).all()
        assert len(np.unique(of_query)) == len(of_query)
        true = cosines(QUERIES[query : query + 1], VECTORS[of_query - 1])[0]
        np.testing.assert_allclose(found.neighbors.similarities[query], true, atol=2e-6)
        steps = np.rint(found.neighbors.similarities[query] / 1e-5)
        order = np.lexsort((of_query, -steps))
        assert (order == np.arange(len(of_query))).all()
        floor = np.sort(similarities[query])[-len(of_query)] - 1e-5
        recalls.append((true >= floor).mean())
    recall = float(np.mean(recalls))
    assert recall >= least
    return recall


def test_recall_of_other_queries_reaches_the_target_and_is_not_exact_by_chance(path: Path) -> None:
    found = ask(path)
    assert ((found.bounds >= TARGET) & (found.bounds < 1)).all()
    recall = check(found, np.arange(N), least=TARGET)
    assert recall < 1  # or nothing was approximate


@pytest.mark.parametrize("share", [0.5, 0.3])
def test_filters_are_applied_inside_the_scan(path: Path, share: float) -> None:
    most = round(share * N)
    found = ask(path, f"number<{most}")
    assert (found.bounds < 1).any()
    check(found, np.flatnonzero(np.arange(N) * 7 % N < most), least=TARGET)


@pytest.mark.parametrize("n_kept", [30, 3])
def test_filters_that_keep_little_are_exact(path: Path, n_kept: int) -> None:
    found = ask(path, f"number<{n_kept}")
    assert (found.bounds == 1).all()
    check(found, np.flatnonzero(np.arange(N) * 7 % N < n_kept), least=1)


def test_a_filter_that_keeps_one_cluster_finds_what_is_nearest_in_it(path: Path) -> None:
    # Most queries are near other clusters: lists near them hold nothing that is wanted.
    for cluster in range(3):
        many = f"cluster>={cluster * 8} and cluster<{cluster * 8 + 6}"
        found = ask(path, many)
        assert (found.bounds < 1).any()
        at = np.flatnonzero((cluster * 8 <= CLUSTER) & (cluster * 8 + 6 > CLUSTER))
        check(found, at, least=TARGET)


def test_an_area_whose_documents_were_deleted_costs_no_recall(path: Path) -> None:
    dead = np.flatnonzero(CLUSTER < 4)  # below a sixth: the index is not stale
    assert 0.1 < len(dead) / N < 1 / 6
    open_(path).delete(*(f"d{i}" for i in dead))
    found = ask(path)
    assert (found.bounds < 1).any()
    check(found, np.flatnonzero(CLUSTER >= 4), least=TARGET)


def test_a_small_area_whose_documents_were_deleted_is_like_a_filter(path: Path) -> None:
    open_(path).delete(*(f"d{i}" for i in np.flatnonzero(CLUSTER == 0)))  # of 3 %
    found = ask(path)
    check(found, np.flatnonzero(CLUSTER != 0), least=TARGET)
    index = open_(path)._open

    def measured(snapshot: object) -> Sequence[Measured]:
        layer = index.approximates.find(index.store, snapshot, 0)  # type: ignore[arg-type]
        assert layer is not None
        return layer.measured

    # The bound is the lower one of the two shares, not that of all documents.
    [whole, less, *_] = index.store.query(measured)
    assert whole.bound != less.bound
    assert set(found.bounds) == {min(whole.bound, less.bound)}


def test_between_two_shares_it_is_the_larger_of_both_numbers() -> None:
    def layer(*measured: Measured) -> ApproximateLayer:
        return ApproximateLayer(None, 0, "a", 1, 2, measured)  # type: ignore[arg-type]

    whole = Measured(1.0, 5, 6, 100, 0.99, 0.98)
    tenth = Measured(0.1, 20, 50, 50, 0.97, 0.96)
    hundredth = Measured(0.01, 70, 80, 20, 0.98, 0.97)
    made = layer(whole, tenth, hundredth)
    assert made.at_share(1.0) == whole
    assert made.at_share(0.1) == tenth
    assert made.at_share(0.01) == hundredth
    assert made.at_share(0.5) == Measured(0.5, 20, 50, 100, 0.97, 0.96)
    assert made.at_share(0.03) == Measured(0.03, 70, 80, 50, 0.97, 0.96)


def test_eight_topics_are_measured_and_they_are_not_whole_lists(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approximates, "N_LEAST", 1_000)
    monkeypatch.setattr(recall_choice, "_LEAST_PER_HALF", 150)
    share_out, asked = recall_choice._share_out, []

    def keep(vectors: Any, kept: Any, *others: Any) -> Any:
        filters = share_out(vectors, kept, *others)
        asked.append((kept, np.concatenate([each.at for each in filters])))
        return filters

    monkeypatch.setattr(recall_choice, "_share_out", keep)
    open_(path).accelerate(recall=TARGET)
    assert [len(kept) for kept, _ in asked] == [1, 1, 8, 1, 8]  # of 90 none are measured
    assert all(np.unique(at).tolist() == [*range(300)] for _, at in asked)  # each query once
    topics = asked[2][0]
    assert all(len(rows) == len(np.unique(rows)) == 3 * N // 10 for rows in topics)
    index = open_(path)._open
    layer = index.store.query(lambda snapshot: index.approximates.find(index.store, snapshot, 0))
    assert layer is not None
    n_lists = [layer.index.select(rows - layer.first_row).n_lists for rows in topics]
    assert max(n_lists) > 2 * min(n_lists)


def test_the_hardest_of_several_topics_counts() -> None:
    at = np.arange(400).reshape(2, 200)
    nothing = np.empty((0, 1), np.float32)
    filters = [
        recall_choice._Filter(
            np.array([1]), 1, recall_choice.Questions(nothing, np.array([])), part, np.array([])
        )
        for part in at
    ]
    recalls = np.ones(400)
    recalls[at[1]] = 0.8
    assert recall_choice._lowest(recalls, [np.arange(400)], filters) == pytest.approx((0.8, 0.9))
    assert recall_choice._lowest(recalls, [np.arange(400)], [])[0] > 0.85


def test_more_hits_than_match_are_all_that_match(path: Path) -> None:
    found = ask(path, "number<400", k=1_000)
    at = np.flatnonzero(np.arange(N) * 7 % N < 400)
    check(found, at, k=1_000, least=1)


@pytest.mark.parametrize("k", [1, 50])
def test_other_numbers_of_hits(path: Path, k: int) -> None:
    check(ask(path, k=k), np.arange(N), k=k, least=TARGET)


def test_a_batch_takes_no_more_memory_than_it_may(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(open_(path)._open.store, VECTORS[:200])
    whole = ask(path, k=50)
    assert (whole.bounds < 1).any()
    n_gathered, n_scanned = [], []
    gather, scan = LayerVectors.gather, ApproximateIndex.scan

    def count_gathered(self: LayerVectors, rows: Rows) -> Vectors:
        n_gathered.append(len(rows))
        return gather(self, rows)

    def count_scanned(self: ApproximateIndex, queries: Vectors, n: int, **options: Any) -> Numbers:
        n_scanned.append(len(queries) * n)
        return scan(self, queries, n, **options)

    monkeypatch.setattr(LayerVectors, "gather", count_gathered)
    monkeypatch.setattr(ApproximateIndex, "scan", count_scanned)
    monkeypatch.setattr(approximate, "_GATHERED_BYTES", 2_000 * 4 * WIDTH)
    monkeypatch.setattr(approximate, "_CANDIDATES_BYTES", 10_000 * 64)
    in_parts = ask(path, k=50)
    assert len(n_scanned) > 1
    assert max(n_scanned) <= 10_000
    assert max(n_gathered) <= 2_000
    assert (in_parts.neighbors.rows == whole.neighbors.rows).all()
    assert (in_parts.bounds == whole.bounds).all()


def test_a_batch_for_many_hits_of_few_documents_is_exact(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approximate, "_ROW_COST_IN_BATCH", 1.25)
    told: list[int] = []
    found = ask(path, k=100, on_progress=lambda done, _: told.append(done))
    assert (found.bounds == 1).all()
    assert told
    # Of one question, all would have to be read.
    assert not open_(path).search_like("d7", k=10)[0].exact


def test_deleted_documents_are_left_out_and_added_ones_found(path: Path) -> None:
    index = open_(path)
    gone = np.arange(0, N, 10)
    index.delete(*(f"d{i}" for i in gone))
    left = np.setdiff1d(np.arange(N), gone)
    check(ask(path), left, least=TARGET)
    check(ask(path, "number<1500"), left[left * 7 % N < 1500], least=TARGET)
    index.compact()
    check(ask(path), left, least=TARGET)
    store = open_(path)._open.store
    with store.read() as snapshot:
        first = int(snapshot.setting("next_row"))
    add(store, QUERIES[:50])  # each the nearest of a query
    found = ask(path)
    assert (found.bounds < 1).all()
    assert found.neighbors.rows[:50, 0].tolist() == [*range(first, first + 50)]
    with store.read() as snapshot:
        rows = snapshot.rows()
    assert np.isin(found.neighbors.rows, rows).all()


def test_too_few_candidates_are_an_exact_search(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = Measured(1.0, 1, 1, 3, 1.0, 0.9)
    monkeypatch.setattr(ApproximateLayer, "at_share", lambda *_: few)
    found = ask(path)
    assert (found.bounds == 1).all()
    check(found, np.arange(N), least=1)


@pytest.mark.parametrize("change", ["tail", "dead"])
def test_more_than_a_sixth_changed_is_exact_and_said(
    path: Path, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    index = open_(path)
    for n, is_exact in [(500, False), (1, True)]:
        if change == "tail":
            add(index._open.store, VECTORS[:n])
        else:
            start = 0 if n == 500 else 500
            index.delete(*(f"d{i}" for i in range(start, start + n)))
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            [result] = open_(path).search_like("d999")
        assert result.exact is is_exact
        assert ("accelerate" in caplog.text) is is_exact
        [described] = index.info().approximate or []
        assert described["is_stale"] is is_exact


def test_vectors_of_another_model_are_not_compared(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_(path)._open.store
    with store.write() as writer:
        [record] = writer.get("approximate")
        writer.set("approximate", [{**record, "fingerprint": "another"}])
    [result] = open_(path).search_like("d5")
    assert result.exact
    assert "another model" in caplog.text


def hits(result: SearchResult) -> list[tuple[str, float | None]]:
    return [(hit.id, hit.similarity) for hit in result]


def test_exact_is_brute_force_and_questions_that_are_not_of_plain_vectors_are_exact(
    path: Path,
) -> None:
    index = open_(path)
    [found] = index.search_like("d7", k=10)
    assert not found.exact
    [result] = index.search_like("d7", k=10, exact=True)
    assert result.exact
    true = cosines(VECTORS[7:8], VECTORS)[0]
    true[7] = -2
    order = np.lexsort((np.arange(N), -np.rint(true / 1e-5)))[:10]
    assert [hit.id for hit in result] == [f"d{i}" for i in order]
    index.fit_transforms(shrinkage=0.5)
    assert index.search_like("d7", transform="whiten")[0].exact
    assert index.search_like("d7", layer="0", fuse="mean")[0].exact
    assert index.search("a text")[0].exact is False
    index.remove_approximates()
    assert hits(index.search_like("d7")[0]) == hits(result)
    assert not (path / "approximate").exists()


def test_purge_removes_the_codes_of_deleted_documents(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index = open_(path)
    index.delete(purge=True)
    assert index.info().approximate is not None  # nothing was deleted
    index.delete("d5", purge=True)
    assert index.info().approximate is None
    assert not (path / "approximate").exists()
    assert "accelerate" in caplog.text
    assert purge.__module__.endswith("purge")


def test_a_small_index_gains_nothing(tmp_path: Path) -> None:
    add(create(tmp_path / "index", width=WIDTH), VECTORS[:100])
    with pytest.raises(OptionError, match="as fast"):
        open_(tmp_path / "index").accelerate()
    with pytest.raises(OptionError, match="recall"):
        open_(tmp_path / "index").accelerate(recall=1.0)


def test_a_file_that_would_be_too_large_is_refused_before_anything_is_trained(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approximates, "N_LEAST", 1_000)
    [file] = (path / "approximate").iterdir()
    estimated = estimate_bytes(N, count_lists(N), WIDTH)
    assert estimated == pytest.approx(file.stat().st_size, rel=0.1)
    with monkeypatch.context() as patch:
        patch.setattr(accelerating, "MAX_BYTES", estimated - 1)
        patch.setattr(ApproximateIndex, "train", None)
        with pytest.raises(OptionError, match="too large"):
            open_(path).accelerate(recall=TARGET)
    assert [*(path / "approximate").iterdir()] == [file]


@pytest.mark.parametrize("when", ["before", "during"])
def test_compacting_during_a_build_matters_only_for_what_was_live(
    path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    monkeypatch.setattr(approximates, "N_LEAST", 1_000)
    monkeypatch.setattr(recall_choice, "_LEAST_PER_HALF", 150)
    index = open_(path)
    if when == "before":
        index.delete(*(f"d{i}" for i in range(500)))
    [before] = (path / "approximate").iterdir()
    n_told = 0

    def change(done: int, total: int | None) -> None:
        nonlocal n_told
        n_told += 1
        if n_told == 2:  # every file is open
            other = open_(path)
            if when == "during":
                other.delete(*(f"d{i}" for i in range(500)))
            assert other.compact()

    if when == "during":
        with pytest.raises(StorageError, match="for good"):
            index.accelerate(recall=TARGET, on_progress=change)
        assert [*(path / "approximate").iterdir()] == [before]
        return
    [made] = index.accelerate(recall=TARGET, on_progress=change)
    assert made.n == N - 500


def test_two_builds_give_the_same_bytes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approximates, "N_LEAST", 1_000)
    monkeypatch.setattr(recall_choice, "_LEAST_PER_HALF", 150)
    [before] = (path / "approximate").iterdir()
    data = before.read_bytes()
    open_(path).accelerate(recall=TARGET)
    [after] = (path / "approximate").iterdir()
    assert after.name != before.name
    assert after.read_bytes() == data


def test_few_given_questions_that_are_hard_count_as_much_as_documents(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approximates, "N_LEAST", 1_000)
    monkeypatch.setattr(recall_choice, "_LEAST_PER_HALF", 150)
    texts = [f"w{i * 13 % 101} w{i * 7 % 89} w{i * 3 % 53}" for i in range(60)]
    index = open_(path)
    [layer] = index.accelerate(recall=TARGET, queries=texts)
    assert layer.n_queries == 180
    found, exact = index.search(texts), index.search(texts, exact=True)
    assert not any(result.exact for result in found)
    recall = np.mean(
        [
            len({hit.id for hit in one} & {hit.id for hit in other}) / 10
            for one, other in zip(found, exact, strict=True)
        ]
    )
    assert recall >= layer.measured[0].bound >= TARGET


def test_more_questions_than_are_useful_are_a_sample_that_is_the_same_each_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approximates, "N_LEAST", 1_000)
    monkeypatch.setattr(recall_choice, "_LEAST_PER_HALF", 150)
    monkeypatch.setattr(accelerating, "MOST_GIVEN", 40)
    encode, asked = WordEncoder.encode, []

    def keep(self: WordEncoder, texts: Any, layers: Any) -> Any:
        asked.append([*texts])
        return encode(self, texts, layers)

    monkeypatch.setattr(WordEncoder, "encode", keep)
    texts = [f"w{i}" for i in range(200)]
    [layer] = open_(path).accelerate(recall=0.5, queries=texts)
    assert layer.n_queries == 150 + 20
    [drawn] = asked
    assert drawn == accelerating._drawn(texts) != texts[:40]
    assert len(set(drawn)) == 40
    assert set(drawn) <= set(texts)


def test_recall_of_queries_is_measured_in_blocks(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan, n_scanned = ApproximateIndex.scan, []

    def count(self: ApproximateIndex, queries: Vectors, n: int, **options: Any) -> Numbers:
        n_scanned.append(len(queries))
        return scan(self, queries, n, **options)

    monkeypatch.setattr(ApproximateIndex, "scan", count)
    index = open_(path)._open

    def measure(snapshot: Snapshot) -> NDArray[np.float64]:
        layer = index.approximates.find(index.store, snapshot, 0)
        assert layer is not None
        vectors, rows = snapshot.layer(0), snapshot.rows()
        questions = recall_choice.Questions(QUERIES, np.full(len(QUERIES), -1))
        filters = recall_choice._share_out(vectors, [rows], layer.first_row, questions)
        return recall_choice._recalls(vectors, layer.index, filters[0], 3)

    whole = index.store.query(measure)
    monkeypatch.setattr(recall_choice, "_QUERIES_TOGETHER", 30)
    assert (index.store.query(measure) == whole).all()
    assert n_scanned == [100, 30, 30, 30, 10]
    assert 0.2 < whole[-1].mean() < 1


def test_with_too_few_questions_the_bound_is_low_and_no_more_is_done_for_it() -> None:
    few = recall_choice.Questions(np.eye(3, dtype=np.float32), np.array([-1, 7, 8]))
    first, second = few.halves()
    assert [part.tolist() for part in first] == [[1]]
    assert [part.tolist() for part in second] == [[0], [2]]
    assert recall_choice._lowest(np.array([1.0, 0.0, 0.0]), second, []) == (0.0, 0.0)
    assert recall_bound(np.ones(1)) < 0.5


def test_bounds_hold_for_about_95_of_100_samples() -> None:
    rng = np.random.default_rng(0)
    for rate in (0.9, 0.99):
        # Recall is of ten neighbours each, and queries differ in how hard they are.
        hard = rng.beta(rate * 8, (1 - rate) * 8, size=(2_000, 500))
        recalls = rng.binomial(10, hard) / 10
        held = np.mean([recall_bound(of_sample) <= rate for of_sample in recalls])
        assert held >= 0.93
    assert recall_bound(np.ones(500)) < 0.996
    nearly = np.ones(500)
    nearly[:3] = 0.9
    assert recall_bound(nearly) == pytest.approx(recall_bound(np.ones(500)))  # not above it
    assert recall_bound(np.ones(n_questions(0.99) // 2)) > 0.99
