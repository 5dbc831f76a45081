"""Questions to an index: answers recomputed from the words' vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from layerdex import Index, LabelTask
from layerdex.choices import Keep, Weights
from layerdex.errors import (
    DocumentNotFoundError,
    FilterError,
    IndexMismatchError,
    LayerError,
    NoLabelsError,
    OptionError,
)
from layerdex.index import view
from layerdex.index.document_reader import DocumentReader
from layerdex.records import OnProgress
from layerdex.search.dedup import greedy
from layerdex.search.labels.label_issues import LabelIssues
from layerdex.search.results import Hit, Prediction
from tests.encoders import WordEncoder
from tests.index.expectations import Row, corpus, nearest, texts_of, vectors_of
from tests.results import by_layer, first, hits_by_layer

ROWS = corpus(60)
QUERY = "word1 word2 word3"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Sixty documents in eight segments; nothing here changes them."""
    made = Index.create(tmp_path_factory.mktemp("questions") / "index", model=WordEncoder())
    made.add(ROWS)
    return made


def _assert_hits(hits: Sequence[Hit], expected: list[tuple[str, float]]) -> None:
    assert [hit.id for hit in hits] == [identifier for identifier, _ in expected]
    assert [hit.rank for hit in hits] == list(range(1, len(expected) + 1))
    for hit, (identifier, similarity) in zip(hits, expected, strict=True):
        row = ROWS[int(identifier[1:])]
        assert hit.similarity == pytest.approx(similarity, abs=1e-3)
        assert (hit.text, hit.label) == (row["text"], row["label"])
        assert hit.metadata == {"even": row["even"], "size": row["size"]}


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
@pytest.mark.parametrize("k", [1, 10, 99])
def test_search_finds_the_nearest_at_each_layer(filled: Index, layer: int, k: int) -> None:
    _assert_hits(first(filled.search(QUERY, k=k, layer=layer)), nearest(QUERY, ROWS, layer, k))


@pytest.mark.parametrize(
    "ask",
    [
        lambda index, tell: index.search(QUERY, on_progress=tell),
        lambda index, tell: index.at(layer="all").search(QUERY, on_progress=tell),
        lambda index, tell: index.at(layer="all").search([QUERY] * 20, on_progress=tell),
        lambda index, tell: index.classify(QUERY, on_progress=tell),
        lambda index, tell: index.classify([QUERY] * 20, on_progress=tell),
        lambda index, tell: index.deduplicate(threshold=1, on_progress=tell),
    ],
    ids=["one text", "layers", "texts", "one label", "labels", "no duplicates"],
)
def test_progress_reaches_its_total_where_the_last_part_has_nothing_to_do(
    filled: Index, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Index, OnProgress], object]
) -> None:
    # The first part takes so little that it does not hide the last.
    monkeypatch.setattr(view, "_ENCODE_TEXT_NS", 1.0)
    monkeypatch.setattr(greedy, "READ_NS", 0.0)
    monkeypatch.setattr(greedy, "ENCODE_NS", 0.0)
    told: list[tuple[int, int | None]] = []
    ask(filled, lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1]
    assert told == sorted(told)


def test_layers_answer_differently(filled: Index) -> None:
    answers = {
        tuple(hit.id for hit in first(filled.search(QUERY, layer=layer))) for layer in range(4)
    }
    assert len(answers) == 4


def test_search_many_encodes_each_text_once_for_all_layers(filled: Index) -> None:
    encoder = WordEncoder()
    index = Index.open(filled._open.store.path, encoder=encoder)
    queries = [f"word{i} word{i + 1}" for i in range(20)]
    found = by_layer(index.search(queries, layer="0,2-3", k=5))
    assert encoder.encoded == queries
    assert list(found) == [0, 2, 3]
    for layer, answers in zip((0, 2, 3), found.values(), strict=True):
        assert len(answers) == 20
        for query, hits in zip(queries, answers, strict=True):
            _assert_hits(hits, nearest(query, ROWS, layer, 5))


def test_search_of_no_texts_has_no_answers(filled: Index) -> None:
    assert filled.search([], layer=1) == []
    assert filled.classify([], layer=1) == []


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ("even=true", lambda row: row["even"]),
        ("size<5", lambda row: row["size"] < 5),
        (["label=l1", "size>=30"], lambda row: row["label"] == "l1" and row["size"] >= 30),
        ("id in d3,d7,d50", lambda row: row["id"] in {"d3", "d7", "d50"}),
        ("size<0", lambda row: row["size"] < 0),
    ],
)
def test_condition_holds_before_neighbors_are_taken(
    filled: Index, where: str | list[str], kept: object
) -> None:
    assert callable(kept)
    matching = [row for row in ROWS if kept(row)]
    for layer in (0, 3):
        hits = first(filled.search(QUERY, k=5, layer=layer, where=where))
        assert len(hits) == min(5, len(matching))
        _assert_hits(hits, nearest(QUERY, matching, layer, 5))


