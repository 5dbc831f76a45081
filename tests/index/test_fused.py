"""Several layers as one, in every question of an index."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from layerdex import Index, LabelTask
from layerdex.errors import LayerError, OptionError
from tests.encoders import WordEncoder
from tests.index.expectations import corpus, vectors_of
from tests.results import by_layer, first, hits_by_layer

ROWS = corpus(60)
QUERIES = ["word1 word2 word3", "word4"]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Index:
    made = Index.create(tmp_path_factory.mktemp("fused") / "index", model=WordEncoder())
    made.add(ROWS)
    return made


def by_hand(query: str, weights: dict[int, float]) -> list[str]:
    """Return the ids by the weighted mean of unit vectors, the nearest first."""
    texts = [str(row["text"]) for row in ROWS]
    mean = np.sum([weight * vectors_of(texts, at) for at, weight in weights.items()], axis=0)
    asked = np.sum([weight * vectors_of([query], at) for at, weight in weights.items()], axis=0)
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    similarities = (mean @ (asked / np.linalg.norm(asked)).T)[:, 0]
    return [str(ROWS[i]["id"]) for i in np.argsort(-np.round(similarities, 5), kind="stable")]


def test_a_search_is_by_the_mean_of_the_layers(filled: Index) -> None:
    for query in QUERIES:
        [result] = filled.search(query, layer="0,2:3", fuse="mean", k=5)
        assert [hit.id for hit in result] == by_hand(query, {0: 1, 2: 3})[:5]
        assert result.layer == "mean(0:1,2:3)"


def test_many_texts_and_a_document_are_searched_by_it(filled: Index) -> None:
    found = by_layer(filled.search(QUERIES, layer=[0, 2], fuse="mean", k=3))
    assert list(found) == ["mean(0,2)"]
    for query, hits in zip(QUERIES, found["mean(0,2)"], strict=True):
        assert [hit.id for hit in hits] == by_hand(query, {0: 1, 2: 1})[:3]
    alike = hits_by_layer(filled.search_like("d7", layer="0,2", fuse="mean", k=4))["mean(0,2)"]
    expected = [one for one in by_hand(str(ROWS[7]["text"]), {0: 1, 2: 1}) if one != "d7"]
    assert [hit.id for hit in alike] == expected[:4]


def test_one_layer_fused_is_that_layer(filled: Index) -> None:
    for fuse in ("mean", "concat", "rrf"):
        fused = first(filled.search(QUERIES[0], layer=2, fuse=fuse, k=60))
        alone = first(filled.search(QUERIES[0], layer=2, k=60))
        assert [hit.id for hit in fused] == [hit.id for hit in alone]


def test_classification_evaluation_and_deduplication_take_it(filled: Index) -> None:
    [prediction] = filled.classify(QUERIES[:1], layer="0,2", fuse="mean", k=3)
    assert [voter.id for voter in prediction.neighbors] == by_hand(QUERIES[0], {0: 1, 2: 1})[:3]
    assert prediction.layer == "mean(0,2)"
    evaluation = filled.evaluate(LabelTask(k=3), layer="0,2", fuse="concat")
    assert evaluation.layers == (0, 2, "concat(0,2)")
    assert filled.deduplicate(layer="0,2", fuse="mean").layer == "mean(0,2)"


def test_weights_reach_the_order(filled: Index) -> None:
    heavy = first(filled.search(QUERIES[0], layer="0:1,2:1000", fuse="mean", k=60))
    alone = first(filled.search(QUERIES[0], layer=2, k=60))
    assert [hit.id for hit in heavy] == [hit.id for hit in alone]


@pytest.mark.parametrize(
    ("layer", "fuse", "message"),
    [
        (None, "mean", "say which layers to fuse"),
        ("0,2:x", "mean", "cannot read the weight in '2:x'"),
        ("0:1,0:2", "mean", "layer 0 is given twice"),
        ("0:0,2", "mean", "weight must be above 0"),
        ("0,2", "sum", "not one of mean, concat, rrf"),
        ("0:2", None, "are not fused"),
    ],
)
def test_what_cannot_be_fused_is_said(
    filled: Index, layer: str | None, fuse: str | None, message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        first(filled.search("word1", layer=layer, fuse=fuse))


def test_ranks_have_no_minimum_and_are_for_search_only(filled: Index) -> None:
    with pytest.raises(OptionError, match="no similarity"):
        first(filled.search("word1", layer="0,2", fuse="rrf", min_similarity=0.5))
    with pytest.raises(OptionError, match="only a search"):
        filled.classify(["word1"], layer="0,2", fuse="rrf")
    with pytest.raises(OptionError, match="only a search"):
        filled.deduplicate(layer="0,2", fuse="rrf")
    with pytest.raises(OptionError, match="only a search"):
        filled.evaluate(layer="0,2", fuse="rrf")


def test_a_layer_that_is_not_there_cannot_be_fused(filled: Index) -> None:
    with pytest.raises(LayerError, match="layer 9"):
        first(filled.search("word1", layer="0,9", fuse="mean"))


def test_a_lossy_index_is_fused_by_what_it_keeps(tmp_path: Path) -> None:
    lossy = Index.create(tmp_path / "int8", model=WordEncoder(), precision="int8")
    lossy.add(ROWS)
    [hit, *_] = first(lossy.search(str(ROWS[3]["text"]), layer="0,2", fuse="concat"))
    assert hit.id == "d3"
    assert hit.similarity == pytest.approx(1.0, abs=1e-5)


def test_a_document_searched_by_has_no_rank_itself(filled: Index) -> None:
    [first, second, *_] = hits_by_layer(filled.search_like("d7", layer=2, fuse="rrf", k=5))[
        "rrf(2)"
    ]
    assert (first.score, second.score) == pytest.approx((1 / 61, 1 / 62))
    assert (first.similarity, second.similarity) == (None, None)
    alone = hits_by_layer(filled.search_like("d7", layer=2, k=5))[2]
    assert {hit.score for hit in alone} == {None}
    assert [first.id, second.id] == [hit.id for hit in alone[:2]]
