"""Two indexes of the same documents, compared by the labels that neighbours predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from layerdex.errors import OptionError
from layerdex.records import LayerName, OnProgress
from layerdex.search.evaluation.classification import (
    evaluate_leave_one_out,
    evaluate_on_folds,
    split,
    two_labels,
)
from layerdex.search.evaluation.measurement import Measurement, Resampled, Subject, measure
from layerdex.search.evaluation.metrics import METRICS, resample
from layerdex.search.evaluation.results import Evaluation, VotingOptions
from layerdex.search.knn.vector_space import GetLayer, VectorSpace
from layerdex.storage.snapshot import DocumentTable

LABEL_METRICS = ("macro_f1", "accuracy", "weighted_f1")
_ORDER = [METRICS.index(name) for name in LABEL_METRICS]


@dataclass(frozen=True, slots=True)
class Side:
    """One of the indexes: its vectors, the documents compared, and where to measure."""

    get_layer: GetLayer
    table: DocumentTable
    spaces: Sequence[VectorSpace]


@dataclass(frozen=True, slots=True)
class Matched:
    """The documents that two indexes share, and how many of each were left out."""

    first: DocumentTable
    second: DocumentTable
    n_only: tuple[int, int]
    n_changed: int


def match(first: DocumentTable, second: DocumentTable, *, by_label: bool) -> Matched:
    """Match documents by id; those in only one index are left out, and so are changed ones.

    Changed is another text or, with ``by_label``, another label. Raises `OptionError` where nothing
    is shared.
    """
    of_second = {identifier: i for i, identifier in enumerate(second.ids)}
    shared = [(i, of_second[one]) for i, one in enumerate(first.ids) if one in of_second]
    same = [
        (i, j)
        for i, j in shared
        if first.content_hashes[i] == second.content_hashes[j]
        and not (by_label and first.labels[i] != second.labels[j])
    ]
    if not same:
        raise OptionError("the two indexes have no document in common (they are matched by id)")
    n_shared = len(shared)
    return Matched(
        first.take([i for i, _ in same]),
        second.take(sorted(j for _, j in same)),
        (len(first.ids) - n_shared, len(second.ids) - n_shared),
        n_shared - len(same),
    )


def measure_labels(
    first: Side,
    second: Side,
    choices: VotingOptions,
    *,
    n_folds: int | None,
    on_progress: OnProgress | None = None,
) -> tuple[Measurement, Measurement]:
    """Measure two indexes whose table are those of the same documents, in any order.

    Both are held out alike, in the same folds, and resampled alike. Raises `NoLabelsError` unless
    there are two labels.
    """
    _, codes = two_labels(first.table)
    spaces = {identifier: i for i, identifier in enumerate(first.table.ids)}
    order = np.array([spaces[one] for one in second.table.ids], dtype=np.int64)
    folds = None if n_folds is None else split(codes, first.table.content_groups, n_folds)
    n_first, n_total = len(first.spaces), len(first.spaces) + len(second.spaces)
    n = len(codes)

    def tell(start: int) -> OnProgress | None:
        if on_progress is None:
            return None
        return lambda done, _: on_progress(start * n + done, n_total * n)

    one = _evaluate(first, choices, folds, tell(0))
    other = _evaluate(second, choices, None if folds is None else folds[order], tell(n_first))
    back = np.argsort(order)
    same_order = np.arange(n)
    return (
        _measurement(one, same_order, codes, choices.n_resamples),
        _measurement(other, back, codes, choices.n_resamples),
    )


def _evaluate(
    side: Side,
    choices: VotingOptions,
    folds: NDArray[np.int64] | None,
    on_progress: OnProgress | None,
) -> Evaluation:
    choices = replace(choices, ks=choices.ks[:1], weights=choices.weights[:1], n_resamples=0)
    given = (side.get_layer, side.table, choices)
    if folds is None:
        return evaluate_leave_one_out(*given, spaces=side.spaces, on_progress=on_progress)
    return evaluate_on_folds(*given, n_folds=folds, spaces=side.spaces, on_progress=on_progress)


def _measurement(
    evaluation: Evaluation,
    order: NDArray[np.int64],
    codes: NDArray[np.int64],
    n_resamples: int,
) -> Measurement:
    """Put predictions in the first index's order, where resamples of both draw alike."""
    predictions = [one.predicted[order] for one in evaluation.results]
    resamples = resample(codes, predictions, n_resamples=n_resamples)[:, _ORDER]
    resampled: dict[LayerName, Resampled] = {
        one.layer: Resampled(np.array([getattr(one, name) for name in LABEL_METRICS]), resamples[i])
        for i, one in enumerate(evaluation.results)
    }
    return measure(Subject.LABELS, resampled, metrics=LABEL_METRICS, n=len(codes))
