"""Evaluation: a NumPy loop over the stored vectors gives the same figures."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, classification_report, f1_score
from sklearn.model_selection import StratifiedGroupKFold

from layerdex.choices import Fuse, Weights
from layerdex.errors import NoLabelsError, OptionError
from layerdex.records import Vectors
from layerdex.search.evaluation.classification import (
    evaluate_leave_one_out,
    evaluate_on_folds,
    evaluate_on_test,
)
from layerdex.search.evaluation.evaluation import Classification, Evaluation, Method, Subject
from layerdex.search.evaluation.vote_scores import VotingOptions
from layerdex.search.knn.vector_space import VectorSpace, layer_spaces
from layerdex.search.targets import SearchTarget
from layerdex.storage.store import Store
from tests.search.brute_force import cosines, read_live
from tests.search.stores import add, create, unit_codes

_WIDTH = 8
_KS = [5, 1, 12]


def _predict(
    similarities: NDArray[np.float64], labels: list[str], k: int, weights: Weights
) -> str | None:
    """The vote of the k most similar, by the book."""
    nearest = np.argsort(-np.round(similarities, 5), kind="stable")[:k]
    distances = {int(i): 1 - similarities[i] for i in nearest}
    exact = [i for i in distances if distances[i] < 1e-6]
    votes: dict[str, float] = defaultdict(float)
    for i, distance in distances.items():
        if weights is Weights.UNIFORM:
            votes[labels[i]] += 1
        elif exact:
            votes[labels[i]] += i in exact
        else:
            votes[labels[i]] += 1 / distance
    most = max(votes.values(), default=0)
    return next((name for name, n in votes.items() if n >= most * (1 - 1e-9)), None)


def _leave_one_out(
    codes: NDArray[np.float16], texts: list[str], labels: list[str], k: int, weights: Weights
) -> list[str | None]:
    predicted = []
    for i, true in enumerate(cosines(codes, codes)):
        others = [j for j in range(len(texts)) if texts[j] != texts[i]]
        predicted.append(_predict(true[others], [labels[j] for j in others], k, weights))
    return predicted


def _corpus(
    store: Store, n: int, *, repeats: dict[int, int], seed: int = 0
) -> tuple[list[str], list[str | None]]:
    """Add n documents over several layers, some without label, some the same text as another."""
    random = np.random.default_rng(seed)
    n_layers = len(store.layers)
    labels: list[str | None] = [f"label{i}" for i in random.integers(4, size=n)]
    centers = random.standard_normal((4, _WIDTH))
    at = [int(str(label)[-1]) for label in labels]
    noise = (
        random.standard_normal((n_layers, n, _WIDTH)) * np.linspace(2.5, 1, n_layers)[:, None, None]
    )
    vectors = unit_codes(centers[at] + noise)
    texts = [f"text {i}" for i in range(n)]
    start = n // 2
    for original, n_repeats in repeats.items():
        for i in range(start, start + n_repeats):
            # The vectors of repeats from other windows may differ in the last bit.
            vectors[:, i] = vectors[:, original]
            texts[i] = texts[original]
        start += n_repeats
    labels[3] = labels[n - 1] = None
    for part in np.array_split(np.arange(n), 3):
        add(
            store,
            vectors[:, part],
            texts=[texts[i] for i in part],
            labels=[labels[i] for i in part],
        )
    return texts, labels


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return create(tmp_path / "index", width=_WIDTH, n_layers=3)


def _evaluate(
    store: Store, ks: list[int], weights: Weights = Weights.DISTANCE, *, min_per_label: int = 1
) -> Evaluation:
    return store.query(
        lambda snapshot: evaluate_leave_one_out(
            snapshot.layer,
            snapshot.document_table(labelled=True).with_frequent_labels(min_per_label),
            VotingOptions(tuple(ks), (weights,), n_resamples=0),
            spaces=layer_spaces(store.layers),
        )
    )


def _details(evaluation: Evaluation) -> Classification:
    assert evaluation.subject is Subject.LABELS
    assert evaluation.classification is not None
    return evaluation.classification


def _names(evaluation: Evaluation, codes: NDArray[np.int64] | None) -> list[str | None]:
    assert codes is not None
    names = _details(evaluation).label_names
    return [None if code < 0 else names[code] for code in codes]


@pytest.mark.parametrize("weights", list(Weights))
@pytest.mark.parametrize("repeats", [{}, {0: 2, 5: 1}, {1: 40, 2: 9}], ids=str)
def test_leave_one_out_is_a_loop_over_the_other_texts(
    store: Store, weights: Weights, repeats: dict[int, int]
) -> None:
    texts, labels = _corpus(store, 150, repeats=repeats)
    evaluation = _evaluate(store, _KS, weights)
    at = [i for i, label in enumerate(labels) if label is not None]
    true = [str(labels[i]) for i in at]
    assert (_details(evaluation).method, evaluation.n) == (Method.LEAVE_ONE_OUT, 148)
    assert _names(evaluation, _details(evaluation).true) == true
    assert [(one.layer, one.k) for one in evaluation.scores] == [
        (layer, k) for layer in store.layers for k in _KS
    ]
    for scores in evaluation.scores:
        codes = read_live(store.path, int(scores.layer))[1][at]
        assert scores.k is not None
        expected = _leave_one_out(codes, [texts[i] for i in at], true, scores.k, weights)
        assert _names(evaluation, scores.predicted) == expected
        assert scores.values["accuracy"] == pytest.approx(accuracy_score(true, expected))
        assert scores.values["macro_f1"] == pytest.approx(
            f1_score(true, expected, average="macro", zero_division=0)
        )
    first = [evaluation.at(layer, _KS[0]).values["macro_f1"] for layer in store.layers]
    assert evaluation.best_layer == int(np.argmax(first))


def test_repeats_of_the_held_out_text_never_vote(store: Store) -> None:
    # Each text is there thirty times; whoever let repeats vote would be right every time.
    random = np.random.default_rng(2)
    centers = np.repeat(unit_codes(random.standard_normal((3, 6, _WIDTH))), 30, axis=1)
    texts = [f"text {i // 30}" for i in range(180)]
    add(store, centers, texts=texts, labels=[f"label {text}" for text in texts])
    for scores in _evaluate(store, [1, 5, 60]).scores:
        assert scores.values["accuracy"] == 0
        assert scores.predicted is not None
        assert (scores.predicted >= 0).all()


def test_document_without_any_other_text_is_predicted_nothing(store: Store) -> None:
    codes = unit_codes(np.random.default_rng(0).standard_normal((3, 4, _WIDTH)))
    add(store, codes, texts=["same"] * 4, labels=["a", "a", "b", "b"])
    evaluation = _evaluate(store, [1, 3])
    for scores in evaluation.scores:
        assert (scores.values["accuracy"], scores.values["macro_f1"]) == (0, 0)
        assert scores.predicted is not None
        assert (scores.predicted == -1).all()
    assert evaluation.report(0, 1)


def test_more_neighbors_than_documents_are_all_of_them(store: Store) -> None:
    texts, labels = _corpus(store, 20, repeats={0: 3})
    at = [i for i, label in enumerate(labels) if label is not None]
    evaluation = _evaluate(store, [1_000])
    codes = read_live(store.path, 1)[1][at]
    true = [str(labels[i]) for i in at]
    expected = _leave_one_out(codes, [texts[i] for i in at], true, 1_000, Weights.DISTANCE)
    assert _names(evaluation, evaluation.at(1, 1_000).predicted) == expected


def test_tie_of_the_best_layers_goes_to_the_shallower(store: Store) -> None:
    random = np.random.default_rng(0)
    bad = unit_codes(random.standard_normal((1, 40, _WIDTH)))
    good = unit_codes(np.repeat(np.eye(2, _WIDTH), 20, axis=0) + 0.01 * random.random((40, _WIDTH)))
    add(store, np.stack([bad[0], good, good]), labels=["a"] * 20 + ["b"] * 20)
    evaluation = _evaluate(store, [3])
    assert evaluation.at(1, 3).values["macro_f1"] == evaluation.at(2, 3).values["macro_f1"] == 1
    assert evaluation.best_layer == 1


def test_best_layer_is_judged_at_the_first_k(store: Store) -> None:
    random = np.random.default_rng(4)
    centers = np.repeat(np.eye(4, _WIDTH), 25, axis=0)
    labels = [f"label{i // 25}" for i in range(100)]
    add(store, unit_codes(centers + 0.5 * random.standard_normal((3, 100, _WIDTH))), labels=labels)
    all_scores = _evaluate(store, list(range(1, 20))).scores
    by_k = {
        k: max(
            (scores for scores in all_scores if scores.k == k),
            key=lambda scores: (scores.values["macro_f1"], -int(scores.layer)),
        ).layer
        for k in range(1, 20)
    }
    first, other = next((a, b) for a in by_k for b in by_k if by_k[a] != by_k[b])
    assert _evaluate(store, [first, other]).best_layer == by_k[first]
    assert _evaluate(store, [other, first]).best_layer == by_k[other]


@pytest.mark.parametrize("labels", [[None] * 6, ["a"] * 6, ["a", None, None, None, None, None]])
def test_fewer_than_two_labels_are_an_error(store: Store, labels: list[str | None]) -> None:
    add(store, unit_codes(np.random.default_rng(0).standard_normal((3, 6, _WIDTH))), labels=labels)
    with pytest.raises(NoLabelsError, match="at least two labels"):
        _evaluate(store, [3])


def test_rare_labels_are_left_out(store: Store) -> None:
    vectors = unit_codes(np.random.default_rng(0).standard_normal((3, 30, _WIDTH)))
    labels = ["a"] * 14 + ["b"] * 10 + ["c"] * 4 + ["d"] * 2
    add(store, vectors, labels=labels)
    for least, names in [(1, "abcd"), (2, "abcd"), (3, "abc"), (4, "abc"), (5, "ab")]:
        evaluation = _evaluate(store, [3], min_per_label=least)
        assert _details(evaluation).label_names == tuple(names)
        assert evaluation.n == sum(label in names for label in labels)
    codes = read_live(store.path, 2)[1][:24]
    expected = _leave_one_out(codes, [str(i) for i in range(24)], labels[:24], 3, Weights.DISTANCE)
    assert _names(evaluation, evaluation.at(2, 3).predicted) == expected
    with pytest.raises(NoLabelsError):
        _evaluate(store, [3], min_per_label=11)


@pytest.mark.parametrize("ks", [[], [0], [5, 0], [-1]])
def test_k_below_one_is_an_error(store: Store, ks: list[int]) -> None:
    _corpus(store, 12, repeats={})
    with pytest.raises(OptionError, match=r"at least (1|one k)"):
        _evaluate(store, ks)


def _on_test(store: Store, vectors: dict[int, Vectors], labels: list[str], k: int) -> Evaluation:
    return store.query(
        lambda snapshot: evaluate_on_test(
            snapshot.layer,
            snapshot.document_table(labelled=True),
            VotingOptions((k,), n_resamples=0),
            vectors=vectors,
            test_labels=labels,
            spaces=layer_spaces(vectors),
        )
    )


def _test_set(n: int) -> dict[int, Vectors]:
    random = np.random.default_rng(7)
    return {layer: random.standard_normal((n, _WIDTH)).astype(np.float32) for layer in (0, 2)}


def test_test_set_is_classified_by_all_labelled_documents(store: Store) -> None:
    _, labels = _corpus(store, 120, repeats={0: 4})
    at = [i for i, label in enumerate(labels) if label is not None]
    vectors = _test_set(60)
    true = [f"label{i % 4}" for i in range(50)] + ["unheard of"] * 10
    evaluation = _on_test(store, vectors, true, 7)
    assert (_details(evaluation).method, evaluation.n) == (Method.TEST, 60)
    assert [one.layer for one in evaluation.scores] == [0, 2]
    assert _names(evaluation, _details(evaluation).true) == true
    for scores in evaluation.scores:
        similarities = cosines(
            vectors[int(scores.layer)], read_live(store.path, int(scores.layer))[1][at]
        )
        names = [str(labels[i]) for i in at]
        expected = [_predict(one, names, 7, Weights.DISTANCE) for one in similarities]
        assert _names(evaluation, scores.predicted) == expected
        assert scores.values["accuracy"] == pytest.approx(accuracy_score(true, expected))
        assert scores.values["macro_f1"] == pytest.approx(
            f1_score(true, expected, average="macro", zero_division=0)
        )


def test_test_set_of_unknown_labels_only_is_an_error(store: Store) -> None:
    _corpus(store, 30, repeats={})
    with pytest.raises(NoLabelsError, match="the index has label0, label1"):
        _on_test(store, _test_set(8), ["unheard of"] * 8, 3)


def test_test_without_voters_or_without_texts_is_an_error(store: Store) -> None:
    with pytest.raises(NoLabelsError):
        _on_test(store, _test_set(2), ["a", "b"], 3)
    _corpus(store, 30, repeats={})
    with pytest.raises(NoLabelsError):
        _on_test(store, _test_set(0), [], 3)


def test_report_is_scikit_learns(store: Store) -> None:
    texts, labels = _corpus(store, 80, repeats={})
    at = [i for i, label in enumerate(labels) if label is not None]
    true = [str(labels[i]) for i in at]
    codes = read_live(store.path, 2)[1][at]
    expected = _leave_one_out(codes, [texts[i] for i in at], true, 5, Weights.DISTANCE)
    report = _evaluate(store, [1, 5]).report(2, 5)
    assert report == classification_report(true, expected, zero_division=0)
    assert all(name in report for name in ("label0", "label3", "precision", "macro avg"))


def test_progress_ends_at_its_total(store: Store) -> None:
    _corpus(store, 50, repeats={0: 9})
    steps: list[tuple[int, int | None]] = []
    store.query(
        lambda snapshot: evaluate_leave_one_out(
            snapshot.layer,
            snapshot.document_table(labelled=True),
            VotingOptions((3,), (Weights.UNIFORM,)),
            spaces=layer_spaces([0, 2]),
            on_progress=lambda done, total: steps.append((done, total)),
        )
    )
    assert steps[-1] == (96, 96)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)


def _on_folds(store: Store, n_folds: int, *layers: int) -> Evaluation:
    return store.query(
        lambda snapshot: evaluate_on_folds(
            snapshot.layer,
            snapshot.document_table(labelled=True),
            VotingOptions((3,), n_resamples=0),
            n_folds=n_folds,
            spaces=layer_spaces(layers),
        )
    )


def test_a_fold_is_classified_by_the_others_and_repeats_are_in_one(store: Store) -> None:
    texts, labels = _corpus(store, 90, repeats={0: 4, 7: 2})
    at = [i for i, label in enumerate(labels) if label is not None]
    names = [str(labels[i]) for i in at]
    codes = np.unique(names, return_inverse=True)[1]
    numbers: dict[str, int] = {}
    groups = np.array([numbers.setdefault(texts[i], len(numbers)) for i in at])
    folds = list(StratifiedGroupKFold(4, shuffle=True, random_state=0).split(codes, codes, groups))
    evaluation = _on_folds(store, 4, 0, 2)
    details = _details(evaluation)
    assert (details.method, evaluation.n, details.n_folds) == (Method.FOLDS, len(at), 4)
    for layer in (0, 2):
        stored = read_live(store.path, layer)[1][at]
        expected: list[str | None] = [None] * len(at)
        for train, test in folds:
            for i, one in zip(test, cosines(stored[test], stored[train]), strict=True):
                expected[i] = _predict(one, [names[j] for j in train], 3, Weights.DISTANCE)
        assert _names(evaluation, evaluation.at(layer, 3).predicted) == expected


@pytest.mark.parametrize("n_folds", [0, 1, 40])
def test_impossible_folds_are_an_error(store: Store, n_folds: int) -> None:
    _corpus(store, 30, repeats={})
    with pytest.raises(OptionError, match="folds"):
        _on_folds(store, n_folds, 0)


def test_fused_layers_are_evaluated_and_are_never_the_best_layer(store: Store) -> None:
    _, labels = _corpus(store, 90, repeats={})
    fused_space = VectorSpace(SearchTarget((0, 2), Fuse.CONCAT, (1.0, 2.0)))
    evaluation = store.query(
        lambda snapshot: evaluate_leave_one_out(
            snapshot.layer,
            snapshot.document_table(labelled=True),
            VotingOptions((5,)),
            spaces=(*layer_spaces([0]), fused_space),
        )
    )
    at = [i for i, label in enumerate(labels) if label is not None]
    left, right = (read_live(store.path, layer)[1][at] for layer in (0, 2))
    fused = (cosines(left, left) + 4 * cosines(right, right)) / 5
    predicted = []
    for i, one in enumerate(fused):
        others = [j for j in range(len(at)) if j != i]
        labelled_neighbors = [str(labels[at[j]]) for j in others]
        predicted.append(_predict(one[others], labelled_neighbors, 5, Weights.DISTANCE))
    assert evaluation.layers == (0, "concat(0:1,2:2)")
    scores = evaluation.at("concat(0:1,2:2)", 5)
    pairs = zip(_names(evaluation, scores.predicted), predicted, strict=True)
    agreement = np.mean([ours == theirs for ours, theirs in pairs])
    assert agreement > 0.97  # ties in the fifth decimal may fall the other way
    assert evaluation.best_layer == 0
    assert scores.values["macro_f1"] > evaluation.best.values["macro_f1"]  # or this shows nothing


def test_the_frugal_layer_is_the_shallowest_not_measurably_worse(store: Store) -> None:
    _corpus(store, 150, repeats={})
    evaluation = store.query(
        lambda snapshot: evaluate_leave_one_out(
            snapshot.layer,
            snapshot.document_table(labelled=True),
            VotingOptions((5,)),
            spaces=layer_spaces([0, 1, 2]),
        )
    )
    frugal, best = evaluation.frugal, evaluation.best
    assert frugal is not None
    n, random = evaluation.n, np.random.default_rng(1)
    names = [_names(evaluation, evaluation.at(layer, 5).predicted) for layer in (0, 1, 2)]
    true = np.array(_names(evaluation, _details(evaluation).true))
    worse = {}
    for layer in (0, 1, 2):
        lost = []
        for _ in range(60):
            drawn = random.integers(n, size=n)
            figures = [
                f1_score(true[drawn], np.array(names[one])[drawn], average="macro")
                for one in (evaluation.best_layer, layer)
            ]
            lost.append(figures[0] - figures[1])
        worse[layer] = np.quantile(lost, 0.025)
    assert frugal.layer == min(layer for layer, low in worse.items() if low <= 0)
    of_frugal = evaluation.at(frugal.layer, 5)
    assert frugal.loss == best.values["macro_f1"] - of_frugal.values["macro_f1"]
    assert frugal.disk_share == pytest.approx(1 / 3)
    assert frugal.encoding_share == frugal.layer / 2


def test_more_folds_than_any_label_has_documents_are_an_error(store: Store) -> None:
    vectors = unit_codes(np.random.default_rng(0).standard_normal((3, 20, _WIDTH)))
    add(store, vectors, labels=[f"label{i % 10}" for i in range(20)])
    with pytest.raises(OptionError, match="most frequent has 2"):
        _on_folds(store, 3, 0)
    assert _on_folds(store, 2, 0).n == 20
