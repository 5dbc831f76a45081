"""Which layer should I trust? Accuracy and F1 of neighbour classification at each layer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from layerdex.arguments import check_count, format_value
from layerdex.errors import NoLabelsError, OptionError
from layerdex.records import LayerName, OnProgress, Vectors
from layerdex.search.evaluation.metrics import Codes
from layerdex.search.evaluation.results import (
    Evaluation,
    Method,
    VotesByLayer,
    VotingOptions,
    summarize,
)
from layerdex.search.knn.neighbors import Neighbors, find_neighbors
from layerdex.search.knn.vector_space import GetLayer, VectorSpace
from layerdex.search.knn.voting import NO_LABEL, encode_labels, labels_of
from layerdex.storage.snapshot import DocumentTable
from layerdex.storage.vectors.layer_vectors import VectorSource

_BLOCK = 4_096
_MAX_SPARE = 64
Prepare = Callable[[VectorSpace, DocumentTable], VectorSpace]
"""Returns a space made ready with the documents that may vote, and no others."""


def evaluate_leave_one_out(
    get_layer: GetLayer,
    table: DocumentTable,
    choices: VotingOptions,
    *,
    spaces: Sequence[VectorSpace],
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Classify each labelled document by all others, at each layer or fusion of layers.

    Documents with the same text as the held-out one never vote. Raises `NoLabelsError` unless
    at least two labels occur.
    """
    names, codes = two_labels(table)
    votes = _held_out(
        lambda space, k: nearest_with_other_text(space.vectors(get_layer), table, k),
        table,
        codes,
        spaces=spaces,
        k=max(choices.ks),
        on_progress=on_progress,
    )
    return summarize(Method.LEAVE_ONE_OUT, votes, codes, names, choices)