def test_unknown_field_is_an_error_in_every_question(filled: Index) -> None:
    for ask in (
        lambda: first(filled.search(QUERY, where="siez=1")),
        lambda: hits_by_layer(filled.search_like("d1", where="siez=1")),
        lambda: filled.classify([QUERY], where="siez=1"),
        lambda: filled.evaluate(where="siez=1"),
        lambda: filled.deduplicate(where="siez=1"),
        lambda: list(filled.documents(where="siez=1")),
    ):
        with pytest.raises(FilterError, match="did you mean 'size'"):
            ask()


@pytest.mark.parametrize("floor", [-1.0, 0.2, 0.5, 0.99])
def test_minimum_similarity_cuts_the_rest(filled: Index, floor: float) -> None:
    expected = [one for one in nearest(QUERY, ROWS, 3, 60) if one[1] >= floor]
    _assert_hits(first(filled.search(QUERY, k=60, layer=3, min_similarity=floor)), expected)


@pytest.mark.parametrize("floor", [-1.1, 1.1, float("nan")])
def test_minimum_similarity_outside_its_range_is_an_error(filled: Index, floor: float) -> None:
    with pytest.raises(OptionError, match="between -1 and 1"):
        first(filled.search(QUERY, min_similarity=floor))


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_an_error_in_every_question(filled: Index, k: int) -> None:
    for ask in (
        lambda: first(filled.search(QUERY, k=k)),
        lambda: hits_by_layer(filled.search_like("d1", k=k)),
        lambda: filled.classify([QUERY], k=k),
        lambda: filled.evaluate(LabelTask(k=k)),
    ):
        with pytest.raises(OptionError, match=rf"at least 1, got {k}$"):
            ask()


@pytest.mark.parametrize("text", ["", " \n", "a\0b", "\ud800"])
def test_text_that_no_document_could_have_is_no_question(filled: Index, text: str) -> None:
    for ask in (lambda: first(filled.search(text)), lambda: filled.classify([text])):
        with pytest.raises(OptionError):
            ask()


def test_one_string_is_one_text(filled: Index) -> None:
    assert filled.classify("word1", layer=0) == filled.classify(["word1"], layer=0)
    assert filled.search("word1", layer=0) == filled.search(["word1"], layer=0)
    assert filled.search_like("d1", layer=0) == filled.search_like(["d1"], layer=0)


@pytest.mark.parametrize("k", [1, 5, 59, 60, 100])
def test_search_like_leaves_itself_out_and_still_gives_k(filled: Index, k: int) -> None:
    others = [row for row in ROWS if row["id"] != "d17"]
    found = hits_by_layer(filled.search_like("d17", layer="all", k=k))
    assert list(found) == [0, 1, 2, 3]
    for layer, hits in zip(range(4), found.values(), strict=True):
        assert len(hits) == min(k, 59)
        _assert_hits(hits, nearest(str(ROWS[17]["text"]), others, layer, k))


def test_search_like_gives_k_where_the_condition_leaves_itself_out(filled: Index) -> None:
    matching = [row for row in ROWS if row["size"] != 17]
    (hits,) = hits_by_layer(filled.search_like("d17", k=5, where="size!=17")).values()
    _assert_hits(hits, nearest(str(ROWS[17]["text"]), matching, 3, 5))


def test_search_like_needs_no_encoder(filled: Index) -> None:
    encoder = WordEncoder()
    index = Index.open(filled._open.store.path, encoder=encoder)
    assert len(hits_by_layer(index.search_like("d1"))[3]) == 10
    assert encoder.encoded == []
    with pytest.raises(DocumentNotFoundError, match="'d99'"):
        hits_by_layer(index.search_like("d99"))


def test_search_like_among_repeats_leaves_out_only_itself(index: Index) -> None:
    index.add([{"id": f"r{i}", "text": "the same"} for i in range(30)])
    (hits,) = hits_by_layer(index.search_like("r20", k=29)).values()
    assert [hit.id for hit in hits] == [f"r{i}" for i in range(30) if i != 20]
    assert {hit.similarity for hit in hits} == {1.0}
    (few,) = hits_by_layer(index.search_like("r20", k=3)).values()
    assert [hit.id for hit in few] == ["r0", "r1", "r2"]


