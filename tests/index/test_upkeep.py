"""Documents out, what an index says of itself, and the layer it trusts."""

from __future__ import annotations

from pathlib import Path

import pytest
from sklearn.metrics import accuracy_score

from layerdex import Index, LabelTask
from layerdex.errors import (
    DocumentNotFoundError,
    LayerError,
    NoLabelsError,
    OptionError,
    RowError,
)
from layerdex.layers import LayerSelection
from layerdex.search.evaluation.evaluation import Method
from tests.encoders import WordEncoder
from tests.index.expectations import corpus, nearest
from tests.results import by_layer, first, hits_by_layer
from tests.storage.stored import layer_paths


@pytest.fixture
def partial(tmp_path: Path) -> Index:
    """An index of layers 0 and 2 of a model with layers 0 to 3."""
    made = Index.create(tmp_path / "partial", model=WordEncoder(), layers="0,-2")
    made.add(corpus(20))
    return made


def test_only_selected_layers_are_encoded_and_kept(partial: Index) -> None:
    assert partial.layers == (0, 2)
    names = {path.name for path in layer_paths(partial._open.store.path)}
    assert names == {"layer-00.faiss", "layer-02.faiss"}
    for layer in (0, 2):
        found = [hit.id for hit in first(partial.search("word1 word2", k=5, layer=layer))]
        assert found == [one for one, _ in nearest("word1 word2", corpus(20), layer, 5)]


@pytest.mark.parametrize("layer", [1, 3, -1])
def test_layer_that_was_not_kept_is_an_error_in_every_question(partial: Index, layer: int) -> None:
    for ask in (
        lambda: first(partial.search("word1", layer=layer)),
        lambda: by_layer(partial.search(["word1"], layer=[0, layer])),
        lambda: hits_by_layer(partial.search_like("d1", layer=layer)),
        lambda: partial.classify(["word1"], layer=layer),
        lambda: partial.evaluate(layer=layer),
        lambda: partial.deduplicate(layer=layer),
    ):
        with pytest.raises(LayerError, match=rf"layer {layer % 4} is not in this index.*0,2"):
            ask()


def test_layer_left_out_is_the_deepest_kept(partial: Index) -> None:
    assert partial.search("word1", k=1)[0].layer == 2
    assert list(hits_by_layer(partial.search_like("d1"))) == [2]
    assert partial.classify(["word1"])[0].layer == 2
    assert partial.deduplicate().layer == 2
    assert partial.search("word1", layer=-2)[0].layer == 2
    assert partial.search("word1", layer=-4)[0].layer == 0


def test_saved_best_layer_is_the_default_from_then_on(index: Index) -> None:
    index.add(corpus(30))
    reader = Index.open(index._open.store.path, encoder=WordEncoder())
    assert reader.search("word1")[0].layer == 3
    evaluation = index.evaluate(LabelTask(k=[3, 5]), layer="0-1")
    index.save_best(evaluation)
    best = evaluation.best_layer
    assert best in {0, 1}
    assert reader.search("word1", k=1)[0].layer == best
    assert list(hits_by_layer(reader.search_like("d1"))) == [best]
    assert reader.classify(["word1"])[0].layer == reader.deduplicate().layer == best
    assert reader.search("word1", layer=-1)[0].layer == 3
    values = evaluation.at(best, 3).values
    assert reader.info().best_layer == {
        "layer": best,
        "method": "leave-one-out",
        "n": 30,
        "k": 3,
        "accuracy": values["accuracy"],
        "macro_f1": values["macro_f1"],
    }
    index.save_best(index.evaluate(layer=2))
    assert reader.search("word1")[0].layer == 2


def test_evaluation_of_chosen_layers_and_documents(index: Index) -> None:
    index.add(corpus(40))
    evaluation = index.evaluate(LabelTask(k=5, weights="uniform"), layer="1,3", where="size<25")
    assert evaluation.classification is not None
    assert evaluation.classification.method is Method.LEAVE_ONE_OUT
    assert evaluation.n == 25
    assert [(one.layer, one.k) for one in evaluation.scores] == [(1, 5), (3, 5)]
    rows = corpus(40)[:25]
    truth = [row["label"] for row in rows]
    for result in evaluation.scores:
        first = []
        for row in rows:
            others = [one for one in rows if one is not row]
            found = [
                str(others[[o["id"] for o in others].index(i)]["label"])
                for i, _ in nearest(str(row["text"]), others, int(result.layer), 5)
            ]
            most = max(found.count(name) for name in found)
            first.append(next(name for name in found if found.count(name) == most))
        assert result.values["accuracy"] == pytest.approx(accuracy_score(truth, first))


