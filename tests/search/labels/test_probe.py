"""Heads per layer, against scikit-learn's own cross-validation and losses."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from layerdex.search.labels.head import GRID, Head, calibrate, cross_validate, fit_head, softmax

_WIDTH, _N = 8, 160


def data(n_labels: int, *, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Unit vectors around a centre a label, near enough that some are on the wrong side."""
    random = np.random.default_rng(seed)
    codes = random.integers(n_labels, size=_N)
    centres = random.standard_normal((n_labels, _WIDTH))
    vectors = centres[codes] + 1.2 * random.standard_normal((_N, _WIDTH))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), codes


def folds_of(n: int) -> NDArray[np.int64]:
    return np.arange(n) % 3


def by_sklearn(
    vectors: NDArray[np.float32], codes: NDArray[np.int64], c: float
) -> NDArray[np.float64]:
    """Return log probabilities of held-out folds, each fit from scratch and to the end."""
    found = np.zeros((len(codes), codes.max() + 1))
    folds = folds_of(len(codes))
    for fold in range(3):
        model = LogisticRegression(C=c, max_iter=1_000, tol=1e-6)
        model.fit(vectors[folds != fold].astype(float), codes[folds != fold])
        found[folds == fold] = model.predict_log_proba(vectors[folds == fold].astype(float))
    return found


@pytest.mark.parametrize("n_labels", [2, 4])
def test_the_best_c_and_loss_are_those_of_scikit_learn(n_labels: int) -> None:
    vectors, codes = data(n_labels)
    found = cross_validate(vectors, codes, folds_of(_N), n_labels)
    losses = {}
    for c in GRID:
        logits = by_sklearn(vectors, codes, c)
        temperatures = np.geomspace(0.2, 5, 60)
        losses[c] = min(log_loss(codes, softmax(logits, t)) for t in temperatures)
    assert found.c == min(losses, key=losses.__getitem__)
    assert found.log_loss == pytest.approx(losses[found.c], abs=0.003)
    expected = by_sklearn(vectors, codes, found.c)
    assert (found.logits.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.97


def test_a_temperature_undoes_what_logits_were_stretched_by() -> None:
    random = np.random.default_rng(1)
    logits = random.standard_normal((4_000, 3))
    codes = np.array([random.choice(3, p=one) for one in softmax(logits, 1.0)])
    temperature, loss = calibrate(logits * 5, codes)
    assert temperature == pytest.approx(5, rel=0.1)
    assert loss == pytest.approx(log_loss(codes, softmax(logits * 5, temperature)), abs=1e-6)


@pytest.mark.parametrize("n_labels", [2, 4])
def test_a_head_has_the_probabilities_of_the_model_it_was_fitted_as(n_labels: int) -> None:
    vectors, codes = data(n_labels)
    chosen = cross_validate(vectors, codes, folds_of(_N), n_labels)
    names = [f"label{i}" for i in range(n_labels)]
    head = fit_head(vectors, codes, names, layer=5, validated=chosen)
    model = LogisticRegression(C=chosen.c, max_iter=1_000, tol=1e-6)
    model.fit(vectors.astype(float), codes)
    log_shares = model.predict_log_proba(vectors.astype(float))
    expected = softmax(log_shares, chosen.temperature)
    np.testing.assert_allclose(head.probabilities(vectors), expected, atol=0.02)
    assert (head.layer, head.label_names) == (5, tuple(names))


def test_a_label_that_a_fold_never_saw_is_its_last_choice() -> None:
    vectors, codes = data(3)
    codes[0] = 3  # only in fold 0
    found = cross_validate(vectors, codes, folds_of(_N), 4)
    of_fold = found.logits[folds_of(_N) == 0]
    np.testing.assert_allclose(of_fold[:, 3], of_fold[:, :3].min(axis=1))
    assert np.isfinite(found.log_loss)


@pytest.mark.parametrize("only", [0, 1, 2])
def test_where_the_other_folds_have_one_label_it_is_predicted(only: int) -> None:
    vectors, _ = data(2)
    codes = np.full(_N, only)
    codes[0] = (only + 1) % 3  # in fold 0, so that the others have one label
    found = cross_validate(vectors, codes, folds_of(_N), 3)
    is_first = folds_of(_N) == 0
    assert (found.logits[is_first].argmax(axis=1) == only).all()
    odds = np.sum(~is_first) + 1
    shares = softmax(found.logits[is_first], 1.0)
    np.testing.assert_allclose(shares[:, only], odds / (odds + 2))
    assert np.isfinite(found.log_loss)


def test_probabilities_add_up_to_one() -> None:
    head = Head(0, ("a", "b"), 0.5, np.eye(2, 8, dtype=np.float32), np.zeros(2, np.float32))
    found = head.probabilities(np.eye(8, dtype=np.float32))
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert found[0, 0] == pytest.approx(1 / (1 + np.exp(-2)))
