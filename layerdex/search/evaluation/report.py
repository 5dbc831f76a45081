"""`ClassificationReport`: how good predicted labels are, label by label.

The figures are those of scikit-learn's ``classification_report``, with one more rule: a text
without a predicted label was not given any. It lowers the recall of its own label and the accuracy,
and no label's precision.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerdex.arguments import check_type, format_value, to_list
from layerdex.errors import NoLabelsError, OptionError
from layerdex.missing import is_missing
from layerdex.search.evaluation.metrics import Codes
from layerdex.search.knn.voting import NO_LABEL, encode_labels
from layerdex.search.results import Prediction
from layerdex.tabular import NUMBER, TEXT, WHOLE, Brief, Row, Table, Tabular
from layerdex.wording import counted

N_CONFUSED = 10

_DTYPES = {"label": TEXT, "precision": NUMBER, "recall": NUMBER, "f1": NUMBER, "support": WHOLE}


@dataclass(frozen=True, slots=True, repr=False)
class Averages(Brief):
    """Means over labels."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True, repr=False)
class ConfusedPair(Brief):
    """``n`` texts of the label ``true`` for which ``predicted`` was predicted."""

    true: str
    predicted: str
    n: int


@dataclass(frozen=True, slots=True, repr=False)
class ClassificationReport(Tabular):
    """Figures of ``n`` texts with a true label; arrays are (n_labels,), in the order of the names.

    ``label_names`` are all labels that are true or predicted somewhere, in alphabetical order. A
    figure without any text to count is 0. ``n_abstained`` texts have no predicted label, and
    ``n_unlabelled`` others were left out, as they have no true one. ``unknown_labels`` are true
    labels that can never be predicted. ``confused`` are the most frequent pairs, at most ten.
    """

    label_names: tuple[str, ...]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]
    n: int
    accuracy: float
    macro: Averages
    weighted: Averages
    n_abstained: int
    n_unlabelled: int
    unknown_labels: tuple[str, ...]
    confused: tuple[ConfusedPair, ...]

    def _summary(self) -> str:
        labels = counted(len(self.label_names), "label")
        abstained = f", {self.n_abstained:,} without a prediction" if self.n_abstained else ""
        return (
            f"accuracy {self.accuracy:.4f}, macro-F1 {self.macro.f1:.4f} on "
            f"{counted(self.n, 'text')} of {labels}{abstained}"
        )

    def _table(self) -> Table:
        return Table(_DTYPES, len(self.label_names), self._rows())

    def _rows(self) -> Iterator[Row]:
        figures = (self.precision, self.recall, self.f1, self.support)
        columns = (self.label_names, *(figure.tolist() for figure in figures))
        for values in zip(*columns, strict=True):
            yield dict(zip(_DTYPES, values, strict=True))


def classification_report(
    y_true: Iterable[object],
    y_pred: Iterable[object],
    *,
    known: Collection[str] | None = None,
) -> ClassificationReport:
    """Compare the predicted labels of texts, or predictions of `classify`, with the true ones.

    The order is scikit-learn's. None, NaN and pandas.NA are no label: a text without a true one is
    left out, and one without a predicted one counts as wrong. A number is the label of its digits.
    ``known`` are the labels that can be predicted, if that is known. Raises `OptionError` for
    different lengths and for what is no label, `NoLabelsError` if no text has a true label.
    """
    labels, found = _to_labels("y_true", y_true), _to_labels("y_pred", y_pred)
    if len(labels) != len(found):
        raise OptionError(
            f"y_true and y_pred are of the same texts, but their lengths are {len(labels)} and "
            f"{len(found)}"
        )
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


def _to_labels(name: str, values: Iterable[object]) -> list[str | None]:
    what = f"{name} is a label for each text, such as the column df['label']"
    if isinstance(values, str):
        raise OptionError(f"{what}, not {format_value(values)}")
    items = to_list(values, what=what)
    if name == "y_pred":
        items = [each.label if isinstance(each, Prediction) else each for each in items]
    elif any(isinstance(each, Prediction) for each in items):
        raise OptionError("the true labels come first, and the predictions second")
    return [_to_label(name, item) for item in items]


def _to_label(name: str, value: object) -> str | None:
    """Return a label as an index would have it."""
    if is_missing(value):
        return None
    if isinstance(value, np.generic):
        value = value.item()
    check_type(value, (str, int, float), what=f"{name} has text or a number as a label")
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


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
