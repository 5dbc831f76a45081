"""Two indexes compared: their evaluations side by side, on resamples that are paired."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score

from layerdex.errors import OptionError
from layerdex.search.evaluation.classification import evaluate_leave_one_out, evaluate_on_folds
from layerdex.search.evaluation.comparison import compare_evaluations, match_documents
from layerdex.search.evaluation.evaluation import Evaluation
from layerdex.search.evaluation.metrics import interval
from layerdex.search.evaluation.paired_labels import Side, evaluate_both
from layerdex.search.evaluation.sentence_pairs import PairJudgements, evaluate_pairs
from layerdex.search.evaluation.vote_scores import VotingOptions
from layerdex.search.knn.vector_space import layer_spaces
from layerdex.search.targets import SearchTarget
from layerdex.storage.store import Store
from tests.search.stores import add, create, unit_codes

_WIDTH, _N, _N_RESAMPLES = 6, 90, 40
_RANDOM = np.random.default_rng(1)
_LABELS = _RANDOM.integers(3, size=_N)
_NOISE = np.array([2.0, 1.2])[:, None, None]
_VECTORS = np.eye(3, _WIDTH)[_LABELS] + _NOISE * _RANDOM.standard_normal((2, _N, _WIDTH))
_OPTIONS = VotingOptions((5, 1), n_resamples=_N_RESAMPLES)


def fill(path: Path, vectors: NDArray[np.float64]) -> Store:
    store = create(path, width=_WIDTH, n_layers=2)
    add(store, unit_codes(vectors), labels=[f"label{label}" for label in _LABELS])
    return store


def evaluate_sides(
    first: Store, second: Store, n_folds: int | None
) -> tuple[Evaluation, Evaluation]:
    """Evaluate two indexes, the second with the same documents from last to first."""
    spaces = layer_spaces([0, 1])
    with first.read() as one, second.read() as other:
        table = other.document_table()
        reversed_ids = replace(table, ids=table.ids[::-1])
        return evaluate_both(
            Side(one.layer, one.document_table(), spaces),
            Side(other.layer, reversed_ids, spaces),
            _OPTIONS,
            n_folds=n_folds,
        )


@pytest.mark.parametrize("n_folds", [None, 3])
def test_resamples_are_paired_whatever_the_order_of_the_second(
    tmp_path: Path, n_folds: int | None
) -> None:
    first = fill(tmp_path / "first", _VECTORS)
    second = create(tmp_path / "second", width=_WIDTH, n_layers=2)
    labels = [f"label{label}" for label in _LABELS[::-1]]
    add(second, unit_codes(_VECTORS[:, ::-1]), labels=labels)
    one, other = evaluate_sides(first, second, n_folds)
    for layer in (0, 1):
        assert one.at(layer).values == other.at(layer).values
        np.testing.assert_array_equal(one.at(layer).predicted, other.at(layer).predicted)
        np.testing.assert_array_equal(one.resampled[layer], other.resampled[layer])
    comparison = compare_evaluations(one, other, n_documents=_N)
    for difference in comparison.differences:
        assert set(difference.values.values()) == {0}
        assert {(each.low, each.high) for each in difference.intervals.values()} == {(0, 0)}


def test_each_side_is_what_an_evaluation_alone_gives(tmp_path: Path) -> None:
    store = fill(tmp_path / "index", _VECTORS)
    for n_folds in (None, 3):
        with store.read() as snapshot:
            table, options = snapshot.document_table(), replace(_OPTIONS, ks=(5,))
            side = Side(snapshot.layer, table, layer_spaces([1]))
            both = evaluate_both(side, side, _OPTIONS, n_folds=n_folds)
            if n_folds is None:
                alone = evaluate_leave_one_out(
                    snapshot.layer, table, options, spaces=layer_spaces([1])
                )
            else:
                alone = evaluate_on_folds(
                    snapshot.layer, table, options, n_folds=n_folds, spaces=layer_spaces([1])
                )
        for evaluation in both:
            assert evaluation.best.values == alone.best.values
            assert evaluation.best.intervals == alone.best.intervals
            assert evaluation.ks == (5,)


def test_a_difference_is_the_second_minus_the_first(tmp_path: Path) -> None:
    better = _VECTORS + 1.5 * np.eye(3, _WIDTH)[_LABELS]
    stores = fill(tmp_path / "first", _VECTORS), fill(tmp_path / "second", better)
    evaluations = []
    for store in stores:
        with store.read() as snapshot:
            evaluation = evaluate_leave_one_out(
                snapshot.layer, snapshot.document_table(), _OPTIONS, spaces=layer_spaces([0, 1])
            )
        evaluations.append(evaluation)
    comparison = compare_evaluations(*evaluations, n_documents=_N)
    assert [each.first for each in comparison.differences] == [
        SearchTarget((0,)),
        SearchTarget((1,)),
    ]
    for layer, difference in enumerate(comparison.differences):
        codes = [evaluation.label_codes(layer) for evaluation in evaluations]
        accuracies = [accuracy_score(true, predicted) for true, predicted in codes]
        assert difference.values["accuracy"] == pytest.approx(accuracies[1] - accuracies[0])
        random, drawn = np.random.default_rng(0), []
        for _ in range(_N_RESAMPLES):
            at = random.integers(_N, size=_N)
            hits = [np.mean(true[at] == predicted[at]) for true, predicted in codes]
            drawn.append(hits[1] - hits[0])
        expected = interval(np.array(drawn))
        found = difference.intervals["accuracy"]
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
        assert found.low > 0


def test_evaluations_of_other_questions_are_not_compared(tmp_path: Path) -> None:
    store = fill(tmp_path / "index", _VECTORS)

    def evaluate(layer: int, n: int) -> Evaluation:
        with store.read() as snapshot:
            table = snapshot.document_table().take(range(n))
            return evaluate_leave_one_out(
                snapshot.layer, table, _OPTIONS, spaces=layer_spaces([layer])
            )

    vectors = {0: unit_codes(_VECTORS[0]).astype(np.float32)}
    judged = PairJudgements(np.arange(float(_N)), are_labels=False)
    sides = (vectors, {0: vectors[0][::-1]})
    pairs = evaluate_pairs(sides, judged, spaces=layer_spaces([0]), n_resamples=0)
    for other, reason in (
        (pairs, "different metrics"),
        (evaluate(0, 60), "different numbers of labels"),
        (evaluate(1, _N), "no layer in common"),
    ):
        with pytest.raises(OptionError, match=reason):
            compare_evaluations(evaluate(0, _N), other, n_documents=_N)
    with pytest.raises(OptionError, match=r"no labels were predicted: .* pairs"):
        pairs.report(0)


def test_documents_are_matched_by_id_and_changed_ones_are_left_out(tmp_path: Path) -> None:
    stores = [create(tmp_path / name, width=_WIDTH) for name in "ab"]
    add(stores[0], unit_codes(np.eye(4, _WIDTH) + 1), texts=["w", "x", "y", "z"], labels=[*"pqrs"])
    add(stores[1], unit_codes(np.eye(3, _WIDTH) + 1), texts=["w", "x", "other"], labels=[*"pPr"])
    tables = [store.query(lambda snapshot: snapshot.document_table()) for store in stores]
    by_text = match_documents(*tables, by_label=False)
    assert (by_text.first.ids, by_text.second.ids) == (["d0", "d1"], ["d0", "d1"])
    assert (by_text.n_only, by_text.n_changed) == ((1, 0), 1)
    by_label = match_documents(*tables, by_label=True)
    assert (by_label.first.ids, by_label.n_only, by_label.n_changed) == (["d0"], (1, 0), 2)
    with pytest.raises(OptionError, match="no document in common"):
        match_documents(tables[0].take([3]), tables[1], by_label=False)
