"""Samples of labelled documents: what is drawn, and whether intervals hold what they promise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score

from layerdex.choices import Weights
from layerdex.errors import OptionError
from layerdex.search.evaluation.classification import evaluate_leave_one_out
from layerdex.search.evaluation.evaluation import Classification, Evaluation, Method
from layerdex.search.evaluation.label_sample import LabelSample, allocate, draw_sample
from layerdex.search.evaluation.vote_scores import (
    PredictedLabels,
    VotingOptions,
    score_predictions,
)
from layerdex.search.knn.tiles import vectors as vectors_module
from layerdex.search.knn.vector_space import layer_spaces
from layerdex.search.targets import SearchTarget
from layerdex.storage.store import Store
from tests.search.stores import add, create, unit_codes

Codes = NDArray[np.int64]


def population(seed: int, n: int, shares: NDArray[np.float64]) -> tuple[Codes, Codes]:
    """Return labels, and predictions that are right at a rate of each label's own."""
    random = np.random.default_rng(seed)
    n_labels = len(shares)
    rare = np.repeat(np.arange(n_labels), 2)
    true = np.concatenate([rare, random.choice(n_labels, n - len(rare), p=shares)])
    right = random.uniform(0.5, 0.95, n_labels)[true]
    other = (true + random.integers(1, 3, n)) % n_labels
    return true, np.where(random.random(n) < right, true, other)


def evaluate_sample(
    sample: LabelSample, predicted: Sequence[Codes], n_resamples: int
) -> Evaluation:
    names = tuple(f"{label:03}" for label in range(len(sample.n_of_label)))
    return score_predictions(
        [
            PredictedLabels(SearchTarget((layer,)), 1, Weights.UNIFORM, of_layer[sample.positions])
            for layer, of_layer in enumerate(predicted)
        ],
        Classification(Method.LEAVE_ONE_OUT, names, sample.true, sample=sample),
        n_resamples=n_resamples,
    )


def drawn(codes: Codes, n: int, seed: int = 0) -> LabelSample:
    sample = draw_sample(codes, n, seed=seed)
    assert sample is not None
    return sample


def test_labels_get_their_share_and_at_least_two_documents() -> None:
    assert allocate(np.array([600, 300, 100]), 100).tolist() == [60, 30, 10]
    assert allocate(np.array([9_000, 990, 9, 1]), 100).tolist() == [87, 10, 2, 1]
    # 2 of 3 each where there is nothing to share out, and every document where n is all but one.
    assert allocate(np.array([3, 3, 1]), 5).tolist() == [2, 2, 1]
    assert allocate(np.array([4, 3, 1]), 7).tolist() in ([4, 2, 1], [3, 3, 1])
    random = np.random.default_rng(0)
    for _ in range(200):
        counts = random.zipf(1.3, random.integers(2, 40)).clip(max=5_000)
        least = int(np.minimum(counts, 2).sum())
        n = int(random.integers(least, counts.sum() + 1))
        sizes = allocate(counts, n)
        assert sizes.sum() == n
        assert (sizes <= counts).all()
        assert (sizes >= np.minimum(counts, 2)).all()
        above = sizes > 2
        assert (np.abs(sizes - n * counts / counts.sum())[above] <= 1 + least).all()
    with pytest.raises(OptionError, match="at least two documents of each label, 5 in all, got 4"):
        allocate(np.array([3, 3, 1]), 4)


def test_labels_with_more_than_their_share_are_counted() -> None:
    def raised(counts: list[int], n: int) -> tuple[int, int]:
        sample = drawn(np.repeat(np.arange(len(counts)), counts), n)
        return sample.n_raised, sample.n_for_share

    assert raised([600, 300, 100], 20) == (0, 100)
    assert raised([601, 300, 99], 20) == (1, 100)
    assert raised([600, 300, 97, 2, 1], 100) == (2, 20)
    assert raised([600, 300, 100], 21) == (0, 96)


def test_a_seed_draws_the_same_documents_and_all_is_no_sample() -> None:
    codes = np.random.default_rng(0).choice(3, 500, p=[0.7, 0.2, 0.1])
    first, again, other = drawn(codes, 60), drawn(codes, 60), drawn(codes, 60, seed=1)
    assert first.positions.tolist() == again.positions.tolist() != other.positions.tolist()
    assert len(set(first.positions.tolist())) == 60
    assert (np.diff(first.positions) > 0).all()
    np.testing.assert_array_equal(first.true, codes[first.positions])
    assert first.weights.sum() == pytest.approx(500)
    for label in range(3):
        assert first.weights[first.true == label].sum() == pytest.approx((codes == label).sum())
    assert draw_sample(codes, 500, seed=0) is None
    assert draw_sample(codes, 501, seed=0) is None


def test_every_document_is_drawn_about_as_often_as_others_of_its_label() -> None:
    codes = np.repeat([0, 1], [40, 10])
    times = np.zeros(50)
    for seed in range(600):
        times[drawn(codes, 10, seed).positions] += 1
    # 8 of 40 and 2 of 10: 120 times each, with a deviation of 10.
    assert times.sum() == 6_000
    assert 80 < times.min() <= times.max() < 160