def evaluate_on_folds(
    get_layer: GetLayer,
    table: DocumentTable,
    choices: VotingOptions,
    *,
    n_folds: int | NDArray[np.int64],
    spaces: Sequence[VectorSpace],
    prepare: Prepare = lambda space, _: space,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Classify the labelled documents of each fold by those of the other folds.

    ``n_folds`` is a number, or the fold of each document, (n,), where that is known already.
    ``prepare`` is called for each fold with those of the others.

    Folds have about the same share of each label, and documents with the same text are in the
    same fold (scikit-learn's ``StratifiedGroupKFold``, shuffled with seed 0). Raises
    `NoLabelsError` unless at least two labels occur, `OptionError` for fewer than 2 folds or more
    than there are texts.
    """
    names, codes = two_labels(table)
    if isinstance(n_folds, np.ndarray):
        folds = n_folds
    else:
        folds = split(codes, table.content_groups, n_folds)
    votes = _held_out(
        lambda space, k: _other_folds(
            lambda voters: prepare(space, voters).vectors(get_layer),
            table,
            folds,
            k,
        ),
        table,
        codes,
        spaces=spaces,
        k=max(choices.ks),
        on_progress=on_progress,
    )
    return summarize(Method.FOLDS, votes, codes, names, choices, n_folds=len(np.unique(folds)))


def evaluate_on_test(
    get_layer: GetLayer,
    table: DocumentTable,
    choices: VotingOptions,
    *,
    vectors: Mapping[int, Vectors],
    test_labels: Sequence[str],
    spaces: Sequence[VectorSpace],
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Classify test texts, whose ``vectors`` (n, width) are given by layer, by all documents.

    Raises `NoLabelsError` without labelled documents, without test texts, or where no label of
    theirs occurs among the documents.
    """
    if not len(table.rows) or not len(test_labels):
        raise NoLabelsError("there are no labelled documents to vote, or none to be classified")
    _check_known(table, test_labels)
    names, codes = encode_labels([*table.labels, *test_labels])
    known, true = codes[: len(table.rows)], codes[len(table.rows) :]
    votes: dict[LayerName, tuple[Codes, NDArray[np.float32]]] = {}
    for space in spaces:
        source, queries = space.vectors(get_layer), space.queries(vectors)
        found = find_neighbors(source, queries, max(choices.ks), rows=table.rows)
        labels = labels_of(found, table.rows, known)
        votes[space.name] = (labels, np.maximum(found.similarities, -1))
        if on_progress is not None:
            on_progress(len(votes), len(spaces))
    return summarize(Method.TEST, votes, true, names, choices)


def _check_known(table: DocumentTable, test_labels: Sequence[str]) -> None:
    known = set(table.labels)
    if known.isdisjoint(test_labels):
        there = ", ".join(sorted(map(str, known))[:3])
        raise NoLabelsError(
            "the index has no document with a label of the test set "
            f"({format_value(test_labels[0])}, "
            f"...): the index has {there}, ..."
        )


def split(codes: Codes, groups: NDArray[np.int64], n_folds: int) -> NDArray[np.int64]:
    """Return the fold of each document, (n,) from 0; see `evaluate_on_folds`."""
    from sklearn.model_selection import StratifiedGroupKFold

    n_texts = len(np.unique(groups))
    if not 2 <= check_count("folds", n_folds) <= n_texts:
        raise OptionError(f"{n_folds} folds of {n_texts} texts cannot be made: take 2 to {n_texts}")
    if (most := int(np.bincount(codes).max())) < n_folds:
        raise OptionError(
            f"{n_folds} folds need a label with as many documents, and the most frequent here has "
            f"{most}: index more, or take fewer folds"
        )
    folds = np.empty(len(codes), dtype=np.int64)
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        # A label with fewer documents than folds is missing from some folds, and may be.
        warnings.simplefilter("ignore", UserWarning)
        for i, (_, held_out) in enumerate(splitter.split(codes, codes, groups)):
            folds[held_out] = i
    return folds


def two_labels(table: DocumentTable) -> tuple[tuple[str, ...], Codes]:
    """Return the labels' names and each document's code; `NoLabelsError` for fewer than two."""
    names, codes = encode_labels(table.labels)
    if len(names) < 2:
        raise NoLabelsError(
            f"evaluation needs documents of at least two labels, not {len(names)}: "
            "index a source with a label field (see --label-field), or filter less (--where)"
        )
    return names, codes


def _held_out(
    find: Callable[[VectorSpace, int], Iterator[tuple[NDArray[np.int64], Neighbors]]],
    table: DocumentTable,
    codes: Codes,
    *,
    spaces: Sequence[VectorSpace],
    k: int,
    on_progress: OnProgress | None,
) -> VotesByLayer:
    """Return the votes on each document; ``find`` yields neighbours of blocks of them."""
    n_steps, done = len(table.rows) * len(spaces), 0
    k = min(k, len(table.rows))
    votes: dict[LayerName, tuple[Codes, NDArray[np.float32]]] = {}
    for space in spaces:
        labels = np.full((len(table.rows), k), NO_LABEL, dtype=np.int64)
        similarities = np.full(labels.shape, -1, dtype=np.float32)
        for chosen, found in find(space, k):
            width = found.rows.shape[1]
            labels[chosen, :width] = labels_of(found, table.rows, codes)
            similarities[chosen, :width] = np.maximum(found.similarities, -1)
            done += len(chosen)
            if on_progress is not None:
                on_progress(done, n_steps)
        votes[space.name] = (labels, similarities)
    return votes


def _other_folds(
    source_of: Callable[[DocumentTable], VectorSource],
    table: DocumentTable,
    folds: NDArray[np.int64],
    k: int,
) -> Iterator[tuple[NDArray[np.int64], Neighbors]]:
    for fold in np.unique(folds):
        held_out, others = np.flatnonzero(folds == fold), table.rows[folds != fold]
        layer = source_of(table.take(np.flatnonzero(folds != fold).tolist()))
        for start in range(0, len(held_out), _BLOCK):
            block = held_out[start : start + _BLOCK]
            yield block, find_neighbors(layer, layer.gather(table.rows[block]), k, rows=others)


def nearest_with_other_text(
    layer: VectorSource, table: DocumentTable, k: int
) -> Iterator[tuple[NDArray[np.int64], Neighbors]]:
    """Yield the k nearest documents with another text, for blocks of positions in ``table``.

    The blocks, (n,) of distinct positions that together are all, depend on ``table`` alone, so
    that those of several layers can be read side by side. Places without a neighbour come last
    and hold row -1.
    """
    groups = table.content_groups
    group_sizes = np.bincount(groups)[groups]
    # Documents with as many repeats need as many spare neighbours; a large group is left out of
    # the search instead.
    n_spare = 1 << np.ceil(np.log2(group_sizes)).astype(np.int64)
    for group in np.unique(groups[n_spare > _MAX_SPARE]):
        others = table.rows[groups != group]
        members = np.flatnonzero(groups == group)
        for start in range(0, len(members), _BLOCK):
            block = members[start : start + _BLOCK]
            yield block, find_neighbors(layer, layer.gather(table.rows[block]), k, rows=others)
    for spare in np.unique(n_spare[n_spare <= _MAX_SPARE]):
        chosen = np.flatnonzero(n_spare == spare)
        for start in range(0, len(chosen), _BLOCK):
            block = chosen[start : start + _BLOCK]
            queries = layer.gather(table.rows[block])
            found = find_neighbors(layer, queries, k + int(spare), rows=table.rows)
            at = np.searchsorted(table.rows, np.maximum(found.rows, table.rows[0]))
            same = (groups[at] == groups[block][:, None]) | (found.rows < 0)
            first = np.argsort(same, axis=1, kind="stable")[:, :k]
            rows = np.where(same, -1, found.rows)
            yield (
                block,
                Neighbors(
                    np.take_along_axis(rows, first, axis=1),
                    np.take_along_axis(found.similarities, first, axis=1),
                ),
            )
