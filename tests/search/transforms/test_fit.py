"""Fitting transforms: on the documents that may vote, with a shrinkage that their labels choose."""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from layerdex.choices import Fuse, TransformName, Weights
from layerdex.errors import OptionError
from layerdex.records import Vectors
from layerdex.search.evaluation.classification import evaluate_on_folds, evaluate_on_test
from layerdex.search.evaluation.evaluation import Evaluation
from layerdex.search.evaluation.folds import assign_folds
from layerdex.search.evaluation.vote_scores import VotingOptions
from layerdex.search.knn.vector_space import GetLayer, VectorSpace, layer_spaces
from layerdex.search.targets import SearchTarget
from layerdex.search.transforms import fit as transform_fit
from layerdex.search.transforms.fit import (
    DEFAULT_SHRINKAGE,
    SHRINKAGES,
    Fitter,
    draw_sample,
    fit_layers,
)
from layerdex.search.vectors.in_memory import InMemoryVectors
from layerdex.storage.snapshot import DocumentTable
from tests.search.stores import add, create
from tests.search.vectors.test_transform import by_book, cone, shrunk

_LAYER_0 = layer_spaces([0])
_ONE = VotingOptions(ks=(1,), weights=(Weights.UNIFORM,), n_resamples=0)


def table_of(labels: list[str | None], groups: list[int] | None = None) -> DocumentTable:
    """The table of documents in rows 1 to n, texts differ unless ``groups`` says otherwise."""
    n = len(labels)
    same = np.arange(n) if groups is None else np.array(groups)
    return DocumentTable(
        rows=np.arange(1, n + 1),
        ids=[f"d{i}" for i in range(n)],
        labels=labels,
        ordinals=np.arange(n),
        n_characters=np.ones(n, dtype=np.int64),
        unreadable=np.zeros(n, dtype=np.bool_),
        content_groups=same,
        content_hashes=[bytes([one % 256, one // 256]) for one in same.tolist()],
    )


def at_any_layer(vectors: NDArray[np.floating]) -> GetLayer:
    source = InMemoryVectors(np.arange(1, len(vectors) + 1), vectors.astype(np.float32))
    return lambda _: source


def labels_of(evaluation: Evaluation) -> list[str]:
    assert evaluation.classification is not None
    assert evaluation.best.predicted is not None
    names = evaluation.classification.label_names
    return [names[code] for code in evaluation.best.predicted.tolist()]


def nearest_labels(
    queries: NDArray[np.floating], documents: NDArray[np.floating], labels: NDArray[np.str_]
) -> list[str]:
    return [str(one) for one in labels[np.argmax(queries @ documents.T, axis=1)]]


@pytest.mark.parametrize("how", [TransformName.CENTER, TransformName.WHITEN])
def test_on_folds_only_the_documents_that_vote_are_fitted_on(how: TransformName) -> None:
    vectors = cone(24, seed=5)
    labels: list[str | None] = [f"l{i % 12}" for i in range(24)]  # two each: too few to choose by
    table, known = table_of(labels), np.array(labels, dtype=np.str_)
    get_layer = at_any_layer(vectors)
    fit = Fitter(get_layer, how, _LAYER_0).fit
    found = evaluate_on_folds(get_layer, table, _ONE, n_folds=2, spaces=_LAYER_0, prepare=fit)
    codes = np.unique(known, return_inverse=True)[1]
    folds = assign_folds(codes, table.content_groups, 2)
    shrinkage = 1.0 if how is TransformName.CENTER else DEFAULT_SHRINKAGE
    expected, leaking = np.empty(24, dtype=object), np.empty(24, dtype=object)
    for fold in (0, 1):
        held_out, labelled_neighbors = folds == fold, folds != fold
        for answers, seen in (
            (expected, labelled_neighbors),
            (leaking, np.ones(24, dtype=np.bool_)),
        ):
            found_by_hand = by_book(vectors, shrunk(vectors[seen], shrinkage))
            answers[held_out] = nearest_labels(
                found_by_hand[held_out],
                found_by_hand[labelled_neighbors],
                known[labelled_neighbors],
            )
    assert expected.tolist() != leaking.tolist()
    assert labels_of(found) == expected.tolist()
    assert found.best.target.transform is how


def test_a_test_set_has_no_part_in_the_fit() -> None:
    vectors, asked = cone(60, seed=1), cone(40, seed=2)
    labels: list[str | None] = [f"l{i % 5}" for i in range(60)]
    table = table_of(labels)
    get_layer = at_any_layer(vectors)

    def predict(chosen: slice) -> list[str]:
        fit = Fitter(get_layer, TransformName.WHITEN, _LAYER_0).fit
        return labels_of(
            evaluate_on_test(
                get_layer,
                table,
                _ONE,
                vectors={0: asked[chosen]},
                test_labels=["l0"] * len(asked[chosen]),
                spaces=[fit(_LAYER_0[0], table)],
            )
        )

    assert predict(slice(0, 3)) == predict(slice(0, 40))[:3]


def noisy(
    n: int, *, noise: float, signal: float, seed: int = 0
) -> tuple[Vectors, NDArray[np.int64]]:
    """Two labels apart by ``signal`` along one axis, beside three long axes of ``noise``.

    Ten further axes are short and say nothing.
    """
    random = np.random.default_rng(seed)
    side = random.integers(2, size=n)
    vectors = random.standard_normal((n, 14)) * 0.01
    vectors[:, 0] += signal * (2 * side - 1)
    vectors[:, 1:4] += noise * random.standard_normal((n, 3))
    vectors += np.eye(14)[13] * 3
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit.astype(np.float32), side


def test_the_shrinkage_is_the_one_that_separates_labels_on_folds() -> None:
    chosen = {}
    for name, noise, signal in (("long axes are noise", 0.5, 0.04), ("short ones are", 0.01, 0.02)):
        vectors, side = noisy(300, noise=noise, signal=signal)
        labels: list[str | None] = [f"l{one}" for one in side]
        fit = fit_layers(at_any_layer(vectors), table_of(labels), layers=[0])
        [layer] = fit.layers
        assert set(layer.macro_f1) == set(TransformName)
        assert (fit.n, fit.n_fitted, fit.n_judged) == (300, 300, 300)
        chosen[name] = layer.shrinkage
        best = max(layer.macro_f1.values())
        how = next(each for each, f1 in layer.macro_f1.items() if f1 == best)
        assert fit.best == SearchTarget((0,), transform=how)
    assert chosen["long axes are noise"] == min(SHRINKAGES)
    assert chosen["short ones are"] > chosen["long axes are noise"]


def test_figures_are_those_of_an_evaluation_on_the_same_folds() -> None:
    vectors, side = noisy(120, noise=0.3, signal=0.1)
    table = table_of([f"l{one}" for one in side])
    [layer] = fit_layers(at_any_layer(vectors), table, layers=[0]).layers
    whiten = layer.axes.whiten(layer.shrinkage)
    choices = VotingOptions(ks=(10,), n_resamples=0)
    for how, transform in (
        (TransformName.NONE, None),
        (TransformName.CENTER, layer.axes.center()),
        (TransformName.WHITEN, whiten),
    ):
        moved = vectors if transform is None else transform.apply(vectors)
        found = evaluate_on_folds(at_any_layer(moved), table, choices, n_folds=3, spaces=_LAYER_0)
        assert layer.macro_f1[how] == pytest.approx(found.best.values["macro_f1"])


@pytest.mark.parametrize(
    "labels", [[None] * 12, ["a"] * 12, ["a", *["b"] * 11], [f"l{i}" for i in range(12)]]
)
def test_without_labels_to_choose_by_it_takes_the_default(labels: list[str | None]) -> None:
    fit = fit_layers(at_any_layer(cone(12)), table_of(labels), layers=[0, 1])
    assert [one.shrinkage for one in fit.layers] == [DEFAULT_SHRINKAGE] * 2
    assert (fit.n_judged, fit.best, fit.layers[0].macro_f1) == (0, None, {})


def test_a_shrinkage_that_is_given_is_taken() -> None:
    table = table_of([f"l{i % 2}" for i in range(30)])
    fit = fit_layers(at_any_layer(cone(30)), table, layers=[0, 1], shrinkages={0: 0.25, 1: 1})
    assert [one.shrinkage for one in fit.layers] == [0.25, 1]
    assert fit.n_judged == 0
    for wrong in (0, -1, 1.5, float("nan"), "x"):
        with pytest.raises(OptionError, match="shrinkage"):
            fit_layers(at_any_layer(cone(30)), table, layers=[0], shrinkages={0: wrong})  # type: ignore[dict-item]


def test_a_layer_of_equal_vectors_stays_as_it_is_beside_others() -> None:
    """Layer 0 has them with pooling by cls: the token's own vector, whatever the text."""
    rows = np.arange(1, 41)
    layers = {
        0: InMemoryVectors(rows, cone(1).repeat(40, axis=0)),
        1: InMemoryVectors(rows, cone(40)),
    }
    table = table_of([f"l{i % 2}" for i in range(40)])
    [first, second] = fit_layers(layers.__getitem__, table, layers=[0, 1]).layers
    assert first.macro_f1[TransformName.WHITEN] == first.macro_f1[TransformName.NONE]
    assert second.macro_f1[TransformName.WHITEN] != second.macro_f1[TransformName.NONE]
    with pytest.raises(OptionError, match="all alike"):
        fit_layers(layers.__getitem__, table, layers=[0])


def test_each_text_counts_once_in_the_fit() -> None:
    vectors = cone(30)
    once = fit_layers(at_any_layer(vectors), table_of([None] * 30), layers=[0])
    repeated = np.concatenate([vectors, np.repeat(vectors[:1], 500, axis=0)])
    table = table_of([None] * 530, [*range(30), *[0] * 500])
    often = fit_layers(at_any_layer(repeated), table, layers=[0])
    assert (often.n, often.n_fitted) == (530, 30)
    np.testing.assert_array_equal(once.layers[0].axes.axes, often.layers[0].axes.axes)
    np.testing.assert_array_equal(once.layers[0].axes.mean, often.layers[0].axes.mean)
    with pytest.raises(OptionError, match=r"two texts .* got 1"):
        draw_sample(table_of([None] * 9, [0] * 9))


def test_a_sample_stands_for_many_and_is_the_same_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transform_fit, "N_FITTED", 200)
    monkeypatch.setattr(transform_fit, "N_JUDGED", 50)
    table = table_of([f"l{i % 2}" if i % 4 else None for i in range(900)])
    sample, again = draw_sample(table), draw_sample(table)
    assert len(sample.fitted.rows) == 200
    assert sample.judged is not None
    assert again.judged is not None
    assert len(sample.judged.rows) == 50
    assert None not in sample.judged.labels
    np.testing.assert_array_equal(sample.fitted.rows[list(sample.at)], sample.judged.rows)
    np.testing.assert_array_equal(sample.fitted.rows, again.fitted.rows)
    np.testing.assert_array_equal(sample.judged.rows, again.judged.rows)
    assert sample.fitted.rows.max() > 800  # from all of them


def test_a_layer_of_several_spaces_is_fitted_once_for_the_same_documents(tmp_path: Path) -> None:
    store = create(tmp_path / "index", width=12, n_layers=2)
    add(store, np.stack([cone(30), cone(30, seed=1)]), labels=[f"l{i % 2}" for i in range(30)])
    with store.read() as snapshot:
        table, asked = snapshot.document_table(), []

        def get_layer(layer: int) -> InMemoryVectors:
            asked.append(layer)
            return InMemoryVectors(table.rows, snapshot.layer(layer).gather(table.rows))

        [first, second], both = (
            layer_spaces([0, 1]),
            VectorSpace(SearchTarget((0, 1), Fuse.MEAN, (1, 1))),
        )
        fit = Fitter(get_layer, TransformName.WHITEN, [first, second, both]).fit
        fit(first, table)
        fit(both, replace(table))
        fit(first, table.take(range(20)))
        assert asked == [0, 1, 0]
        alone = Fitter(get_layer, TransformName.WHITEN, [first, second])
        space = alone.fit(first, table)
        assert space.transforms is not None
        held = weakref.ref(space.transforms[0])
        del space
        assert held() is None


def test_no_transform_leaves_a_space_as_it_is() -> None:
    def fails(_: int) -> InMemoryVectors:
        raise AssertionError

    [space] = layer_spaces([3])
    assert Fitter(fails, TransformName.NONE, [space]).fit(space, table_of(["a"])) is space
