"""`ClassificationReport`: how good predicted labels are, label by label.

The figures are those of scikit-learn's ``classification_report``, with one more rule: a text
without a predicted label was not given any. It lowers the recall of its own label and the accuracy,
and no label's precision.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from layerdex.errors import NoLabelsError, OptionError
from layerdex.search.evaluation.metrics import Codes
from layerdex.search.knn.voting import NO_LABEL, encode_labels
from layerdex.search.results import Prediction

N_CONFUSED = 10


@dataclass(frozen=True, slots=True)
class Averages:
    """Means over labels."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class ConfusedPair:
    """``n`` texts of the label ``true`` for which ``predicted`` was predicted."""

    true: str
    predicted: str
    n: int


@dataclass(frozen=True, slots=True)
class ClassificationReport:
    """Figures of ``n`` texts with a true label; arrays are (n_labels,), in the order of the names.

    ``label_names`` are all labels that are true or predicted somewhere, in alphabetical order. A
    figure without any text to count is 0. ``n_abstained`` texts have no predicted label, and
    ``n_unlabelled`` others were left out, as they have no true one. ``unknown_labels`` are true
    labels that can never be predicted. ``confused`` are the most frequent pairs, at most ten.
    """

    label_names: tuple[str, ...]
    precision: NDArray[np.float64] = field(repr=False)
    recall: NDArray[np.float64] = field(repr=False)
    f1: NDArray[np.float64] = field(repr=False)
    support: NDArray[np.int64] = field(repr=False)
    n: int
    accuracy: float
    macro: Averages
    weighted: Averages
    n_abstained: int
    n_unlabelled: int
    unknown_labels: tuple[str, ...]
    confused: tuple[ConfusedPair, ...]


def classification_report(
    predictions: Sequence[Prediction | str | None],
    labels: Sequence[str | None],
    *,
    known: Collection[str] | None = None,
) -> ClassificationReport:
    """Compare predictions with the true ``labels`` of the same texts, None for none.

    ``known`` are the labels that can be predicted, if that is known. Raises `OptionError` for
    different lengths, `NoLabelsError` if no text has a true label.
    """
    if len(predictions) != len(labels):
        raise OptionError(f"{len(predictions)} predictions cannot be of {len(labels)} labels")
    found = [each.label if isinstance(each, Prediction) else each for each in predictions]
    pairs = [(true, name) for true, name in zip(labels, found, strict=True) if true is not None]
    if not pairs:
        raise NoLabelsError("a report needs texts with a true label, and none has one")
    true_labels, predicted_labels = zip(*pairs, strict=True)
    names, codes = encode_labels([*true_labels, *predicted_labels])
    true, predicted = codes[: len(pairs)], codes[len(pairs) :]
    n_labels, is_hit = len(names), true == predicted
    support = np.bincount(true, minlength=n_labels)
    hits = np.bincount(true[is_hit], minlength=n_labels)
    n_predicted = np.bincount(predicted[predicted != NO_LABEL], minlength=n_labels)
    precision, recall = _share(hits, n_predicted), _share(hits, support)
    f1 = _share(2 * hits, support + n_predicted)
    figures = (precision, recall, f1)
    unknown = set() if known is None else {*true_labels} - {*known}
    return ClassificationReport(
        label_names=names,
        precision=precision,
        recall=recall,
        f1=f1,
        support=support.astype(np.int64),
        n=len(pairs),
        accuracy=float(is_hit.mean()),
        macro=Averages(*(float(figure.mean()) for figure in figures)),
        weighted=Averages(*(float(np.average(figure, weights=support)) for figure in figures)),
        n_abstained=int(np.sum(predicted == NO_LABEL)),
        n_unlabelled=len(labels) - len(pairs),
        unknown_labels=tuple(sorted(unknown)),
        confused=_confused(names, true, predicted),
    )


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _confused(names: Sequence[str], true: Codes, predicted: Codes) -> tuple[ConfusedPair, ...]:
    """Return the most frequent pairs; of equally frequent ones the first by name."""
    is_wrong = (true != predicted) & (predicted != NO_LABEL)
    keys, counts = np.unique(true[is_wrong] * len(names) + predicted[is_wrong], return_counts=True)
    first = np.argsort(-counts, kind="stable")[:N_CONFUSED]
    return tuple(
        ConfusedPair(names[key // len(names)], names[key % len(names)], n)
        for key, n in zip(keys[first].tolist(), counts[first].tolist(), strict=True)
    )
