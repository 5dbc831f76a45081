"""The report of predicted labels, against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import classification_report as by_sklearn

from layerdex.errors import NoLabelsError, OptionError
from layerdex.search.evaluation.report import ConfusedPair, classification_report

NAMES = [f"label{i}" for i in range(5)]


@pytest.mark.parametrize("share_abstained", [0, 0.2])
def test_figures_are_those_of_scikit_learn(share_abstained: float) -> None:
    random = np.random.default_rng(3)
    true = random.choice(NAMES[:4], 200).tolist()
    predicted = [
        label if chance < 0.6 else str(random.choice(NAMES[1:]))
        for label, chance in zip(true, random.random(200), strict=True)
    ]
    given = [
        None if chance < share_abstained else label
        for label, chance in zip(predicted, random.random(200), strict=True)
    ]
    report = classification_report(given, true)
    expected = by_sklearn(
        true,
        [label or "(none)" for label in given],
        labels=NAMES,
        output_dict=True,
        zero_division=0,
    )
    assert report.label_names == tuple(NAMES)
    for name, *figures in zip(
        report.label_names, report.precision, report.recall, report.f1, report.support, strict=True
    ):
        assert figures == pytest.approx(list(expected[name].values()))
    for mean, name in ((report.macro, "macro avg"), (report.weighted, "weighted avg")):
        found = [mean.precision, mean.recall, mean.f1]
        assert found == pytest.approx(list(expected[name].values())[:3])
    assert report.accuracy == pytest.approx(np.mean([a == b for a, b in zip(true, given)]))  # noqa: B905
    assert report.n_abstained == given.count(None)


def test_texts_without_a_label_are_left_out_and_unknown_labels_named() -> None:
    report = classification_report(["a", "b", "a"], ["a", None, "c"], known={"a", "b"})
    assert (report.n, report.n_unlabelled, report.unknown_labels) == (2, 1, ("c",))
    assert report.confused == (ConfusedPair("c", "a", 1),)


def test_no_labels_and_other_lengths_are_errors() -> None:
    with pytest.raises(NoLabelsError):
        classification_report(["a"], [None])
    with pytest.raises(OptionError):
        classification_report(["a"], ["a", "b"])