@pytest.mark.parametrize("weights", list(Weights))
@pytest.mark.parametrize("layer", [0, 3])
def test_classification_is_scikit_learns(filled: Index, layer: int, weights: Weights) -> None:
    queries = [f"word{i} word{i + 7} word{i + 3}" for i in range(25)]
    theirs = KNeighborsClassifier(7, metric="cosine", algorithm="brute", weights=weights.value)
    theirs.fit(vectors_of(texts_of(ROWS), layer), [row["label"] for row in ROWS])
    shares = theirs.predict_proba(vectors_of(queries, layer))
    predictions = filled.classify(queries, k=7, layer=layer, weights=weights.value)
    n_clear = 0
    for query, prediction, share in zip(queries, predictions, shares, strict=True):
        assert (prediction.text, prediction.layer) == (query, layer)
        assert prediction.confidence == pytest.approx(share.max(), abs=1e-2)
        labelled_neighbors = [(voter.id, voter.label) for voter in prediction.neighbors]
        expected = [one for one, _ in nearest(query, ROWS, layer, 7)]
        assert labelled_neighbors == [(one, ROWS[int(one[1:])]["label"]) for one in expected]
        if np.diff(np.sort(share))[-1] > 0.05:
            n_clear += 1
            assert prediction.label == theirs.classes_[share.argmax()]
    assert n_clear >= 10


def test_only_labelled_documents_vote(index: Index) -> None:
    index.add([{"id": "near", "text": "one two three"}, {"id": "far", "text": "x", "label": "l"}])
    (prediction,) = index.classify(["one two three"], k=1)
    assert (prediction.label, [voter.id for voter in prediction.neighbors]) == ("l", ["far"])
    with pytest.raises(NoLabelsError, match="has a label"):
        index.classify(["one"], where="id=near")


def test_low_confidence_gives_no_label(filled: Index) -> None:
    (sure,) = filled.classify([QUERY], k=7)
    assert 0 < sure.confidence < 1
    assert sure.label is not None
    (at,) = filled.classify([QUERY], k=7, min_confidence=sure.confidence - 1e-5)
    (unsure,) = filled.classify([QUERY], k=7, min_confidence=sure.confidence + 1e-4)
    assert (at.label, unsure.label) == (sure.label, None)
    assert (unsure.confidence, unsure.neighbors) == (sure.confidence, sure.neighbors)
    with pytest.raises(OptionError, match="between 0 and 1"):
        filled.classify([QUERY], min_confidence=1.5)


def test_unknown_choices_are_errors_that_list_the_known(filled: Index) -> None:
    with pytest.raises(OptionError, match=r"uniform, distance"):
        filled.classify([QUERY], weights="cosine")
    with pytest.raises(OptionError, match=r"first, last, longest"):
        filled.deduplicate(keep="shortest")


def test_deduplication_names_ids_in_input_order(index: Index) -> None:
    rows: list[Row] = [
        {"id": "a", "text": "one two three four five six"},
        {"id": "b", "text": "wholly other words"},
        {"id": "c", "text": "one two three four five six"},
        {"id": "d", "text": "one two three four five seven"},
        {"id": "e", "text": "wholly other words here"},
    ]
    index.add(rows)
    similar = vectors_of(texts_of(rows), 3) @ vectors_of(texts_of(rows), 3).T
    threshold = float(min(similar[0, 3], similar[1, 4]) - 0.01)
    assert similar[0, 1] < threshold
    found = index.deduplicate(threshold=threshold)
    assert (found.layer, found.threshold, found.keep, found.n) == (3, threshold, Keep.FIRST, 5)
    assert found.kept == ("a", "b")
    assert [(r.id, r.kept, r.is_exact) for r in found.removed] == [
        ("c", "a", True),
        ("d", "a", False),
        ("e", "b", False),
    ]
    assert [r.similarity for r in found.removed] == pytest.approx(
        [1, similar[0, 3], similar[1, 4]], abs=1e-3
    )
    assert found.n_exact == 1
    assert {kept: [r.id for r in removed] for kept, removed in found.clusters.items()} == {
        "a": ["c", "d"],
        "b": ["e"],
    }
    assert index.deduplicate(threshold=threshold, keep="last").kept == ("d", "e")
    assert len(index) == 5


def test_deduplication_goes_by_input_order_not_by_row(index: Index) -> None:
    index.add([{"id": "a", "text": "something"}, {"id": "b", "text": "one two three"}])
    index.add([{"id": "a", "text": "one two three"}])
    assert index.deduplicate(threshold=1).kept == ("a",)
    assert index.deduplicate(threshold=1, keep="last").kept == ("b",)
    assert index.deduplicate(threshold=1, where="id=b").kept == ("b",)


