"""The report of predicted labels, against scikit-learn's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import classification_report as by_sklearn

import layerdex
from layerdex.errors import NoLabelsError, OptionError
from layerdex.search.evaluation.report import ConfusedPair, classification_report
from layerdex.search.results import Prediction, Predictions
from layerdex.search.targets import SearchTarget

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
    report = classification_report(true, given)
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
    report = classification_report(["a", None, "c"], ["a", "b", "a"], known={"a", "b"})
    assert (report.n, report.n_unlabelled, report.unknown_labels) == (2, 1, ("c",))
    assert report.confused == (ConfusedPair("c", "a", 1),)


def test_no_labels_and_other_lengths_are_errors() -> None:
    with pytest.raises(NoLabelsError):
        classification_report([None], ["a"])
    with pytest.raises(OptionError, match="lengths are 2 and 1"):
        classification_report(["a", "b"], ["a"])


def test_predictions_come_second_as_in_scikit_learn() -> None:
    target = SearchTarget((1,))
    made = [Prediction(text, "a", 1.0, target, ()) for text in ("x", "y", "z")]
    report = layerdex.classification_report(["a", "b", "b"], Predictions(made))
    assert report.precision.tolist() == pytest.approx([1 / 3, 0])
    assert report.recall.tolist() == [1, 0]
    with pytest.raises(OptionError, match="the true labels come first"):
        classification_report(Predictions(made), ["a", "b", "b"])


def test_missing_labels_of_pandas_are_none_and_numbers_are_digits() -> None:
    true = pd.Series(["a", None, "b", "b"])
    predicted = pd.Series(["a", "a", pd.NA, "b"], dtype="string")
    report = classification_report(true, predicted)
    assert (report.n, report.n_unlabelled, report.n_abstained) == (3, 1, 1)
    assert report.accuracy == pytest.approx(2 / 3)
    numbers = classification_report(np.array([1, 2]), ["1", float("nan")])
    assert (numbers.label_names, numbers.accuracy) == (("1", "2"), 0.5)


@pytest.mark.parametrize("given", [pd.DataFrame({"label": ["a"]}), "a", 1, [["a"]], [b"a"]])
def test_what_is_no_column_of_labels_is_an_error(given: Any) -> None:
    for pair in ((given, ["a"]), (["a"], given)):
        with pytest.raises(OptionError, match=r"y_(true|pred)"):
            classification_report(*pair)


def test_a_report_is_shown_as_other_results_are() -> None:
    report = classification_report(["a", "b", "b"], ["a", "b", None])
    assert repr(report) == (
        "<ClassificationReport: accuracy 0.6667, macro-F1 0.8333 on 3 texts of 2 labels, "
        "1 without a prediction>"
    )
    frame = report.to_pandas()
    assert frame.to_dict("list") == {
        "label": ["a", "b"],
        "precision": [1, 1],
        "recall": [1, 0.5],
        "f1": [1, pytest.approx(2 / 3)],
        "support": [1, 2],
    }
    assert "<th>recall</th>" in report._repr_html_()
