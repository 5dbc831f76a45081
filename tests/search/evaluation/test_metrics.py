"""Figures and their intervals, against scikit-learn and against what an interval promises."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score

from layerdex.search.evaluation.metrics import LABEL_METRICS, interval, resample, score

ACCURACY = LABEL_METRICS.index("accuracy")


def predictions(n: int, right: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return true codes of five labels, and predictions that are right at a rate."""
    random = np.random.default_rng(seed)
    true = random.choice(5, size=n, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    guessed = random.integers(-1, 6, size=n)  # -1 is no label, 5 is never true
    return true, np.where(random.random(n) < right, true, guessed)


def test_figures_are_scikit_learns() -> None:
    true, predicted = predictions(300, 0.6, seed=0)
    found = score(true, predicted)
    names = {"average": "macro", "labels": [0, 1, 2, 3, 4, 5], "zero_division": 0}
    assert found["accuracy"] == pytest.approx(accuracy_score(true, predicted))
    assert found["macro_f1"] == pytest.approx(f1_score(true, predicted, **names))
    names["average"] = "weighted"
    assert found["weighted_f1"] == pytest.approx(f1_score(true, predicted, **names))


def test_each_resample_is_scored_as_scikit_learn_scores_the_drawn_documents() -> None:
    true, first = predictions(80, 0.7, seed=1)
    _, second = predictions(80, 0.3, seed=2)
    found = resample(true, [first, second], n_resamples=20, seed=5)
    assert found.shape == (2, len(LABEL_METRICS), 20)
    random = np.random.default_rng(5)
    for i in range(20):
        drawn = random.integers(80, size=80)
        for j, predicted in enumerate((first, second)):
            some, guesses = true[drawn], predicted[drawn]
            labels = sorted(set(some) | set(guesses) - {-1})
            macro, weighted = (
                f1_score(some, guesses, labels=labels, average=average, zero_division=0)
                for average in ("macro", "weighted")
            )
            expected = [macro, accuracy_score(some, guesses), weighted]
            np.testing.assert_allclose(found[j, :, i], expected)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    # The rate of right predictions is 0.6 + 0.4 / 7 of lucky guesses: all labels are as lucky.
    truth, covered = 0.6 + 0.4 / 7, 0
    for seed in range(200):
        true, predicted = predictions(150, 0.6, seed=seed)
        found = interval(resample(true, [predicted], n_resamples=300)[0, ACCURACY])
        covered += found.low <= truth <= found.high
    assert 0.89 <= covered / 200 <= 0.99


def test_a_paired_difference_is_surer_than_two_intervals() -> None:
    true, better = predictions(400, 0.8, seed=3)
    worse = better.copy()
    worse[:24] = (true[:24] + 1) % 5
    of_better, of_worse = resample(true, [better, worse], n_resamples=500)[:, ACCURACY]
    assert interval(of_worse).high > interval(of_better).low
    assert not interval(of_better - of_worse).includes_zero
    assert interval(of_better - of_better).includes_zero