def test_evaluation_on_a_test_set(index: Index, tmp_path: Path) -> None:
    index.add(corpus(30))
    path = tmp_path / "test.jsonl"
    path.write_text(
        '{"text": "word1 word2", "label": "l0"}\n{"text": "word3", "label": "unheard of"}\n'
    )
    evaluation = index.evaluate(LabelTask(test=path, k=1), layer="all")
    assert evaluation.classification is not None
    assert (evaluation.classification.method, evaluation.n) == (Method.TEST, 2)
    assert evaluation.classification.label_names == ("l0", "l1", "l2", "unheard of")
    for result in evaluation.scores:
        (first, _), *_ = nearest("word1 word2", corpus(30), int(result.layer), 1)
        is_right = corpus(30)[int(first[1:])]["label"] == "l0"
        assert result.values["accuracy"] == is_right / 2
    with pytest.raises(RowError, match="needs a label"):
        index.evaluate(LabelTask(test=[{"text": "no label"}]))
    with pytest.raises(RowError, match="text is blank"):
        index.evaluate(LabelTask(test=[{"text": " ", "label": "x"}]))


def test_evaluation_needs_labels(index: Index) -> None:
    index.add([{"id": str(i), "text": f"text {i}"} for i in range(5)])
    with pytest.raises(NoLabelsError, match="--label-field"):
        index.evaluate()
    index.add([{"id": str(i), "text": f"text {i}", "label": f"l{i % 2}"} for i in range(5)])
    assert index.evaluate(LabelTask(k=1)).n == 5
    assert index.evaluate(LabelTask(k=1, min_per_label=2)).n == 5
    with pytest.raises(NoLabelsError):
        index.evaluate(LabelTask(k=1, min_per_label=3))


def test_documents_are_returned_in_the_order_asked(index: Index) -> None:
    index.add(corpus(12))
    assert [d.id for d in index.get("d7", "d1", "d7")] == ["d7", "d1", "d7"]
    assert index.get() == []
    with pytest.raises(DocumentNotFoundError, match="'d99'"):
        index.get("d1", "d99")


def test_listing_takes_conditions(index: Index) -> None:
    index.add(corpus(20))
    found = [d.id for d in index.documents(where=["size>=4", "even=true"])]
    assert found == [f"d{i}" for i in range(4, 20, 2)]


def test_listing_stays_with_its_commit(index: Index) -> None:
    index.add(corpus(20))
    listing = index.documents()
    first = next(listing)
    index.delete("d5")
    index.compact()
    assert [first.id, *(d.id for d in listing)] == [f"d{i}" for i in range(20)]
    assert "d5" not in [d.id for d in index.documents()]


def test_more_documents_than_a_statement_binds_are_listed_whole(index: Index) -> None:
    rows = [{"id": f"d{i}", "text": f"text {i}", "n": i} for i in range(2_000)]
    wide = Index.create(
        index._open.store.path.with_name("wide"), model=WordEncoder(window=2_000), layers=0
    )
    wide.add(rows)
    assert [(d.id, d.text, d.metadata["n"]) for d in wide.documents()] == [
        (row["id"], row["text"], row["n"]) for row in rows
    ]
    assert len(first(wide.search("text", k=1_500))) == 1_500
    assert wide.add(rows).n_unchanged == 2_000
    assert wide.delete(*[f"d{i}" for i in range(0, 2_000, 2)]) == len(wide) == 1_000


def test_deletion_takes_all_or_none(index: Index) -> None:
    index.add(corpus(10))
    with pytest.raises(DocumentNotFoundError, match="'d99'"):
        index.delete("d1", "d99")
    assert len(index) == 10
    assert index.delete("d1", "d2", "d1") == 2
    assert [d.id for d in index.documents()] == ["d0", *(f"d{i}" for i in range(3, 10))]
    with pytest.raises(DocumentNotFoundError):
        index.delete("d1")
    with pytest.raises(DocumentNotFoundError):
        index.get("d1")
    assert all(hit.id not in {"d1", "d2"} for hit in first(index.search("word1", k=10)))


def test_deleted_document_can_come_back(index: Index) -> None:
    index.add(corpus(3))
    index.delete("d0")
    assert index.add(corpus(3)).n_new == 1
    assert [d.id for d in index.documents()] == ["d1", "d2", "d0"]


def test_info_counts_and_names(index: Index) -> None:
    empty = index.info()
    assert (empty.n_documents, empty.n_segments, empty.labels, empty.best_layer) == (0, 0, {}, None)
    index.add(corpus(20))
    index.add([{"id": "d0", "text": "changed", "label": "rare"}])
    index.delete("d1")
    info = index.info()
    assert (info.n_documents, info.n_dead, info.n_segments) == (19, 2, 4)
    assert (info.layers, info.encoder, info.path) == (
        (0, 1, 2, 3),
        WordEncoder().settings,
        index._open.store.path,
    )
    labels = [d.label for d in index.documents()]
    assert info.labels == {name: labels.count(name) for name in set(labels) if name is not None}
    counts = list(info.labels.values())
    assert counts == sorted(counts, reverse=True)
    assert info.size_bytes >= sum(p.stat().st_size for p in layer_paths(index._open.store.path))


@pytest.mark.parametrize(
    ("layers", "error"), [("9", LayerError), ("x", OptionError), ((), OptionError)]
)
def test_layers_to_keep_must_exist(
    tmp_path: Path, layers: LayerSelection, error: type[Exception]
) -> None:
    with pytest.raises(error):
        Index.create(tmp_path / "index", model=WordEncoder(), layers=layers)
    assert not (tmp_path / "index").exists()
