"""How well neighbours predict labels: leave-one-out, on folds, or on a test set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from layerdex.arguments import format_value
from layerdex.errors import NoLabelsError
from layerdex.records import OnProgress, Vectors, progress_of_parts, progress_of_shares
from layerdex.search.evaluation.evaluation import Classification, Evaluation, Method
from layerdex.search.evaluation.folds import assign_folds, two_labels
from layerdex.search.evaluation.held_out import (
    Positions,
    Prepare,
    nearest_in_other_folds,
    nearest_of_sample,
    nearest_with_other_text,
)
from layerdex.search.evaluation.label_sample import LabelSample, draw_sample
from layerdex.search.evaluation.metrics import resample_ns
from layerdex.search.evaluation.vote_scores import (
    NeighborVotes,
    PredictedLabels,
    VotingOptions,
    count_votes,
    score_predictions,
)
from layerdex.search.knn.neighbors import Neighbors, find_neighbors
from layerdex.search.knn.tiles.costs import others_ns, queries_ns
from layerdex.search.knn.vector_space import GetLayer, VectorSpace
from layerdex.search.knn.voting import NO_LABEL, encode_labels, labels_of
from layerdex.search.targets import SearchTarget
from layerdex.storage.snapshot import DocumentTable

Blocks = Iterator[tuple[SearchTarget, Positions, Neighbors]]
"""Positions of held-out documents, and their neighbours at a target."""


def evaluate_leave_one_out(
    get_layer: GetLayer,
    table: DocumentTable,
    options: VotingOptions,
    *,
    spaces: Sequence[VectorSpace],
    n_sampled: int | None = None,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Classify each labelled document by all others, at each space.

    Documents with the same text as the held-out one never vote. With ``n_sampled``, only that many
    are classified, the same at each space, drawn by `draw_sample` with ``seed``; figures are then
    estimates for all. Raises `NoLabelsError` for fewer than two labels, `OptionError` as
    `draw_sample` does.
    """
    names, codes = two_labels(table)
    sample = None if n_sampled is None else draw_sample(codes, n_sampled, seed=seed)
    true = codes if sample is None else sample.true
    n_predictions = len(spaces) * len(options.ks) * len(options.weights)
    score_ns = resample_ns(len(true), n_predictions, options.n_resamples)
    search_ns = 0.0
    if on_progress is not None:
        n, width = len(codes), spaces[0].vectors(get_layer).width
        search_ns = others_ns(n, width) if sample is None else queries_ns(len(sample), n, width)
    told = progress_of_shares(
        on_progress, (len(spaces) * search_ns, score_ns), len(spaces) * len(codes)
    )
    predictions = predict_leave_one_out(
        get_layer, table, options, spaces=spaces, sample=sample, on_progress=told[0]
    )
    classification = Classification(Method.LEAVE_ONE_OUT, names, true, sample=sample)
    return score_predictions(
        predictions, classification, n_resamples=options.n_resamples, on_progress=told[1]
    )


