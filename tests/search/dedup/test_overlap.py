"""What another index has too: NumPy over the vectors of both says the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from layerdex import Index
from layerdex.errors import IndexMismatchError, LayerError, OptionError
from layerdex.search.dedup.overlap import Overlap
from tests.encoders import WordEncoder
from tests.index.expectations import Row, corpus, texts_of, vectors_of

TRAIN = corpus(80)
TEST: list[Row] = [
    {"id": "same", "text": TRAIN[4]["text"], "label": TRAIN[4]["label"]},
    {"id": "relabelled", "text": TRAIN[9]["text"], "label": "another"},
    {"id": "unlabelled", "text": TRAIN[9]["text"], "label": None},
    *[{**one, "id": f"t{i}", "label": "l0"} for i, one in enumerate(corpus(40, seed=5))],
]


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Index, Index]:
    folder = tmp_path_factory.mktemp("leakage")
    train = Index.create(folder / "train", model=WordEncoder())
    train.add([*TRAIN, {"id": "again", "text": TRAIN[4]["text"]}])
    test = Index.create(folder / "test", model=WordEncoder())
    test.add(TEST)
    return train, test


def find(indexes: tuple[Index, Index], threshold: float, layer: int) -> Overlap:
    train, test = indexes
    return test.at(layer=layer).find_overlap(train, threshold=threshold)[0]


@pytest.mark.parametrize("layer", [0, 2, 3])
@pytest.mark.parametrize("threshold", [-1.0, 0.5, 0.7, 1.0])
def test_each_document_has_its_nearest_within_the_threshold(
    indexes: tuple[Index, Index], threshold: float, layer: int
) -> None:
    found = find(indexes, threshold, layer)
    similarities = vectors_of(texts_of(TEST), layer) @ vectors_of(texts_of(TRAIN), layer).T
    nearest, best = similarities.argmax(axis=1), similarities.max(axis=1)
    expected = [i for i in range(len(TEST)) if np.round(best[i], 5) >= threshold]
    assert [leak.id for leak in found.shared] == [TEST[i]["id"] for i in expected]
    for leak, i in zip(found.shared, expected, strict=True):
        assert leak.other == TRAIN[nearest[i]]["id"]
        assert leak.similarity == pytest.approx(min(best[i], 1), abs=2e-5)
        assert (leak.label, leak.other_label) == (TEST[i]["label"], TRAIN[nearest[i]]["label"])
    assert (found.n, found.n_other) == (len(TEST), len(TRAIN) + 1)
    assert list(found.rest) == [row["id"] for i, row in enumerate(TEST) if i not in expected]


def test_the_same_text_is_found_whatever_the_threshold(indexes: tuple[Index, Index]) -> None:
    found = find(indexes, 1.0, 3)
    assert [leak.id for leak in found.shared if leak.is_exact] == [
        "same",
        "relabelled",
        "unlabelled",
    ]
    assert found.n_exact == 3
    assert found.shared[0].other == "d4"  # the first of the two


def test_only_two_different_labels_are_a_conflict(indexes: tuple[Index, Index]) -> None:
    assert find(indexes, 1.0, 3).n_conflicts == 1


def test_a_document_with_the_same_label_comes_before_the_first_with_the_same_text(
    tmp_path: Path,
) -> None:
    rows = [{"id": f"{n}", "text": "twice", "label": n} for n in ("first", "second", None)]
    index = Index.create(tmp_path / "index", model=WordEncoder())
    index.add(rows)
    [found] = index.at(layer=0).find_overlap(index)
    assert [(leak.id, leak.other) for leak in found.shared] == [
        (each, each) for each in ("first", "second", "None")
    ]
    assert found.n_conflicts == 0


def test_several_layers_and_fused_ones(indexes: tuple[Index, Index]) -> None:
    train, test = indexes
    found = test.at(layer="0,3").find_overlap(train, threshold=0.7)
    assert found == [find(indexes, 0.7, layer) for layer in (0, 3)]
    [fused] = test.at(layer="0,3", fuse="concat").find_overlap(train, threshold=0.7)
    assert fused.layer == "concat(0,3)"
    mean = [
        vectors_of(texts_of(TEST), layer) @ vectors_of(texts_of(TRAIN), layer).T for layer in (0, 3)
    ]
    assert len(fused.shared) == (np.round(np.mean(mean, axis=0).max(axis=1), 5) >= 0.7).sum()


def test_where_chooses_what_is_looked_for(indexes: tuple[Index, Index]) -> None:
    train, test = indexes
    [found] = test.at(where="label=l0").find_overlap(train, threshold=-1)
    assert found.n == 40
    assert {leak.label for leak in found.shared} == {"l0"}


def test_an_empty_index_has_nothing_of_it(tmp_path: Path, indexes: tuple[Index, Index]) -> None:
    empty = Index.create(tmp_path / "empty", model=WordEncoder())
    [found] = indexes[1].at().find_overlap(empty, threshold=-1)
    assert (found.n_other, found.shared) == (0, ())
    [found] = empty.at().find_overlap(indexes[0])
    assert (found.n, found.shared) == (0, ())


def test_vectors_that_cannot_be_compared_are_refused(
    tmp_path: Path, indexes: tuple[Index, Index]
) -> None:
    other = Index.create(tmp_path / "other", model=WordEncoder(fingerprint="others"))
    with pytest.raises(IndexMismatchError):
        indexes[1].at().find_overlap(other)
    shallow = Index.create(tmp_path / "shallow", model=WordEncoder(), layers="0,1")
    with pytest.raises(LayerError):
        indexes[1].at(layer=3).find_overlap(shallow)


@pytest.mark.parametrize("threshold", [1.1, -2, float("nan")])
def test_thresholds_outside_their_range_are_refused(
    indexes: tuple[Index, Index], threshold: float
) -> None:
    with pytest.raises(OptionError, match="threshold"):
        indexes[1].at().find_overlap(indexes[0], threshold=threshold)
