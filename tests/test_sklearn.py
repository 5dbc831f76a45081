"""The estimators for scikit-learn."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from layerdex.errors import LayerdexError, OptionError
from layerdex.sklearn import (
    CACHE_BYTES,
    LayerEmbedder,
    LayerKNeighborsClassifier,
    clear_cache,
    limit_cache,
)
from tests.cli.words import WordTransformer

TEXTS = [f"{word} {kind} {i}" for i in range(10) for word, kind in (("cat", "fur"), ("car", "oil"))]
LABELS = ["animal", "thing"] * 10


@pytest.fixture
def encoders(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[WordTransformer]]:
    """Every encoder that is made."""
    made: list[WordTransformer] = []

    class Recorded(WordTransformer):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self)

    monkeypatch.setattr("layerdex.indexer.encoder.TransformerEncoder", Recorded)
    clear_cache()
    yield made
    limit_cache(CACHE_BYTES)
    clear_cache()


@parametrize_with_checks([LayerKNeighborsClassifier()])  # type: ignore[untyped-decorator]
def test_scikit_learns_own_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def test_a_grid_over_layers_encodes_each_text_once(encoders: list[WordTransformer]) -> None:
    pipeline = Pipeline([("embed", LayerEmbedder()), ("vote", LayerKNeighborsClassifier(3))])
    grid = GridSearchCV(
        pipeline, {"embed__layer": [0, 1, 2, 3, -1], "vote__n_neighbors": [1, 3]}, cv=5
    )
    grid.fit(TEXTS, LABELS)
    assert grid.best_score_ == 1.0
    assert list(grid.predict(["cat fur", "car oil"])) == ["animal", "thing"]
    [encoder] = encoders
    assert sorted(encoder.encoded) == sorted([*TEXTS, "cat fur", "car oil"])


def test_vectors_are_those_of_the_layer(encoders: list[WordTransformer]) -> None:
    for layer, resolved in ((1, 1), (-1, 3), (0, 0)):
        found = LayerEmbedder(layer=layer).fit(TEXTS).transform(np.array([*TEXTS, TEXTS[0]]))
        expected = WordTransformer().encode([*TEXTS, TEXTS[0]], [resolved]).vectors[0]
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.float32


def test_a_column_of_a_data_frame_is_texts_and_the_frame_is_an_error(
    encoders: list[WordTransformer],
) -> None:
    frame = pd.DataFrame({"text": TEXTS})
    found = LayerEmbedder().fit_transform(frame["text"])
    np.testing.assert_array_equal(found, LayerEmbedder().transform(TEXTS))
    with pytest.raises(OptionError, match=r"df\['text'\], not DataFrame of 2 dimensions"):
        LayerEmbedder().fit_transform(frame[["text"]])
    assert len(encoders) == 1


def test_other_settings_are_other_vectors(encoders: list[WordTransformer]) -> None:
    plain = LayerEmbedder(layer=2).transform(["a cat"])
    steered = clone(LayerEmbedder(layer=2)).set_params(template="see {text}").transform(["a cat"])
    assert not np.array_equal(plain, steered)
    np.testing.assert_array_equal(LayerEmbedder(layer=2).transform(["a cat"]), plain)
    assert [one.encoded for one in encoders] == [["a cat"], ["see a cat"]]


def test_named_layers_alone_are_encoded(encoders: list[WordTransformer]) -> None:
    LayerEmbedder(layer=1, layers="1").transform(["a cat"])
    with pytest.raises(OptionError, match="layer 3 is not among the layers 0-1"):
        LayerEmbedder(layer=3, layers="0-1").fit(TEXTS)


def test_the_cache_keeps_to_its_bytes(encoders: list[WordTransformer]) -> None:
    entry = 4 * 16 * 4 + 300  # layers, width, float32; what Python takes
    limit_cache(2 * entry)
    embedder = LayerEmbedder().fit(TEXTS)
    embedder.transform(["a", "b"])
    embedder.transform(["a"])  # now b is the oldest
    embedder.transform(["c"])
    embedder.transform(["a", "c"])
    assert encoders[0].encoded == ["a", "b", "c"]
    embedder.transform(["b"])
    assert encoders[0].encoded == ["a", "b", "c", "b"]
    limit_cache(0)
    vectors = embedder.transform(["b", "b"])
    assert encoders[0].encoded == ["a", "b", "c", "b", "b"]
    np.testing.assert_array_equal(vectors[0], vectors[1])
    with pytest.raises(OptionError, match="size_bytes must be at least 0"):
        limit_cache(-1)


def test_names_of_features_and_pickles(encoders: list[WordTransformer]) -> None:
    embedder = LayerEmbedder(layer=-2).fit(TEXTS)
    assert (embedder.layer_, embedder.n_features_out_) == (2, 16)
    assert list(embedder.get_feature_names_out()[:2]) == ["layerembedder0", "layerembedder1"]
    again = pickle.loads(pickle.dumps(embedder))
    np.testing.assert_array_equal(again.transform(["x"]), embedder.transform(["x"]))


@pytest.mark.parametrize("texts", ["one text", [["a"]], [None], 5])
def test_only_lists_of_texts_are_taken(encoders: list[WordTransformer], texts: Any) -> None:
    with pytest.raises(LayerdexError):
        LayerEmbedder().transform(texts)


MISSING = ["", " \n", None, float("nan"), pd.NA, np.nan]


@pytest.mark.parametrize("missing", MISSING, ids=repr)
def test_a_missing_text_is_a_clear_error_or_a_zero_vector(
    encoders: list[WordTransformer], missing: Any
) -> None:
    texts = ["a cat", missing, "a car"]
    said = (
        r"the text at position 1 is (null|empty|blank); missing=\"zero\" makes a zero vector of it"
    )
    with pytest.raises(OptionError, match=said):
        LayerEmbedder().transform(texts)
    found = LayerEmbedder(missing="zero").fit_transform(texts)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[[0, 2]], LayerEmbedder().transform(["a cat", "a car"]))
    assert not found[1].any()
    assert LayerEmbedder(missing="zero").transform([missing]).shape == (1, found.shape[1])


def test_zero_is_for_missing_texts_alone(encoders: list[WordTransformer]) -> None:
    texts: list[Any] = ["a", 5]
    with pytest.raises(OptionError, match=r"the text at position 1 is not a string \(int\)"):
        LayerEmbedder(missing="zero").transform(texts)
    with pytest.raises(OptionError, match="zeros"):
        LayerEmbedder(missing="zeros").fit(TEXTS)


@pytest.mark.parametrize("weights", ["distance", "uniform"])
def test_votes_are_scikit_learns_by_cosine(weights: str) -> None:
    random = np.random.default_rng(0)
    vectors, labels = random.normal(size=(300, 8)), random.integers(4, size=300)
    queries = random.normal(size=(100, 8))
    # An odd number of votes for the unweighted, whose ties scikit-learn breaks otherwise.
    k = 9 if weights == "distance" else 1
    ours = LayerKNeighborsClassifier(k, weights=weights).fit(vectors, labels)
    theirs = KNeighborsClassifier(k, weights=weights, metric="cosine").fit(vectors, labels)
    np.testing.assert_array_equal(ours.predict(queries), theirs.predict(queries))
    expected = theirs.predict_proba(queries)
    np.testing.assert_allclose(ours.predict_proba(queries), expected, atol=1e-4)


def test_a_tie_goes_to_the_nearest_and_lengths_do_not_matter() -> None:
    vectors = [[1e200, 1e199], [1.0, 1.0], [0.0, 1e-200]]
    voter = LayerKNeighborsClassifier(2, weights="uniform").fit(vectors, ["b", "a", "a"])
    assert list(voter.predict([[3.0, 0.1]])) == ["b"]
    shares = voter.predict_proba([[3.0, 0.1]])
    np.testing.assert_allclose(shares, [[0.5, 0.5]])
    assert voter.classes_[shares.argmax()] == "b"


def test_a_zero_vector_is_equally_far_from_all() -> None:
    voter = LayerKNeighborsClassifier(2).fit([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]], ["b", "a", "a"])
    np.testing.assert_allclose(voter.predict_proba([[0.0, 0.0]]), [[0.5, 0.5]])
    np.testing.assert_allclose(voter.predict_proba([[2.0, 0.0]]), [[0.0, 1.0]], atol=1e-15)
    assert list(voter.predict([[0.0, 0.0], [2.0, 0.0]])) == ["b", "b"]