def test_figures_are_scikit_learns_with_a_documents_weight() -> None:
    true, predicted = population(0, 3_000, np.array([0.6, 0.2, 0.15, 0.05]))
    sample = drawn(true, 200)
    found = evaluate_sample(sample, [predicted], 20)
    guessed, weights = predicted[sample.positions], sample.weights
    assert (found.n, found.counted) == (3_000, "200 of 3,000 documents")
    assert found.best.values == pytest.approx(
        {
            "accuracy": accuracy_score(sample.true, guessed, sample_weight=weights),
            "macro_f1": f1_score(sample.true, guessed, average="macro", sample_weight=weights),
            "weighted_f1": f1_score(
                sample.true, guessed, average="weighted", sample_weight=weights
            ),
        }
    )
    with pytest.raises(OptionError, match="a report needs all documents"):
        found.report(0)


# Of 100 samples 95 % has a deviation of 2. Rare labels have two documents in a sample, on which
# the percentiles of resamples alone would hold a third of what they promise.
@pytest.mark.parametrize(
    ("shares", "n"),
    [
        pytest.param([0.5, 0.3, 0.1, 0.06, 0.04], 150, id="few labels", marks=pytest.mark.soak),
        pytest.param([*np.full(10, 0.09), *np.full(40, 0.0025)], 300, id="rare labels"),
    ],
)
def test_intervals_hold_the_figures_of_all_documents(shares: list[float], n: int) -> None:
    true, predicted = population(1, 20_000, np.array(shares) / sum(shares))
    whole = {
        "accuracy": accuracy_score(true, predicted),
        "macro_f1": f1_score(true, predicted, average="macro"),
    }
    n_held = dict.fromkeys(whole, 0)
    widths = dict.fromkeys(whole, 0.0)
    estimates: dict[str, list[float]] = {name: [] for name in whole}
    for seed in range(100):
        found = evaluate_sample(drawn(true, n, seed), [predicted], 120).best
        for name, value in whole.items():
            low, high = found.intervals[name].low, found.intervals[name].high
            n_held[name] += low <= value <= high
            widths[name] += (high - low) / 100
            estimates[name].append(found.values[name])
    for name, value in whole.items():
        assert n_held[name] >= 88, name
        deviation = np.std(estimates[name])
        assert 0.8 < widths[name] / (2 * 1.96 * deviation) < 1.3, name
        assert abs(np.mean(estimates[name]) - value) < 0.6 * deviation, name


def test_layers_are_compared_on_the_same_documents() -> None:
    true, worse = population(2, 5_000, np.array([0.5, 0.3, 0.2]))
    better = worse.copy()
    better[::20] = true[::20]
    sample = drawn(true, 1_000)
    found = evaluate_sample(sample, [worse, worse.copy(), better], 300)
    assert found.best_layer == 2
    # Layers 0 and 1 predict alike, and their intervals overlap that of the better one.
    assert found.at(0).intervals["macro_f1"].high > found.at(2).intervals["macro_f1"].low
    assert found.frugal is not None
    assert found.frugal.layer == 2
    np.testing.assert_array_equal(found.resampled[0], found.resampled[1])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return create(tmp_path / "index", width=8, n_layers=3)


# Compared plainly, and by codes.
@pytest.mark.parametrize("n_coded", [1_000_000, 1])
def test_a_sample_is_predicted_as_in_the_whole_evaluation(
    store: Store, monkeypatch: pytest.MonkeyPatch, n_coded: int
) -> None:
    monkeypatch.setattr(vectors_module, "N_CODED", n_coded)
    monkeypatch.setattr(vectors_module, "N_CODED_QUERIES", min(n_coded, 1_000))
    random = np.random.default_rng(0)
    n = 900
    at = random.choice(3, n, p=[0.6, 0.3, 0.1])
    vectors = unit_codes(random.standard_normal((3, 8))[at] + 2 * random.standard_normal((3, n, 8)))
    texts = [f"text {i}" for i in range(n)]
    for i in range(0, 300, 2):  # a text with 40 repeats, and others with one
        original = 1 if i < 80 else i + 1
        vectors[:, i], texts[i] = vectors[:, original], texts[original]
    for part in np.array_split(np.arange(n), 3):
        add(
            store,
            vectors[:, part],
            texts=[texts[i] for i in part],
            labels=[f"label {at[i]}" for i in part],
        )

    def evaluate(n_sampled: int | None, seed: int = 0) -> Evaluation:
        return store.query(
            lambda snapshot: evaluate_leave_one_out(
                snapshot.layer,
                snapshot.document_table(labelled=True),
                VotingOptions((7, 1), n_resamples=10),
                spaces=layer_spaces(store.layers),
                n_sampled=n_sampled,
                seed=seed,
                on_progress=lambda done, total: steps.append((done, total)),
            )
        )

    steps: list[tuple[int, int | None]] = []
    whole, sampled = evaluate(None), evaluate(120, seed=3)
    assert steps[-1][0] == steps[-1][1]
    classification = sampled.classification
    assert classification is not None
    assert classification.sample is not None
    positions = classification.sample.positions
    assert len(positions) == 120
    assert sampled.n == whole.n == n
    for of_sample, of_all in zip(sampled.scores, whole.scores, strict=True):
        assert of_all.predicted is not None
        np.testing.assert_array_equal(of_sample.predicted, of_all.predicted[positions])
    everything = evaluate(n)
    assert [each.values for each in everything.scores] == [each.values for each in whole.scores]
    assert [each.intervals for each in everything.scores] == [
        each.intervals for each in whole.scores
    ]
