"""Percentiles of random pairs: NumPy's over all pairs of different texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from layerdex.choices import Fuse, StoredPrecision
from layerdex.errors import DamagedIndexError, OptionError
from layerdex.search.knn import random_pairs
from layerdex.search.knn.random_pairs import (
    MinSimilarity,
    Percentile,
    parse_min_similarity,
    resolve_min_similarity,
)
from layerdex.search.knn.search import search_by_documents
from layerdex.search.knn.vector_space import VectorSpace, layer_spaces
from layerdex.search.targets import SearchTarget
from layerdex.storage.store import Store
from tests.search.brute_force import cosines, read_live
from tests.search.stores import add, create, random_codes

_WIDTH = 8


def layer_space(layer: int) -> VectorSpace:
    [space] = layer_spaces([layer])
    return space


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """50 documents at two layers, of which the last ten repeat texts of the first."""
    made = create(tmp_path_factory.mktemp("store") / "index", width=_WIDTH, n_layers=2)
    codes = np.stack([random_codes(50, _WIDTH, seed=layer) for layer in range(2)])
    codes[:, 40:] = codes[:, :10]
    texts = [f"text {i % 40}" for i in range(50)]
    add(made, codes, texts=texts, labels=["low" if i < 20 else "high" for i in range(50)])
    return made


@pytest.mark.parametrize(("word", "percent"), [("p99", 99), ("p99.9", 99.9), ("p0", 0), ("p5", 5)])
def test_words_name_percentiles(word: str, percent: float) -> None:
    assert parse_min_similarity(word) == Percentile(percent)
    assert str(Percentile(percent)) == word


@pytest.mark.parametrize("value", ["p100", "p-1", "99", "pp9", "p9.", "", "p1e1", "P99"])
def test_other_words_are_an_error(value: str) -> None:
    with pytest.raises(OptionError, match=r"a percentile of random pairs such as p99"):
        parse_min_similarity(value)


@pytest.mark.parametrize("value", [1.01, -2, float("nan"), True])
def test_numbers_are_similarities(value: float) -> None:
    assert parse_min_similarity(-0.25) == -0.25
    with pytest.raises(OptionError, match="a similarity must be between -1 and 1"):
        parse_min_similarity(value)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("percent", [0, 37.5, 99])
def test_a_percentile_is_of_all_pairs_of_texts(store: Store, layer: int, percent: float) -> None:
    _, codes = read_live(store.path, layer)
    pairs = cosines(codes[:40], codes[:40])[np.triu_indices(40, 1)]
    found = store.query(
        lambda snapshot: resolve_min_similarity(snapshot, layer_space(layer), Percentile(percent))
    )
    assert found == pytest.approx(np.percentile(pairs, percent), abs=1e-6)
    assert (
        store.query(lambda snapshot: resolve_min_similarity(snapshot, layer_space(layer), 0.3))
        == 0.3
    )


def test_fused_layers_have_percentiles_and_rankings_none(store: Store) -> None:
    two = [
        cosines(codes[:40], codes[:40]) for _, codes in (read_live(store.path, i) for i in (0, 1))
    ]
    pairs = ((two[0] + two[1]) / 2)[np.triu_indices(40, 1)]

    def at(how: Fuse) -> float:
        fusion = VectorSpace(SearchTarget((0, 1), how, (1.0, 1.0)))
        return store.query(
            lambda snapshot: resolve_min_similarity(snapshot, fusion, Percentile(95))
        )

    assert at(Fuse.CONCAT) == pytest.approx(np.percentile(pairs, 95), abs=1e-6)
    with pytest.raises(OptionError, match="rrf fuses rankings"):
        at(Fuse.RRF)


def test_a_sample_is_near_and_the_same_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def median() -> float:
        return store.query(
            lambda snapshot: resolve_min_similarity(snapshot, layer_space(0), Percentile(50))
        )

    of_all = median()
    monkeypatch.setattr(random_pairs, "N_PAIRED", 30)
    assert median() == median()
    assert 0 < abs(median() - of_all) < 0.1


@pytest.mark.parametrize(
    ("similarity", "minimum", "is_hit"),
    [
        (0.123454, Percentile(50), True),  # of one pair: its own similarity, which rounds down
        (0.123456, Percentile(50), True),
        (0.123456, 0.123464, True),  # in the same step of 1e-5
        (0.123444, 0.12345, False),
        (0.123446, 0.12345, True),
    ],
)
def test_a_hit_is_held_to_a_minimum_within_the_step_of_equal_similarities(
    tmp_path: Path, similarity: float, minimum: MinSimilarity, is_hit: bool
) -> None:
    made = create(tmp_path / "index", width=2, precision=StoredPrecision.FLOAT32)
    add(made, np.array([[1, 0], [similarity, np.sqrt(1 - similarity**2)]]))
    [hits] = made.query(
        lambda snapshot: search_by_documents(
            snapshot, ["d0"], space=layer_space(0), k=5, min_similarity=minimum
        )
    )
    assert [hit.id for hit in hits] == ["d1"] * is_hit


def test_one_text_has_no_pairs(tmp_path: Path) -> None:
    made = create(tmp_path / "index", width=_WIDTH)
    add(made, random_codes(3, _WIDTH), texts=["same"] * 3)
    with pytest.raises(OptionError, match="2 different texts or more, and there are 1"):
        made.query(
            lambda snapshot: resolve_min_similarity(snapshot, layer_space(0), Percentile(99))
        )


def test_facts_of_rows_are_those_of_the_documents_and_a_lost_row_is_damage(store: Store) -> None:
    with store.read() as snapshot:
        every, rows = snapshot.document_table(), snapshot.rows()
        some = snapshot.table_of(rows[[3, 41, 49]])
        assert some.ids == [every.ids[i] for i in (3, 41, 49)]
        assert some.labels == ["low", "high", "high"]
        assert len(set(some.content_groups.tolist())) == 3
        assert len(set(snapshot.table_of(rows[[1, 3, 41]]).content_groups.tolist())) == 2
        with pytest.raises(DamagedIndexError):
            snapshot.table_of(np.append(rows, rows[-1] + 1))
