"""How well neighbours predict the labels of the same documents in two indexes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from layerdex.records import OnProgress
from layerdex.search.evaluation.classification import predict_leave_one_out, predict_on_folds
from layerdex.search.evaluation.evaluation import Classification, Evaluation, Method
from layerdex.search.evaluation.folds import assign_folds, two_labels
from layerdex.search.evaluation.vote_scores import PredictedLabels, VotingOptions, score_predictions
from layerdex.search.knn.vector_space import GetLayer, VectorSpace
from layerdex.storage.snapshot import DocumentTable


@dataclass(frozen=True, slots=True)
class Side:
    """One of two indexes: its vectors, the shared documents, and the spaces to evaluate."""

    get_layer: GetLayer
    table: DocumentTable
    spaces: Sequence[VectorSpace]


def evaluate_both(
    first: Side,
    second: Side,
    options: VotingOptions,
    *,
    n_folds: int | None,
    on_progress: OnProgress | None = None,
) -> tuple[Evaluation, Evaluation]:
    """Evaluate two indexes whose tables have the same documents, in any order.

    Only the first k and weighting count. Without ``n_folds`` each document is left out, otherwise
    both indexes have the same folds. Both evaluations are in the order of the first table, so
    that their resamples are paired. Raises `NoLabelsError` for fewer than two labels.
    """
    options = replace(options, ks=options.ks[:1], weights=options.weights[:1])
    names, codes = two_labels(first.table)
    positions = {document_id: i for i, document_id in enumerate(first.table.ids)}
    order = np.array([positions[each] for each in second.table.ids], dtype=np.int64)
    folds = None if n_folds is None else assign_folds(codes, first.table.content_groups, n_folds)
    method = Method.LEAVE_ONE_OUT if folds is None else Method.FOLDS
    classification = Classification(method, names, codes, n_folds)
    n_spaces, n = len(first.spaces) + len(second.spaces), len(codes)

    def progress_from(n_done: int) -> OnProgress | None:
        if on_progress is None:
            return None
        return lambda done, _: on_progress(n_done * n + done, n_spaces * n)

    of_first = _predict(first, options, folds, progress_from(0))
    of_second = _predict(
        second,
        options,
        None if folds is None else folds[order],
        progress_from(len(first.spaces)),
    )
    back = np.argsort(order)
    of_second = [replace(each, codes=each.codes[back]) for each in of_second]
    n_resamples = options.n_resamples
    return (
        score_predictions(of_first, classification, n_resamples=n_resamples),
        score_predictions(of_second, classification, n_resamples=n_resamples),
    )


def _predict(
    side: Side,
    options: VotingOptions,
    folds: NDArray[np.int64] | None,
    on_progress: OnProgress | None,
) -> list[PredictedLabels]:
    documents = (side.get_layer, side.table, options)
    if folds is None:
        return predict_leave_one_out(*documents, spaces=side.spaces, on_progress=on_progress)
    return predict_on_folds(*documents, folds=folds, spaces=side.spaces, on_progress=on_progress)