def evaluate_on_folds(
    get_layer: GetLayer,
    table: DocumentTable,
    options: VotingOptions,
    *,
    n_folds: int,
    spaces: Sequence[VectorSpace],
    prepare: Prepare = lambda space, _: space,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Classify the labelled documents of each fold by those of the other folds, at each space.

    Folds are those of `assign_folds`. ``prepare`` is called for each space and fold with the
    documents of the other folds. Raises `NoLabelsError` for fewer than two labels, `OptionError`
    as `assign_folds` does.
    """
    names, codes = two_labels(table)
    predictions = predict_on_folds(
        get_layer,
        table,
        options,
        folds=assign_folds(codes, table.content_groups, n_folds),
        spaces=spaces,
        prepare=prepare,
        on_progress=on_progress,
    )
    classification = Classification(Method.FOLDS, names, codes, n_folds)
    return score_predictions(predictions, classification, n_resamples=options.n_resamples)


def evaluate_on_test(
    get_layer: GetLayer,
    table: DocumentTable,
    options: VotingOptions,
    *,
    vectors: Mapping[int, Vectors],
    test_labels: Sequence[str],
    spaces: Sequence[VectorSpace],
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Classify n test texts by all labelled documents, at each space.

    ``vectors`` are those of the test texts by layer, (n, width). Raises `NoLabelsError` without
    labelled documents, without test texts, or if no test label occurs among the documents.
    """
    if not len(table.rows) or not len(test_labels):
        raise NoLabelsError("a test set needs at least one text, and labelled documents to vote")
    _check_shared_label(table, test_labels)
    names, codes = encode_labels([*table.labels, *test_labels])
    known, true = codes[: len(table.rows)], codes[len(table.rows) :]
    votes: list[NeighborVotes] = []
    for tell, space in zip(progress_of_parts(on_progress, len(spaces)), spaces, strict=True):
        source, queries = space.vectors(get_layer), space.queries(vectors)
        neighbors = find_neighbors(
            source, queries, max(options.ks), rows=table.rows, on_progress=tell
        )
        labels = labels_of(neighbors, table.rows, known)
        votes.append(NeighborVotes(space.target, labels, np.maximum(neighbors.similarities, -1)))
        if tell is not None:
            tell(len(queries), len(queries))
    return score_predictions(
        count_votes(votes, options),
        Classification(Method.TEST, names, true),
        n_resamples=options.n_resamples,
    )


def predict_leave_one_out(
    get_layer: GetLayer,
    table: DocumentTable,
    options: VotingOptions,
    *,
    spaces: Sequence[VectorSpace],
    sample: LabelSample | None = None,
    on_progress: OnProgress | None = None,
) -> list[PredictedLabels]:
    """Return the labels predicted by `evaluate_leave_one_out`.

    They are in the order of ``table``, or of ``sample``.
    """

    def find(space: VectorSpace, k: int, on_progress: OnProgress | None) -> Blocks:
        source = space.vectors(get_layer)
        if sample is None:
            blocks = nearest_with_other_text(source, table, k, on_progress=on_progress)
        else:
            blocks = nearest_of_sample(source, table, sample.positions, k, on_progress=on_progress)
        for positions, neighbors in blocks:
            yield space.target, positions, neighbors

    n = len(table.rows) if sample is None else len(sample)
    return _predict(find, table, n, options, spaces, on_progress)


def predict_on_folds(
    get_layer: GetLayer,
    table: DocumentTable,
    options: VotingOptions,
    *,
    folds: NDArray[np.int64],
    spaces: Sequence[VectorSpace],
    prepare: Prepare = lambda space, _: space,
    on_progress: OnProgress | None = None,
) -> list[PredictedLabels]:
    """Return the labels predicted by `evaluate_on_folds`, in the order of ``table``.

    ``folds`` (n,) has the fold of each document.
    """

    def find(space: VectorSpace, k: int, on_progress: OnProgress | None) -> Blocks:
        return nearest_in_other_folds(
            get_layer, table, folds, k, space=space, prepare=prepare, on_progress=on_progress
        )

    return _predict(find, table, len(table.rows), options, spaces, on_progress)


def _check_shared_label(table: DocumentTable, test_labels: Sequence[str]) -> None:
    known = set(table.labels)
    if known.isdisjoint(test_labels):
        some = ", ".join(sorted(map(str, known))[:3])
        raise NoLabelsError(
            "no label of the test set occurs in the index: the test set has "
            f"{format_value(test_labels[0])}, ..., the index has {some}, ..."
        )


def _predict(
    find: Callable[[VectorSpace, int, OnProgress | None], Blocks],
    table: DocumentTable,
    n: int,
    options: VotingOptions,
    spaces: Sequence[VectorSpace],
    on_progress: OnProgress | None,
) -> list[PredictedLabels]:
    """Let the neighbours vote that ``find`` yields for blocks of n held-out documents."""
    _, codes = encode_labels(table.labels)
    shape = (n, min(max(options.ks), len(codes)))
    votes: list[NeighborVotes] = []
    for tell, space in zip(progress_of_parts(on_progress, len(spaces)), spaces, strict=True):
        target = space.target
        labels = np.full(shape, NO_LABEL, dtype=np.int64)
        similarities = np.full(shape, -1, dtype=np.float32)
        for prepared, positions, neighbors in find(space, max(options.ks), tell):
            target, width = prepared, neighbors.rows.shape[1]
            labels[positions, :width] = labels_of(neighbors, table.rows, codes)
            similarities[positions, :width] = np.maximum(neighbors.similarities, -1)
        votes.append(NeighborVotes(target, labels, similarities))
    return count_votes(votes, options)
