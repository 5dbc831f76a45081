"""Transformed vectors in every question of an index, against NumPy in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from layerdex import Index, LabelTask, PairTask, RetrievalTask
from layerdex.choices import TransformName
from layerdex.errors import OptionError
from layerdex.records import Vectors
from layerdex.search.vectors.transform import Transform
from tests.encoders import WordEncoder
from tests.index.expectations import corpus, texts_of, vectors_of
from tests.results import by_layer, first, hits_by_layer
from tests.search.vectors.test_transform import by_book, shrunk

ROWS = corpus(60)
IDS = [str(row["id"]) for row in ROWS]
SHRINKAGE = {"center": 1.0, "whiten": 0.3}
QUERY = "word1 word2 word3"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Index:
    made = Index.create(tmp_path_factory.mktemp("transformed") / "index", model=WordEncoder())
    made.add(ROWS)
    made.fit_transforms(shrinkage=SHRINKAGE["whiten"])
    return made


def moved(texts: list[str], layer: int, how: str) -> NDArray[np.float64]:
    """Vectors of texts, transformed as the stored ones of `ROWS` say."""
    fitted = shrunk(vectors_of(texts_of(ROWS), layer), SHRINKAGE[how])
    return by_book(vectors_of(texts, layer), fitted).astype(np.float64)


def ranked(query: str, layer: int, how: str) -> list[tuple[str, float]]:
    similarities = (moved([query], layer, how) @ moved(texts_of(ROWS), layer, how).T)[0]
    order = np.argsort(-np.round(similarities, 5), kind="stable")
    return [(IDS[i], float(similarities[i])) for i in order]


@pytest.mark.parametrize("how", SHRINKAGE)
def test_a_search_is_by_transformed_vectors(filled: Index, how: str) -> None:
    for layer in (0, 3):
        hits = first(filled.search(QUERY, layer=layer, transform=how, k=6))
        expected = ranked(QUERY, layer, how)[:6]
        assert [hit.id for hit in hits] == [one for one, _ in expected]
        assert [hit.similarity for hit in hits] == pytest.approx(
            [similarity for _, similarity in expected], abs=5e-4
        )
        assert [hit.id for hit in first(filled.search(QUERY, layer=layer, k=6))] != [
            hit.id for hit in hits
        ]


def test_many_texts_layers_and_a_document_are_searched_by_it(filled: Index) -> None:
    found = by_layer(filled.search([QUERY, "word9"], layer=[1, 2], transform="whiten", k=4))
    assert list(found) == [1, 2]
    for layer, by_query in found.items():
        assert isinstance(layer, int)
        for query, hits in zip((QUERY, "word9"), by_query, strict=True):
            assert [hit.id for hit in hits] == [i for i, _ in ranked(query, layer, "whiten")][:4]
    alike = hits_by_layer(filled.search_like("d7", layer=[2], transform="center", k=4))[2]
    expected = [i for i, _ in ranked(str(ROWS[7]["text"]), 2, "center") if i != "d7"]
    assert [hit.id for hit in alike] == expected[:4]


def test_a_minimum_is_of_random_pairs_of_transformed_vectors(filled: Index) -> None:
    vectors = moved(texts_of(ROWS), 1, "whiten")
    pairs = (vectors @ vectors.T)[np.triu_indices(60, 1)]
    floor = np.percentile(pairs, 90)
    hits = first(filled.search(QUERY, layer=1, transform="whiten", k=60, min_similarity="p90"))
    expected = [i for i, similarity in ranked(QUERY, 1, "whiten") if similarity > floor]
    assert [hit.id for hit in hits] == expected
    assert 0 < len(expected) < 60


def test_classification_deduplication_and_thresholds_take_it(filled: Index) -> None:
    [prediction] = filled.classify([QUERY], layer=2, transform="whiten", k=5)
    expected = [i for i, _ in ranked(QUERY, 2, "whiten")][:5]
    assert [voter.id for voter in prediction.neighbors] == expected
    vectors = moved(texts_of(ROWS), 2, "whiten")
    threshold = 0.35
    found = filled.deduplicate(layer=2, transform="whiten", threshold=threshold)
    kept: list[int] = []
    for i in range(60):
        if not kept or (vectors[kept] @ vectors[i]).max() < threshold:
            kept.append(i)
    assert list(found.kept) == [IDS[i] for i in kept]
    assert 10 < len(kept) < 50
    sweep = filled.at(layer=2, transform="whiten").suggest_thresholds()
    nearest = (vectors @ vectors.T - 3 * np.eye(60)).max(axis=1)
    np.testing.assert_allclose(sweep.nearest, nearest, atol=5e-4)


def test_suspects_and_leaks_take_it(filled: Index, tmp_path: Path) -> None:
    plain, whitened = (
        filled.at(transform=how).find_label_issues(k=5) for how in ("none", "whiten")
    )
    assert {target.transform for target in whitened.targets} == {TransformName.WHITEN}
    assert [one.id for one in plain.issues] != [one.id for one in whitened.issues]
    [one, *_] = whitened.issues
    others = [i for i, _ in ranked(str(ROWS[IDS.index(one.id)]["text"]), 3, "whiten")]
    assert [v.id for v in one.neighbors] == [i for i in others if i != one.id][:5]
    other = Index.create(tmp_path / "other", model=WordEncoder())
    other.add([{"id": "x", "text": QUERY}, {"id": "y", "text": "far from anything"}])
    # With the transform of this index for both: the other has none.
    [overlap] = filled.at(layer=[3], transform="whiten").find_overlap(other, threshold=0.1)
    asked = moved([QUERY, "far from anything"], 3, "whiten")
    similarities = moved(texts_of(ROWS), 3, "whiten") @ asked.T
    expected = {
        IDS[i]: "xy"[int(one.argmax())] for i, one in enumerate(similarities) if one.max() > 0.1
    }
    assert {leak.id: leak.other for leak in overlap.shared} == expected
    assert len(expected) > 5


def test_transformed_layers_are_fused(filled: Index) -> None:
    [hits] = filled.search(QUERY, layer="0,2", fuse="concat", transform="whiten", k=5)
    similarities = sum(
        (moved([QUERY], at, "whiten") @ moved(texts_of(ROWS), at, "whiten").T)[0] for at in (0, 2)
    )
    order = np.argsort(-np.asarray(similarities), kind="stable")[:5]
    assert [hit.id for hit in hits] == [IDS[i] for i in order]
    assert hits.layer == "concat(0,2)"
    assert hits.target.transform is TransformName.WHITEN
    assert first(filled.search(QUERY, layer="0,2", fuse="rrf", transform="whiten", k=5))


def test_leaving_one_out_fits_once_on_all(filled: Index) -> None:
    found = filled.evaluate(
        LabelTask(k=3, weights="uniform"), layer=[1], transform="center", n_resamples=0
    )
    vectors = moved(texts_of(ROWS), 1, "center")
    labels = np.array([str(row["label"]) for row in ROWS])
    correct = 0
    for i in range(60):
        nearest = [j for j in np.argsort(-(vectors @ vectors[i]), kind="stable") if j != i][:3]
        names, counts = np.unique(labels[nearest], return_counts=True)
        tied = set(names[counts == counts.max()])
        correct += next(one for one in labels[nearest] if one in tied) == labels[i]
    assert found.best.values["accuracy"] == pytest.approx(correct / 60)
    assert found.best.target.transform is TransformName.CENTER
    assert found.layers == (1,)


def test_evaluations_fit_for_themselves_whatever_is_kept(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", model=WordEncoder())
    index.add(ROWS)
    queries = [{"id": "q", "text": QUERY}]
    qrels = tmp_path / "qrels.tsv"
    qrels.write_text("q 0 d3 1\nq 0 d4 1\n")
    pairs = [{"sentence1": QUERY, "sentence2": f"word{i} word3", "score": i % 4} for i in range(12)]

    def query() -> list[object]:
        test = [{"text": QUERY, "label": "l0"}, {"text": "word5 word8", "label": "l1"}]
        measured = [
            index.evaluate(RetrievalTask(queries, qrels), transform="whiten", n_resamples=0),
            index.evaluate(PairTask(pairs), transform="whiten", n_resamples=0),
        ]
        evaluated = [
            index.evaluate(transform="whiten", n_resamples=0),
            index.evaluate(LabelTask(folds=3), transform="whiten", n_resamples=0),
            index.evaluate(LabelTask(test=test), transform="whiten", n_resamples=0),
        ]
        scores = [of_target for found in (*measured, *evaluated) for of_target in found.scores]
        assert {of_target.target.transform for of_target in scores} == {TransformName.WHITEN}
        return [of_target.values for of_target in scores]

    before = query()
    index.fit_transforms(shrinkage=0.01)
    assert query() == before
    ranks = [one for one, _ in ranked(QUERY, 3, "center")]
    found = index.evaluate(RetrievalTask(queries, qrels), transform="center", n_resamples=0)
    assert found.at(3).values["mrr@10"] == pytest.approx(
        next((1 / (i + 1) for i, one in enumerate(ranks[:10]) if one in ("d3", "d4")), 0)
    )


def test_a_transform_that_is_not_kept_is_an_error_that_says_how(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", model=WordEncoder())
    index.add(ROWS)
    for query in (
        lambda: first(index.search(QUERY, transform="whiten")),
        lambda: hits_by_layer(index.search_like("d1", transform="center")),
        lambda: index.classify([QUERY], transform="whiten"),
        lambda: index.deduplicate(transform="whiten"),
        lambda: index.at(transform="whiten").find_label_issues(),
    ):
        with pytest.raises(OptionError, match="no transforms: run 'layerdex transform INDEX'"):
            query()
    with pytest.raises(OptionError, match="'bleach' is not one of none, center, whiten"):
        first(index.search(QUERY, transform="bleach"))


def test_a_head_and_the_best_layer_are_of_plain_vectors(filled: Index) -> None:
    probe = filled.at(layer=[1]).probe(folds=2, n_resamples=0)
    filled.save_head(probe)
    vectors = vectors_of([QUERY], 1).astype(np.float32)
    [share] = probe.head.probabilities(vectors).max(axis=1)
    [prediction] = filled.classify_with_head([QUERY])
    assert prediction.confidence == pytest.approx(share, abs=1e-4)
    evaluation = filled.evaluate(transform="whiten", n_resamples=0)
    with pytest.raises(OptionError, match="evaluate with transform none"):
        filled.save_best(evaluation)
    assert filled.info().best_layer is None


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_other_precisions_are_transformed_as_they_are_kept(tmp_path: Path, precision: str) -> None:
    index = Index.create(tmp_path / "index", model=WordEncoder(), precision=precision)
    index.add(ROWS)
    index.fit_transforms()
    [hit, *_] = first(index.search(str(ROWS[3]["text"]), layer=2, transform="whiten", k=3))
    assert hit.id == "d3"
    assert hit.similarity == pytest.approx(1, abs=1e-5)


def test_what_a_question_learned_serves_the_next(
    filled: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = first(filled.search(QUERY, layer=1, transform="whiten", k=3))
    move = Transform._map
    n_moved: list[int] = []

    def counting(self: Transform, vectors: Vectors) -> Vectors:
        n_moved.append(len(vectors))
        return move(self, vectors)

    monkeypatch.setattr(Transform, "_map", counting)
    assert first(filled.search(QUERY, layer=1, transform="whiten", k=3)) == before
    assert len(n_moved) > 1  # the question, and the nearest of each segment
    assert sum(n_moved) < len(ROWS)
