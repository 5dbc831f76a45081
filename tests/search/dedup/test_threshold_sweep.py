"""Thresholds swept in one pass: deduplication run at each of them says the same."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from layerdex.choices import Fuse, Keep
from layerdex.search.dedup import threshold_sweep as thresholds
from layerdex.search.dedup.greedy import find_duplicates
from layerdex.search.dedup.threshold_sweep import ThresholdSweep, sweep_thresholds
from layerdex.search.knn import close_pairs
from layerdex.search.knn.close_pairs import find_close_pairs
from layerdex.search.knn.tiles import tile
from layerdex.search.knn.tiles.tile import Pairs
from layerdex.search.knn.vector_space import VectorSpace, layer_spaces
from layerdex.search.targets import SearchTarget
from layerdex.search.vectors.similarity import SIMILARITY_STEP, to_steps
from layerdex.storage.store import Store
from tests.search.brute_force import cosines, read_live
from tests.search.small_tiles import use_small_tiles
from tests.search.stores import add, create, unit_codes

_WIDTH, _N = 5, 240
_LAYER_0, _LAYER_1 = layer_spaces([0, 1])


def crowded(n: int, seed: int) -> NDArray[np.float16]:
    """Chains of vectors, each near the last one: what goes depends on what went before."""
    random = np.random.default_rng(seed)
    steps = 0.25 * random.standard_normal((n, _WIDTH))
    steps[::12] = 3 * random.standard_normal((len(steps[::12]), _WIDTH))
    return unit_codes(np.array([steps[i - i % 12 : i + 1].sum(axis=0) for i in range(n)]))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two layers of chains; every tenth text is one of the first ten again."""
    made = create(tmp_path_factory.mktemp("store") / "index", width=_WIDTH, n_layers=2)
    for seed, start in ((1, 0), (2, _N // 2)):
        codes = np.stack([crowded(_N // 2, seed + 10 * layer) for layer in range(2)])
        texts = [
            f"text {i % 10}" if i % 10 == 9 else f"text {i}" + "." * (i % 7)
            for i in range(start, start + _N // 2)
        ]
        add(made, codes, texts=texts)
    with made.write() as writer:
        writer.delete(["d3", "d150"])
    return made


def sweep(store: Store, space: VectorSpace = _LAYER_0, keep: Keep = Keep.FIRST) -> ThresholdSweep:
    return store.query(lambda snapshot: sweep_thresholds(snapshot, space=space, keep=keep))


@pytest.mark.parametrize(
    ("space", "keep", "block"),
    [
        (_LAYER_0, Keep.FIRST, 512),
        (_LAYER_0, Keep.LONGEST, 17),
        (_LAYER_1, Keep.LAST, 17),
        (VectorSpace(SearchTarget((0, 1), Fuse.MEAN, (1.0, 2.0))), Keep.FIRST, 17),
    ],
)
def test_counts_are_those_of_deduplication_at_each_threshold(
    store: Store, space: VectorSpace, keep: Keep, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_small_tiles(monkeypatch, block)
    monkeypatch.setattr(thresholds, "_LOWEST", "p90")
    found = sweep(store, space, keep)
    assert len(found.steps) > 5
    assert len({step.n_near for step in found.steps}) > 5
    for step in found.steps:
        once = store.query(
            lambda snapshot, step=step: find_duplicates(  # type: ignore[misc]
                space.vectors(snapshot.layer),
                snapshot.document_table(),
                threshold=step.threshold,
                keep=keep,
            )
        )
        assert step.n_kept == len(once.kept)
        assert step.n_near == np.sum(~once.is_exact)
        assert found.n_exact == np.sum(once.is_exact) > 0
        assert found.n_texts == step.n_kept + step.n_near == found.n - found.n_exact


def distinct(store: Store) -> tuple[list[str], NDArray[np.float64]]:
    """Ids and similarities of the first document of each text, in input order."""
    with store.read() as snapshot:
        table = snapshot.document_table()
    _, codes = read_live(store.path, 0)
    first = np.sort(np.unique(table.content_groups, return_index=True)[1])
    return [table.ids[i] for i in first], cosines(codes[first], codes[first])


def test_pairs_are_the_ones_that_barely_reach_a_threshold(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thresholds, "_LOWEST", "p90")
    found = sweep(store)
    ids, true = distinct(store)
    upper = true[np.triu_indices(len(true), 1)]
    bounds = [*(step.threshold for step in found.steps), 2]
    n_shown = 0
    for step, end in zip(found.steps, bounds[1:], strict=True):
        between = np.sort(upper[(upper >= step.threshold - 5e-6) & (upper < end - 5e-6)])
        shown = [pair.similarity for pair in step.borderline]
        assert shown == pytest.approx(between[:3], abs=1.2e-5)
        n_shown += len(shown)
        for pair in step.borderline:
            one, other = (ids.index(identifier) for identifier in pair.ids)
            assert one < other
            assert pair.similarity == pytest.approx(true[one, other], abs=1.2e-5)
            assert len(set(pair.texts)) == 2
        random = np.mean(upper >= step.threshold - 5e-6)
        assert step.random_share == pytest.approx(random, abs=1e-4)
    assert n_shown > 5


def test_thresholds_are_round_and_begin_where_random_pairs_end(store: Store) -> None:
    found = sweep(store)
    swept = np.array([step.threshold for step in found.steps])
    assert swept[-1] == 1
    widths = np.diff(swept)
    assert np.ptp(widths) < 1e-9
    assert 0 <= swept[0] - found.percentiles["p99.9"] < widths[0]


def test_thresholds_of_few_documents_begin_at_the_lowest_nearest(tmp_path: Path) -> None:
    # Eight pairs of near duplicates: of 120 pairs, so many are no exception among random ones.
    random = np.random.default_rng(5)
    first = random.standard_normal((8, 40))
    both = np.concatenate([first, first + 0.1 * random.standard_normal((8, 40))])
    made = create(tmp_path / "index", width=40)
    add(made, unit_codes(both[None]))
    found = sweep(made)
    assert found.percentiles["p99.9"] > np.sort(found.nearest)[-3]
    swept = [step.threshold for step in found.steps]
    assert swept[0] == pytest.approx(found.nearest.min(), abs=swept[1] - swept[0])
    true = np.sort(np.diag(cosines(unit_codes(first), unit_codes(both[8:]))))
    for step in found.steps:
        assert step.n_near == np.sum(true >= step.threshold - 5e-6)
    assert found.steps[0].n_near > 4


def test_the_nearest_are_numpys_and_the_histogram_has_all(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_small_tiles(monkeypatch, 17)
    found = sweep(store)
    _, true = distinct(store)
    np.fill_diagonal(true, -2)
    np.testing.assert_allclose(found.nearest, true.max(axis=1), atol=SIMILARITY_STEP + 2e-6)
    bounds, counts = found.histogram()
    assert counts.sum() == found.n_texts
    assert bounds[-1] == 1
    assert bounds[0] <= found.nearest.min() < bounds[1]
    for low, high, n in zip(bounds[:-1], bounds[1:], counts, strict=True):
        is_last = high == 1
        assert n == np.sum((found.nearest >= low) & ((found.nearest < high) | is_last))


def test_too_many_close_pairs_raise_the_floor_and_stay_complete(store: Store) -> None:
    with store.read() as snapshot:
        rows, source = snapshot.rows(), snapshot.layer(0)
        every = find_close_pairs(source, rows, 0.2)
        few = find_close_pairs(source, rows, 0.2, n_most=300)
    assert len(every.steps) > 1_000
    assert every.min_step == 20_000 < few.min_step
    assert 100 <= len(few.steps) <= 300
    above = every.steps >= few.min_step
    assert few.earlier.tolist() == every.earlier[above].tolist()
    assert few.later.tolist() == every.later[above].tolist()


@pytest.mark.parametrize("n_most", [2, 3, 40, 900])
@pytest.mark.parametrize("n_threads", [1, 2, 4])
def test_the_raised_floor_is_the_same_whatever_the_threads_do(
    store: Store, monkeypatch: pytest.MonkeyPatch, n_most: int, n_threads: int
) -> None:
    use_small_tiles(monkeypatch, 17)
    monkeypatch.setattr(tile, "Pool", SimpleNamespace(BLAS=SimpleNamespace(size=lambda: n_threads)))
    with store.read() as snapshot:
        rows, source = snapshot.rows(), snapshot.layer(0)
        every = find_close_pairs(source, rows, 0.2)
        few = find_close_pairs(source, rows, 0.2, n_most=n_most)
    assert len(every.steps) > n_most
    assert few.min_step == np.sort(every.steps)[-(n_most // 2)] + 1
    assert few.steps.tolist() == every.steps[every.steps >= few.min_step].tolist()
    assert few.nearest.tolist() == every.nearest.tolist()


@pytest.mark.parametrize("n_values", [3, 40, 4_000])
def test_the_raised_floor_is_the_same_in_any_order_of_the_blocks(n_values: int) -> None:
    random = np.random.default_rng(n_values)
    n, n_most = 500, 60
    values = random.integers(1, n_values + 1, n) / n_values  # with many ties, or with few
    steps = np.sort(to_steps(values))
    found = set()
    for _ in range(40):
        collector = close_pairs._Collector(0, n_most, np.full(n + 1, -2.0))
        cuts = np.sort(random.choice(n, random.integers(1, 60), replace=False))
        for at in np.split(random.permutation(n), cuts):
            collector.take(Pairs(at + 1, np.zeros_like(at), values[at].astype(np.float32)))
        closed = collector.close()
        found.add((closed.min_step, len(closed.steps)))
    raised = int(steps[-(n_most // 2)]) + 1
    assert found == {(raised, int(np.sum(steps >= raised)))}


def test_documents_that_are_all_one_vector_leave_nothing_to_sweep_or_all(tmp_path: Path) -> None:
    made = create(tmp_path / "index", width=_WIDTH)
    add(made, np.repeat(crowded(1, 0), 40, axis=0))
    [step] = sweep(made).steps
    assert (step.threshold, step.n_near, step.n_kept, step.random_share) == (1, 39, 1, 1)
    with made.read() as snapshot:
        pairs = find_close_pairs(snapshot.layer(0), snapshot.rows(), 1.0, n_most=50)
    assert len(pairs.steps) == 0
    assert pairs.min_step == 100_001


@pytest.mark.parametrize("keep", list(Keep))
def test_equal_vectors_in_too_many_pairs_still_leave_the_step_at_1(
    tmp_path: Path, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_small_tiles(monkeypatch, 17)
    monkeypatch.setattr(
        thresholds, "find_close_pairs", partial(close_pairs.find_close_pairs, n_most=100)
    )
    made = create(tmp_path / "index", width=_WIDTH)
    codes = np.concatenate([np.repeat(crowded(1, 0), 40, axis=0), crowded(8, 1)])
    add(made, codes, texts=[f"text {i % 45}" + "." * (i % 5) for i in range(48)])
    found = sweep(made, keep=keep)
    [step] = found.steps
    once = made.query(
        lambda snapshot: find_duplicates(
            snapshot.layer(0), snapshot.document_table(), threshold=1, keep=keep
        )
    )
    assert step.threshold == 1
    assert step.n_near == np.sum(~once.is_exact) > 30
    assert step.n_kept == len(once.kept) == found.n_texts - step.n_near
    assert len(step.borderline) == 3
    for pair in step.borderline:
        assert pair.similarity == pytest.approx(1, abs=1e-5)
        assert len(set(pair.ids)) == len(set(pair.texts)) == 2
        assert {int(one[1:]) for one in pair.ids} <= set(range(40))


@pytest.mark.parametrize(("n", "n_most"), [(2, 2), (3, 2), (9, 3), (50, 8), (2_000, 24)])
def test_a_handful_of_texts_gets_a_handful_of_bins(store: Store, n: int, n_most: int) -> None:
    nearest = np.linspace(-1, 0.98, n).astype(np.float32)
    bounds, counts = replace(sweep(store), nearest=nearest).histogram()
    assert len(counts) <= n_most
    assert counts.sum() == n
    assert bounds[0] <= -1 + 1e-6
    assert bounds[-1] == 1
    assert (counts > 0).all()


@pytest.mark.parametrize(
    ("n_middle", "n_repeats", "valley"), [(10, 60, 0.9), (0, 60, 0.9), (30, 40, None), (0, 0, None)]
)
def test_a_valley_is_named_where_repeats_part_from_the_others(
    store: Store, n_middle: int, n_repeats: int, valley: float | None
) -> None:
    others = np.repeat(np.linspace(0.32, 0.82, 11), [5, 20, 60, 120, 160, 150, 110, 90, 70, 40, 40])
    nearest = [*others, *[0.87] * n_middle, *[0.92] * n_middle, *[0.97] * n_repeats]
    found = replace(sweep(store), nearest=np.array(nearest, dtype=np.float32))
    assert found.valley == valley
