"""The vote of neighbours: scikit-learn's away from ties, and the rules where it has none."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier

from layerdex.choices import Weights
from layerdex.search.knn.neighbors import find_neighbors
from layerdex.search.knn.voting import EXACT_DISTANCE, NO_LABEL, vote
from layerdex.storage.store import Store
from tests.search.brute_force import STEP, cosines, read_live
from tests.search.stores import add, create, random_codes, unit_codes

_WIDTH = 8
_NO = NO_LABEL

Labelled = tuple[Store, NDArray[np.int64]]


def _vote(
    labels: list[int], similarities: list[float], weights: Weights = Weights.DISTANCE
) -> tuple[int, float]:
    votes = vote(np.array([labels]), np.array([similarities], np.float32), weights)
    return int(votes.labels[0]), float(votes.confidences[0])


def _is_tied(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether two labels have the most votes, for labels (n, k)."""
    counts = np.sort([np.bincount(row, minlength=5) for row in labels], axis=1)
    return np.asarray(counts[:, -1] == counts[:, -2])


@pytest.fixture(scope="module", params=[2, 5])
def labelled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Labelled:
    """An index of overlapping clusters, and the label code of each document."""
    random = np.random.default_rng(0)
    centers = random.standard_normal((request.param, _WIDTH))
    labels = random.integers(request.param, size=400)
    store = create(tmp_path_factory.mktemp("labelled") / "index", width=_WIDTH)
    add(store, unit_codes(centers[labels] + 1.5 * random.standard_normal((400, _WIDTH))))
    return store, labels


@pytest.mark.parametrize("weights", list(Weights))
@pytest.mark.parametrize("k", [1, 2, 5, 10, 40])
def test_votes_are_scikit_learns(labelled: Labelled, weights: Weights, k: int) -> None:
    store, labels = labelled
    _, codes = read_live(store.path, 0)
    queries = np.random.default_rng(k).standard_normal((120, _WIDTH)).astype(np.float32)
    found = store.query(lambda snapshot: find_neighbors(snapshot.layer(0), queries, k))
    neighbor_labels = labels[found.rows - 1]
    votes = vote(neighbor_labels, found.similarities, weights)

    theirs = KNeighborsClassifier(
        n_neighbors=k, metric="cosine", algorithm="brute", weights=weights.value
    ).fit(codes.astype(np.float64), labels)
    # Which of two equally similar documents is the k-th neighbour is for Layerdex to say.
    clear = -np.diff(-np.sort(-cosines(queries, codes), axis=1))[:, k - 1] > 1.2 * STEP
    assert clear.sum() >= 115
    np.testing.assert_allclose(
        votes.confidences[clear], theirs.predict_proba(queries).max(axis=1)[clear], rtol=1e-5
    )
    if weights is Weights.UNIFORM:
        clear &= ~_is_tied(neighbor_labels)
    assert clear.sum() >= (20 if k == 2 else 80)
    np.testing.assert_array_equal(votes.labels[clear], theirs.predict(queries)[clear])


def test_tie_goes_to_the_label_of_the_nearest_among_the_tied() -> None:
    similarities = [0.9, 0.8, 0.7, 0.6, 0.5]
    assert _vote([2, 1, 0, 0, 1], similarities, Weights.UNIFORM) == pytest.approx((1, 0.4))
    assert _vote([2, 0, 1, 1, 0], similarities, Weights.UNIFORM) == pytest.approx((0, 0.4))
    assert _vote([3, 2, 1, 0], similarities[:4], Weights.UNIFORM) == pytest.approx((3, 0.25))
    assert _vote([1, 0], [0.5, 0.5]) == pytest.approx((1, 0.5))


def test_tie_but_for_the_last_bit_is_still_a_tie() -> None:
    # Nine times 16/9 adds up to 16 and 3.6e-15.
    assert _vote([1, *[0] * 9], [15 / 16, *[7 / 16] * 9]) == pytest.approx((1, 0.5))


