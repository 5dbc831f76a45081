"""Label issues: labels that neighbours are against, by shares computed with NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from layerdex.errors import NoLabelsError, OptionError
from layerdex.search.knn.vector_space import layer_spaces
from layerdex.search.labels.label_scores import N_LISTED, LabelScores, score_labels
from layerdex.storage.store import Store
from tests.search.brute_force import cosines, read_live
from tests.search.stores import add, create, unit_codes

_WIDTH, _N, _K = 12, 150, 9


def fill(path: Path, *, n_wrong: int = 8) -> tuple[Store, NDArray[np.int64], NDArray[np.bool_]]:
    """Three labels told apart at layers 0 and 2, noise at 1; some labels are wrong."""
    random = np.random.default_rng(3)
    true = random.integers(3, size=_N)
    centres = random.standard_normal((3, 3, _WIDTH))
    spread = np.array([0.6, 9.0, 0.6])[:, None, None]
    layers = centres[:, true] + spread * random.standard_normal((3, _N, _WIDTH))
    is_wrong = np.isin(np.arange(_N), random.choice(_N, n_wrong, replace=False))
    given = np.where(is_wrong, (true + 1) % 3, true)
    # d0 is there three times, with one label: repeats are no witnesses for each other.
    layers[:, 1], layers[:, 2], given[1], given[2] = layers[:, 0], layers[:, 0], given[0], given[0]
    is_wrong[1:3] = is_wrong[0]
    store = create(path / "index", width=_WIDTH, n_layers=3)
    texts = ["same"] * 3 + [f"text {i}" for i in range(3, _N)]
    add(store, unit_codes(layers), texts=texts, labels=[f"label{one}" for one in given])
    return store, given, is_wrong


def judge(store: Store, *, k: int = _K, listed: int = -1) -> LabelScores:
    return store.query(
        lambda snapshot: score_labels(
            snapshot.layer,
            snapshot.document_table(labelled=True),
            spaces=layer_spaces(store.layers),
            k=k,
            listed=listed,
        )
    )


def shares_by_hand(store: Store, given: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each label's share at each layer, (n_layers, n, n_labels)."""
    shares = np.zeros((3, _N, 3))
    for layer in range(3):
        stored = read_live(store.path, layer)[1]
        near = cosines(stored, stored)
        np.fill_diagonal(near, -2)
        near[:3, :3] = -2
        for i in range(_N):
            nearest = np.argsort(-near[i], kind="stable")[:_K]
            distances = 1 - near[i, nearest]
            weights = np.exp(-distances / (0.2 * distances[-1]))
            for j, weight in zip(nearest, weights, strict=True):
                shares[layer, i, given[j]] += weight / weights.sum()
    return shares


def test_shares_and_scores_are_those_of_the_neighbours(tmp_path: Path) -> None:
    store, given, _ = fill(tmp_path)
    found, shares = judge(store), shares_by_hand(store, given)
    at, mean = np.arange(_N), shares.mean(axis=0)
    own = mean[at, given]
    others = mean.copy()
    others[at, given] = -1
    np.testing.assert_allclose(found.own_share, own, atol=1e-4)
    np.testing.assert_allclose(found.suggested_share, others.max(axis=1), atol=1e-4)
    is_clear = np.sort(others, axis=1)[:, -1] - np.sort(others, axis=1)[:, -2] > 1e-3
    assert (found.suggested == others.argmax(axis=1))[is_clear].all()
    expected = np.log((others.max(axis=1) + 1e-3) / (own + 1e-3))
    np.testing.assert_allclose(found.scores, expected, atol=0.02)
    np.testing.assert_array_equal(found.n_against, (shares.argmax(axis=2) != given).sum(axis=0))


def test_wrong_labels_come_first_and_most_layers_must_be_against(tmp_path: Path) -> None:
    store, _, is_wrong = fill(tmp_path)
    found = judge(store)
    assert average_precision_score(is_wrong, found.scores) > 0.95
    ranked = found.ranked()
    assert set(np.flatnonzero(is_wrong)) <= set(ranked)
    assert (found.n_against[ranked] >= 2).all()
    assert (np.diff(found.scores[ranked]) <= 0).all()
    # the noise of layer 1 is against many, and alone makes no suspect
    alone = np.flatnonzero(found.n_against == 1)
    assert len(alone) > 20
    assert not set(alone) & set(ranked)


def test_neighbours_are_kept_at_the_listed_space(tmp_path: Path) -> None:
    store, _, _ = fill(tmp_path)
    for listed, layer in ((0, 0), (-1, 2)):
        rows, stored = read_live(store.path, layer)
        near = cosines(stored, stored)
        np.fill_diagonal(near, -2)
        near[:3, :3] = -2
        best = np.argsort(-near, axis=1, kind="stable")[:, :N_LISTED]
        kept = judge(store, listed=listed).nearest
        np.testing.assert_allclose(
            kept.similarities, np.take_along_axis(near, best, axis=1), atol=2e-5
        )
        assert (kept.rows == np.asarray(rows)[best]).mean() > 0.99


def test_documents_of_one_text_have_no_judge(tmp_path: Path) -> None:
    store = create(tmp_path / "index", width=_WIDTH)
    add(
        store,
        unit_codes(np.ones((3, _WIDTH))),
        texts=["same"] * 3,
        labels=["a", "a", "b"],
    )
    found = judge(store, k=40)
    assert not found.n_against.any()
    assert not len(found.ranked())
    np.testing.assert_array_equal(found.scores, 0)


def test_too_few_labels_or_neighbours_are_an_error(tmp_path: Path) -> None:
    store = create(tmp_path / "index", width=_WIDTH)
    add(store, unit_codes(np.eye(3, _WIDTH) + 1), labels=["a", "a", None])
    with pytest.raises(NoLabelsError, match="at least two labels"):
        judge(store)
    with pytest.raises(OptionError, match="k must be at least 1"):
        judge(store, k=0)
