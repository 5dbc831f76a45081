"""`Index.vectors`, and the .npy files of `export`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from layerdex import Index
from layerdex.errors import DocumentNotFoundError, LayerError, OptionError
from tests.index.expectations import corpus
from tests.storage.stored import read_live


@pytest.fixture
def filled(index: Index) -> Index:
    index.add(corpus(30))
    index.add([{"id": "d3", "text": "changed, so that its row is the last"}])
    index.delete("d7")
    return index


def test_all_vectors_come_with_their_ids_in_input_order(filled: Index) -> None:
    ids, vectors = filled.vectors(layer=1)
    assert ids == [document.id for document in filled.documents()]
    assert vectors.shape == (29, filled.settings.width)
    assert vectors.dtype == np.float32
    stored = read_live(filled.path)
    expected = np.array([np.frombuffer(stored[i].vectors[1], np.float16) for i in ids], np.float32)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_products_are_the_similarities_of_a_search(filled: Index) -> None:
    ids, vectors = filled.vectors()
    [result] = filled.search_like("d3", k=5)
    of = dict(zip(ids, vectors @ vectors[ids.index("d3")], strict=True))
    assert [hit.similarity for hit in result] == pytest.approx(
        [of[hit.id] for hit in result], abs=2e-5
    )


@pytest.mark.parametrize("n_repeats", [1, 500])
def test_vectors_of_ids_are_in_their_order(filled: Index, n_repeats: int) -> None:
    ids, vectors = filled.vectors(layer=0)
    asked = ["d9", "d3", "d9"] * n_repeats
    np.testing.assert_array_equal(
        filled.vectors(0, asked), vectors[[ids.index(each) for each in asked]]
    )
    with pytest.raises(DocumentNotFoundError, match="'d7'"):
        filled.vectors(0, [*asked, "d7"])


def test_conditions_choose_the_documents(filled: Index) -> None:
    ids, vectors = filled.vectors(where="id in d3,d9")
    assert ids == ["d3", "d9"]
    assert len(vectors) == 2
    assert filled.vectors(0, "d3").shape == (1, filled.settings.width)


def test_vectors_are_of_one_layer_and_of_one_choice(filled: Index) -> None:
    with pytest.raises(LayerError, match="one layer"):
        filled.vectors("0,1")
    with pytest.raises(OptionError, match="not both"):
        filled.vectors(0, ["d3"], where="id=d3")  # type: ignore[call-overload]


@pytest.mark.parametrize("layers", [1, "0,2", None])
def test_an_npy_file_has_the_vectors_and_the_ids_beside_it(
    filled: Index, tmp_path: Path, layers: int | str | None
) -> None:
    path = tmp_path / "x.npy"
    seen: list[int] = []
    n = filled.export(path, layers=layers, on_progress=lambda done, _: seen.append(done))
    written = np.load(path, mmap_mode="r")
    ids = json.loads((tmp_path / "x.ids.json").read_text())
    assert (n, seen[-1], written.dtype) == (29, 29, np.float32)
    numbers = [0, 2] if layers == "0,2" else [layers]
    for i, layer in enumerate(numbers):
        expected_ids, expected = filled.vectors(layer)
        assert ids == expected_ids
        of_layer = written[:, i] if len(numbers) > 1 else written
        np.testing.assert_allclose(of_layer, expected, atol=1e-6)


def test_npy_of_no_documents_is_empty(index: Index, tmp_path: Path) -> None:
    assert index.export(tmp_path / "x.npy", layers=1) == 0
    assert np.load(tmp_path / "x.npy").shape == (0, index.settings.width)
    assert json.loads((tmp_path / "x.ids.json").read_text()) == []
    ids, vectors = index.vectors()
    assert (ids, vectors.shape) == ([], (0, index.settings.width))
