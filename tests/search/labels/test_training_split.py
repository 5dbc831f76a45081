"""What is trained on, held out and left out."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from layerdex.errors import NoLabelsError
from layerdex.records import Vectors
from layerdex.search.labels.training_split import LabelledTexts, TrainingSplit, make_training_split
from layerdex.search.vectors.in_memory import InMemoryVectors
from layerdex.storage.snapshot import DocumentTable

N = 60


def table(n: int = N) -> DocumentTable:
    return DocumentTable(
        rows=np.arange(n) * 2 + 5,
        ids=[f"d{i}" for i in range(n)],
        labels=["ab"[i % 2] for i in range(n)],
        ordinals=np.arange(n),
        n_characters=np.full(n, 3),
        unreadable=np.zeros(n, dtype=np.bool_),
        content_groups=np.arange(n) // 3,  # texts of three documents each
        content_hashes=[bytes([i // 3]) for i in range(n)],
    )


def lesson(exam: LabelledTexts | None = None) -> TrainingSplit:
    return make_training_split(table(), [f"t{i // 3}" for i in range(N)], n_folds=5, test=exam)


def vectors(n: int, *, seed: int) -> Vectors:
    found = np.random.default_rng(seed).normal(size=(n, 4))
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), dtype=np.float32)


def test_no_text_is_on_both_sides_and_the_tests_on_neither() -> None:
    plain = lesson()
    assert sorted([*plain.training, *plain.held_out]) == list(range(N))
    assert len(plain.held_out) == N / 5
    assert not set(plain.training // 3) & set(plain.held_out // 3)
    asked = lesson(LabelledTexts(["t4", "t17", "new"], ["a", "b", "a"]))
    assert asked.n_left_out == 6
    assert not {4, 17} & {*(asked.training // 3).tolist(), *(asked.held_out // 3).tolist()}


def test_the_judge_is_scikit_learns_vote() -> None:
    one = lesson()
    training, held_out = vectors(len(one.training), seed=1), vectors(len(one.held_out), seed=2)
    voter = KNeighborsClassifier(10, weights="distance", metric="cosine")
    voter.fit(training, one.codes[one.training])
    expected = voter.score(held_out, one.codes[one.held_out])
    assert one.judge(training, held_out) == expected
    assert 0 < expected < 1


def test_means_are_of_training_texts_alone() -> None:
    one, stored = lesson(), vectors(N, seed=3)
    found = one.label_means(InMemoryVectors(one.table.rows, stored))
    for label in (0, 1):
        chosen = [i for i in one.training if i % 2 == label]
        mean = stored[chosen].mean(axis=0)
        np.testing.assert_allclose(found[label], mean / np.linalg.norm(mean), atol=1e-5)


def test_held_out_documents_are_measured_by_the_training_ones() -> None:
    one, stored = lesson(), vectors(N, seed=4)
    voter = KNeighborsClassifier(10, weights="distance", metric="cosine")
    voter.fit(stored[one.training], one.codes[one.training])
    expected = voter.score(stored[one.held_out], one.codes[one.held_out])
    [result] = one.evaluate(one.sources({2: stored}), {}, [2]).scores
    assert (result.layer, result.values["accuracy"]) == (2, expected)


def test_a_test_set_is_measured_by_all_documents() -> None:
    exam = LabelledTexts(["t1", "x", "y", "z"], ["a", "b", "a", "b"])
    one, stored, asked = lesson(exam), vectors(N, seed=5), vectors(4, seed=6)
    voter = KNeighborsClassifier(10, weights="distance", metric="cosine").fit(stored, one.codes)
    [result] = one.evaluate(one.sources({0: stored}), {0: asked}, [0]).scores
    assert result.values["accuracy"] == voter.score(asked, [0, 1, 0, 1])


def test_a_test_set_of_all_texts_leaves_nothing_to_train_on() -> None:
    texts = [f"t{i}" for i in range(N // 3)]
    with pytest.raises(NoLabelsError, match="0 documents remain to train on"):
        lesson(LabelledTexts(texts, ["a"] * len(texts)))
