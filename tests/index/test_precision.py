"""The facade at each precision: questions agree with NumPy over the decoded vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from layerdex import Index
from layerdex.choices import StoredPrecision
from layerdex.errors import OptionError
from tests.encoders import WordEncoder
from tests.hits import similarities_of
from tests.index.expectations import corpus, texts_of
from tests.results import by_layer, first, hits_by_layer
from tests.rounding import decoded

ROWS = corpus(60)


@pytest.fixture(params=StoredPrecision)
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Index:
    made = Index.create(tmp_path / "index", model=WordEncoder(), precision=request.param.value)
    made.add(ROWS)
    return made


def _similarities(
    index: Index, left: list[str], right: list[str], layer: int
) -> NDArray[np.float64]:
    encoder = WordEncoder()
    unit = [
        decoded(encoder.encode(texts, [layer]).vectors[0], index._open.store.precision)
        for texts in (left, right)
    ]
    return np.asarray(unit[0] @ unit[1].T)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("layer", [0, 3])
def test_search_finds_what_brute_force_finds(index: Index, layer: int) -> None:
    queries = [f"word{i} word{i + 7} word3" for i in range(20)]
    expected = _similarities(index, queries, texts_of(ROWS), layer)
    found = by_layer(index.search(queries, layer=layer, k=5))[layer]
    for query, hits, true in zip(queries, found, expected, strict=True):
        order = np.argsort(-np.round(true, 5), kind="stable")[:5]
        assert [hit.id for hit in hits] == [f"d{i}" for i in order]
        np.testing.assert_allclose(similarities_of(hits), true[order], atol=1e-5)
        assert first(index.search(query, layer=layer, k=5)) == hits


def test_text_of_a_document_is_exactly_like_it(index: Index) -> None:
    for row in ROWS[:5]:
        (hit,) = first(index.search(str(row["text"]), k=1))
        assert hit.id == row["id"]
        assert hit.similarity == pytest.approx(1, abs=1e-6)
    # At distance 0 a neighbour's vote is the only one.
    predictions = index.classify(texts_of(ROWS), k=10)
    assert [one.label for one in predictions] == [row["label"] for row in ROWS]
    assert [one.confidence for one in predictions] == [1.0] * len(ROWS)


def test_document_like_another_is_found_by_its_stored_vector(index: Index) -> None:
    true = _similarities(index, texts_of(ROWS)[:1], texts_of(ROWS), 3)[0]
    true[0] = -2
    (hits,) = hits_by_layer(index.search_like("d0", k=5)).values()
    order = np.argsort(-np.round(true, 5), kind="stable")[:5]
    assert [hit.id for hit in hits] == [f"d{i}" for i in order]


def test_duplicates_are_those_of_the_decoded_vectors(index: Index) -> None:
    true = _similarities(index, texts_of(ROWS), texts_of(ROWS), 3)
    kept: list[int] = []
    for i in range(len(ROWS)):
        if not kept or true[i, kept].max() < 0.5:
            kept.append(i)
    found = index.deduplicate(threshold=0.5)
    assert 1 < len(kept) < len(ROWS)
    assert found.kept == tuple(f"d{i}" for i in kept)


def test_fingerprint_does_not_depend_on_the_precision(index: Index) -> None:
    assert index.info().encoder == WordEncoder().settings


def test_unknown_precision_is_an_error_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="'int4' is not one of float16, float32, int8"):
        Index.create(tmp_path / "index", model=WordEncoder(), precision="int4")
    assert not (tmp_path / "index").exists()