def test_votes_weigh_one_over_the_distance() -> None:
    assert _vote([1, 0, 0], [0.8, 0.5, 0.5]) == pytest.approx((1, 5 / 9), rel=1e-5)
    assert _vote([1, 0, 0], [0.7, 0.5, 0.5]) == pytest.approx((0, 4 / (4 + 10 / 3)), rel=1e-5)
    assert _vote([1, 0, 0], [0.8, 0.5, 0.5], Weights.UNIFORM) == pytest.approx((0, 2 / 3))


@pytest.mark.parametrize("distance", [0, EXACT_DISTANCE / 2])
def test_exact_neighbors_alone_vote(distance: float) -> None:
    similarities = [1 - distance, 0.999, 0.998, 0.997]
    assert _vote([1, 0, 0, 0], similarities) == (1, 1.0)
    assert _vote([1, 0, 0, 0], similarities, Weights.UNIFORM) == (0, 0.75)


def test_neighbors_just_beyond_exact_share_the_vote() -> None:
    label, confidence = _vote([1, 0], [1 - 4e-6, 1 - 8e-6])
    assert label == 1
    assert confidence == pytest.approx(2 / 3, abs=0.02)


def test_exact_neighbors_vote_equally() -> None:
    similarities = [1.0, 1 - 1e-7, 1 - 5e-7, 0.9]
    assert _vote([1, 0, 0, 1], similarities) == pytest.approx((0, 2 / 3))
    assert _vote([1, 0], similarities[:2]) == (1, 0.5)


def test_exact_rule_agrees_with_scikit_learn_on_stored_vectors() -> None:
    # Axis-aligned vectors have cosine distances of exactly zero in float64, too.
    codes = np.eye(4)[[0, 0, 0, 1, 2, 3]] + 0.0
    labels = np.array([1, 1, 0, 2, 2, 2])
    theirs = KNeighborsClassifier(6, metric="cosine", algorithm="brute", weights="distance")
    expected = theirs.fit(codes, labels).predict_proba(np.eye(4)[:1])[0]
    label, confidence = _vote([1, 1, 0, 2, 2, 2], [1, 1, 1, 0, 0, 0])
    assert label == expected.argmax()
    assert confidence == pytest.approx(expected.max())


@pytest.mark.parametrize("weights", list(Weights))
def test_places_without_a_neighbor_do_not_vote(weights: Weights) -> None:
    padded = vote(
        np.array([[1, 0, 0, _NO, _NO], [1, _NO, _NO, _NO, _NO], [_NO] * 5]),
        np.array([[0.9, 0.2, 0.1, -1, -np.inf], [0.9, -1, -1, -1, -1], [-np.inf] * 5], np.float32),
        weights,
    )
    assert padded.labels.tolist() == [*_vote([1, 0, 0], [0.9, 0.2, 0.1], weights)[:1], 1, _NO]
    expected = [_vote([1, 0, 0], [0.9, 0.2, 0.1], weights)[1], 1.0, 0.0]
    np.testing.assert_allclose(padded.confidences, expected)


@pytest.mark.parametrize("weights", list(Weights))
def test_absent_neighbor_between_present_ones_does_not_vote(weights: Weights) -> None:
    assert _vote([_NO, 1, _NO, 0], [1.0, 0.5, 1.0, 0.4], weights)[0] == 1


def test_no_texts_have_no_votes() -> None:
    votes = vote(np.empty((0, 3), np.int64), np.empty((0, 3), np.float32), Weights.DISTANCE)
    assert (votes.labels.shape, votes.confidences.shape) == ((0,), (0,))


def test_rows_vote_apart_from_one_another() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, (300, 7))
    similarities = -np.sort(-random.uniform(-1, 1, (300, 7)).astype(np.float32))
    whole = vote(labels, similarities, Weights.DISTANCE)
    for i in range(300):
        alone = vote(labels[i : i + 1], similarities[i : i + 1], Weights.DISTANCE)
        assert alone.labels[0] == whole.labels[i]
        assert alone.confidences[0] == pytest.approx(whole.confidences[i])


def test_random_codes_are_unit_vectors() -> None:
    lengths = np.linalg.norm(random_codes(50, _WIDTH).astype(np.float64), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=5e-4)