def test_encoder_of_another_fingerprint_never_answers(filled: Index, tmp_path: Path) -> None:
    other = WordEncoder(fingerprint="other")
    index = Index.open(filled._open.store.path, encoder=other)
    for ask in (
        lambda: first(index.search(QUERY)),
        lambda: by_layer(index.search([QUERY], layer="all")),
        lambda: index.classify([QUERY]),
        lambda: index.evaluate(LabelTask(test=[{"text": "one", "label": "x"}])),
        lambda: index.add([{"id": "new", "text": "one"}]),
    ):
        with pytest.raises(IndexMismatchError, match=r"fingerprint words.*now has other"):
            ask()
    assert other.encoded == []
    assert len(index) == len(hits_by_layer(index.search_like("d1", k=100))[3]) + 1 == 60


@pytest.mark.parametrize("layer", [4, -5])
def test_missing_layer_is_an_error(filled: Index, layer: int) -> None:
    with pytest.raises(LayerError, match=f"layer {layer} does not exist"):
        first(filled.search(QUERY, layer=layer))


@pytest.mark.parametrize("k", ["3", 1.5, True, None])
def test_a_k_that_is_no_whole_number_is_refused(filled: Index, k: object) -> None:
    questions: list[Callable[..., object]] = [
        lambda **options: first(filled.search(QUERY, **options)),
        lambda **options: hits_by_layer(filled.search_like("d1", **options)),
        lambda **options: filled.evaluate(LabelTask(**options)),
    ]
    for ask in questions:
        with pytest.raises(OptionError, match="k must be a whole number"):
            ask(k=k)


@pytest.mark.parametrize("layer", ["1;2", 1.0, True])
def test_a_layer_that_is_no_whole_number_is_refused(filled: Index, layer: object) -> None:
    with pytest.raises(OptionError, match="layer"):
        first(filled.search(QUERY, layer=layer))  # type: ignore[arg-type]


@pytest.mark.parametrize("threshold", ["0.9", True, float("nan"), None])
def test_a_threshold_that_is_no_similarity_is_refused(filled: Index, threshold: object) -> None:
    with pytest.raises(OptionError, match="a similarity threshold must be between -1 and 1"):
        filled.deduplicate(threshold=threshold)  # type: ignore[arg-type]


def test_numbers_of_numpy_are_numbers(filled: Index) -> None:
    plain = first(filled.search(QUERY, k=3, layer=2))
    assert first(filled.search(QUERY, k=np.int64(3), layer=np.int32(2))) == plain  # type: ignore[arg-type]


def test_an_iterator_of_texts_is_read_once_and_answered(filled: Index) -> None:
    texts = ["word1 word2", "word3"]
    assert filled.classify(iter(texts)) == filled.classify(texts)
    found = by_layer(filled.search(iter(texts), layer=[2], k=2))
    assert found == by_layer(filled.search(texts, layer=[2], k=2))


def test_a_list_in_place_of_an_id_is_an_option_error(filled: Index) -> None:
    for ask in (filled.get, filled.delete):
        with pytest.raises(OptionError, match="an id is a string") as caught:
            ask([f"d{i}" for i in range(10_000)])  # type: ignore[arg-type]
        assert len(str(caught.value)) < 200
        assert str(caught.value).endswith("give several as separate arguments: *ids")


def test_what_neighbours_say_is_read_as_it_was_when_the_question_was_answered(
    tmp_path: Path,
) -> None:
    index = Index.create(tmp_path / "changing", model=WordEncoder())
    index.add(ROWS)
    texts = {str(row["id"]): row["text"] for row in ROWS}
    read_texts: dict[str, str] = {}

    def on_predictions(predictions: list[Prediction], read: DocumentReader) -> None:
        index.delete(predictions[0].neighbors[0].id)
        ids = [neighbor.id for neighbor in predictions[0].neighbors]
        read_texts.update({document.id: document.text for document in read(ids)})

    def on_issues(issues: LabelIssues, read: DocumentReader) -> None:
        ids = [neighbor.id for neighbor in issues.issues[0].neighbors]
        index.delete(ids[0])
        read_texts.update({document.id: document.text for document in read(ids)})

    [prediction] = index.at().classify([QUERY], on_result=on_predictions)
    shown = [neighbor.id for neighbor in prediction.neighbors]
    assert read_texts == {identifier: texts[identifier] for identifier in shown}
    read_texts.clear()
    issue = index.at(layer="all").find_label_issues(k=5, on_result=on_issues).issues[0]
    shown = [neighbor.id for neighbor in issue.neighbors]
    assert read_texts == {identifier: texts[identifier] for identifier in shown}
    assert len(index) == len(ROWS) - 2
