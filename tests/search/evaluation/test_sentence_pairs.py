"""Judged pairs: figures and resamples against SciPy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, f1_score

from layerdex.choices import Fuse
from layerdex.errors import NoLabelsError, OptionError
from layerdex.search.evaluation.evaluation import Evaluation
from layerdex.search.evaluation.metrics import interval
from layerdex.search.evaluation.sentence_pairs import PairJudgements, evaluate_pairs
from layerdex.search.knn.vector_space import VectorSpace, layer_spaces
from layerdex.search.targets import SearchTarget

N, WIDTH = 90, 6


def sides(noise: float, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return unit vectors, those of later pairs farther apart; the first ten are repeats."""
    random = np.random.default_rng(seed)
    one, other = random.standard_normal((2, N, WIDTH))
    closeness = np.linspace(1, 0, N)[:, None]
    other = closeness * one + (1 - closeness) * noise * other
    other[:10] = one[:10]  # similarities that are equal
    one, other = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (one, other))
    return one.astype(np.float32), other.astype(np.float32)


LAYERS = {0: sides(5.0, 0), 1: sides(1.5, 1)}
VECTORS = ({i: x for i, (x, _) in LAYERS.items()}, {i: y for i, (_, y) in LAYERS.items()})
SCORES = np.repeat(np.arange(9.0)[::-1], 10)
LABELS = (SCORES > 5).astype(np.float64)


def cosines(layer: int) -> NDArray[np.float64]:
    one, other = (x.astype(np.float64) for x in LAYERS[layer])
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray(np.round((one * other).sum(axis=1) / lengths, 12))


def evaluate(judged: PairJudgements, n_resamples: int = 0) -> Evaluation:
    return evaluate_pairs(VECTORS, judged, spaces=layer_spaces([0, 1]), n_resamples=n_resamples)


def drawn(n_resamples: int) -> list[NDArray[np.int64]]:
    random = np.random.default_rng(0)
    return [random.integers(N, size=N) for _ in range(n_resamples)]


def best_cut(similarities: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
    """Return the highest F1 of any cut; scikit-learn's would take seconds for so many."""
    accepted = similarities >= np.unique(similarities)[:, None]
    n_hits = (accepted * labels).sum(axis=1)
    return float((2 * n_hits / (accepted.sum(axis=1) + labels.sum())).max())


def test_scores_give_scipys_rank_correlation_on_every_resample() -> None:
    found = evaluate(PairJudgements(SCORES, are_labels=False), n_resamples=15)
    for layer in LAYERS:
        similarities = cosines(layer)
        of_layer = found.resampled[layer]
        assert found.at(layer).values == {
            "spearman": pytest.approx(spearmanr(similarities, SCORES).statistic)
        }
        expected = [spearmanr(similarities[i], SCORES[i]).statistic for i in drawn(15)]
        np.testing.assert_allclose(of_layer, [expected])
        stated, wanted = found.at(layer).intervals["spearman"], interval(np.array(expected))
        assert (stated.low, stated.high) == pytest.approx((wanted.low, wanted.high))
    assert found.best_layer == 1


def test_labels_give_scikit_learns_average_precision_and_the_best_cut() -> None:
    found = evaluate(PairJudgements(LABELS, are_labels=True), n_resamples=15)
    for layer in LAYERS:
        similarities, values = cosines(layer), found.at(layer).values
        assert [*values] == ["average_precision", "f1", "threshold"]
        assert values["average_precision"] == pytest.approx(
            average_precision_score(LABELS, similarities)
        )
        assert values["f1"] == pytest.approx(best_cut(similarities, LABELS))
        accepted = similarities >= values["threshold"] - 1e-9  # the last bits may differ
        assert f1_score(LABELS, accepted) == pytest.approx(values["f1"])
        resamples = found.resampled[layer]
        for i, at in enumerate(drawn(15)):
            some, labels = similarities[at], LABELS[at]
            average, f1, threshold = resamples[:, i]
            assert average == pytest.approx(average_precision_score(labels, some))
            assert f1 == pytest.approx(best_cut(some, labels))
            assert f1_score(labels, some >= threshold) == pytest.approx(f1)


def test_equal_texts_are_tied_whatever_the_last_digits_of_their_similarities() -> None:
    vectors = LAYERS[0][0][:12]
    labels = np.tile([1.0, 0.0], 6)
    one = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1))
    raw = (vectors.astype(np.float64) ** 2).sum(axis=1) / (one * one)
    assert len(np.unique(raw)) > 1
    judged = PairJudgements(labels, are_labels=True)
    sides = ({0: vectors}, {0: vectors})
    found = evaluate_pairs(sides, judged, spaces=layer_spaces([0]), n_resamples=9).at(0)
    assert found.values == {
        "average_precision": average_precision_score(labels, np.ones(12)),
        "f1": pytest.approx(f1_score(labels, np.ones(12))),
        "threshold": 1.0,
    }
    assert found.values["average_precision"] == 0.5
    assert found.intervals["threshold"].low == found.intervals["threshold"].high == 1
    scores = PairJudgements(labels, are_labels=False)
    with pytest.raises(NoLabelsError, match="the same similarity"):
        evaluate_pairs(sides, scores, spaces=layer_spaces([0]), n_resamples=0)


def test_a_resample_without_a_positive_pair_counts_as_none_found() -> None:
    one = np.zeros(N)
    one[0] = 1
    found = evaluate(PairJudgements(one, are_labels=True), n_resamples=40)
    without = [not (at == 0).any() for at in drawn(40)]
    assert any(without)
    averages = found.resampled[0][0]
    assert ((averages == 0) == without).all()


def test_pairs_are_compared_by_fused_vectors() -> None:
    fused = VectorSpace(SearchTarget((0, 1), Fuse.CONCAT, (1.0, 2.0)))
    judged = PairJudgements(SCORES, are_labels=False)
    found = evaluate_pairs(VECTORS, judged, spaces=(*layer_spaces([0, 1]), fused), n_resamples=0)
    similarities = (cosines(0) + 4 * cosines(1)) / 5  # Σ w² s / Σ w²
    expected = spearmanr(np.round(similarities, 12), SCORES).statistic
    assert found.at(fused.name).values["spearman"] == pytest.approx(expected, abs=1e-3)


def test_what_cannot_be_measured_is_an_error() -> None:
    with pytest.raises(OptionError, match="finite number"):
        PairJudgements(np.array([0.0, np.nan, 1.0]), are_labels=False)
    with pytest.raises(NoLabelsError, match="5 pairs have the same label"):
        PairJudgements(np.ones(5), are_labels=True)
    with pytest.raises(NoLabelsError, match="5 pairs have the same score"):
        PairJudgements(np.full(5, 2.5), are_labels=False)
    same = {0: np.tile(np.array([1, 0], np.float32), (3, 1))}
    scores = PairJudgements(np.arange(3.0), are_labels=False)
    with pytest.raises(NoLabelsError, match="the same similarity"):
        evaluate_pairs((same, same), scores, spaces=layer_spaces([0]), n_resamples=0)
