"""Which layer should I trust? Accuracy and F1 of neighbour classification at each layer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from layerdex.arguments import check_count, shown
from layerdex.errors import NoLabelsError, OptionError
from layerdex.records import LayerName, OnProgress, Vectors
from layerdex.search.classify import NO_LABEL, encode_labels, labels_of
from layerdex.search.evaluation import Choices, Evaluation, Method, VotesByLayer, summarize
from layerdex.search.fusion import Place, name_of, queries_at, vectors_at
from layerdex.search.neighbors import Neighbors, find_neighbors
from layerdex.search.scores import Codes
from layerdex.storage.snapshot import Facts
from layerdex.storage.vectors import VectorSource

_BLOCK = 4_096
_MAX_SPARE = 64
GetLayer = Callable[[int], VectorSource]
Prepare = Callable[[Place, Facts], Place]
"""Returns a place made ready with the documents that may vote, and no others."""


def evaluate_leave_one_out(
    get_layer: GetLayer,
    facts: Facts,
    choices: Choices,
    *,
    places: Sequence[Place],
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Classify each labelled document by all others, at each layer or fusion of layers.

    Documents with the same text as the held-out one never vote. Raises `NoLabelsError` unless
    at least two labels occur.
    """
    names, codes = two_labels(facts)
    votes = _held_out(
        lambda place, k: others_nearest(vectors_at(get_layer, place), facts, k),
        facts,
        codes,
        places=places,
        k=max(choices.ks),
        on_progress=on_progress,
    )
    return summarize(Method.LEAVE_ONE_OUT, votes, codes, names, choices)


def evaluate_on_folds(
    get_layer: GetLayer,
    facts: Facts,
    choices: Choices,
    *,
    n_folds: int | NDArray[np.int64],
    places: Sequence[Place],
    prepare: Prepare = lambda place, _: place,
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
    names, codes = two_labels(facts)
    if isinstance(n_folds, np.ndarray):
        folds = n_folds
    else:
        folds = split(codes, facts.content_groups, n_folds)
    votes = _held_out(
        lambda place, k: _other_folds(
            lambda voters: vectors_at(get_layer, prepare(place, voters)), facts, folds, k
        ),
        facts,
        codes,
        places=places,
        k=max(choices.ks),
        on_progress=on_progress,
    )
    return summarize(Method.FOLDS, votes, codes, names, choices, n_folds=len(np.unique(folds)))


def evaluate_on_test(
    get_layer: GetLayer,
    facts: Facts,
    choices: Choices,
    *,
    vectors: Mapping[int, Vectors],
    test_labels: Sequence[str],
    places: Sequence[Place],
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Classify test texts, whose ``vectors`` (n, width) are given by layer, by all documents.

    Raises `NoLabelsError` without labelled documents, without test texts, or where no label of
    theirs occurs among the documents.
    """
    if not len(facts.rows) or not len(test_labels):
        raise NoLabelsError("there are no labelled documents to vote, or none to be classified")
    _check_known(facts, test_labels)
    names, codes = encode_labels([*facts.labels, *test_labels])
    known, true = codes[: len(facts.rows)], codes[len(facts.rows) :]
    votes: dict[LayerName, tuple[Codes, NDArray[np.float32]]] = {}
    for place in places:
        source, queries = vectors_at(get_layer, place), queries_at(vectors, place)
        found = find_neighbors(source, queries, max(choices.ks), rows=facts.rows)
        labels = labels_of(found, facts.rows, known)
        votes[name_of(place)] = (labels, np.maximum(found.similarities, -1))
        if on_progress is not None:
            on_progress(len(votes), len(places))
    return summarize(Method.TEST, votes, true, names, choices)


def _check_known(facts: Facts, test_labels: Sequence[str]) -> None:
    known = set(facts.labels)
    if known.isdisjoint(test_labels):
        there = ", ".join(sorted(map(str, known))[:3])
        raise NoLabelsError(
            f"the index has no document with a label of the test set ({shown(test_labels[0])}, "
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


def two_labels(facts: Facts) -> tuple[tuple[str, ...], Codes]:
    """Return the labels' names and each document's code; `NoLabelsError` for fewer than two."""
    names, codes = encode_labels(facts.labels)
    if len(names) < 2:
        raise NoLabelsError(
            f"evaluation needs documents of at least two labels, not {len(names)}: "
            "index a source with a label field (see --label-field), or filter less (--where)"
        )
    return names, codes


def _held_out(
    find: Callable[[Place, int], Iterator[tuple[NDArray[np.int64], Neighbors]]],
    facts: Facts,
    codes: Codes,
    *,
    places: Sequence[Place],
    k: int,
    on_progress: OnProgress | None,
) -> VotesByLayer:
    """Return the votes on each document; ``find`` yields neighbours of blocks of them."""
    n_steps, done = len(facts.rows) * len(places), 0
    k = min(k, len(facts.rows))
    votes: dict[LayerName, tuple[Codes, NDArray[np.float32]]] = {}
    for place in places:
        labels = np.full((len(facts.rows), k), NO_LABEL, dtype=np.int64)
        similarities = np.full(labels.shape, -1, dtype=np.float32)
        for chosen, found in find(place, k):
            width = found.rows.shape[1]
            labels[chosen, :width] = labels_of(found, facts.rows, codes)
            similarities[chosen, :width] = np.maximum(found.similarities, -1)
            done += len(chosen)
            if on_progress is not None:
                on_progress(done, n_steps)
        votes[name_of(place)] = (labels, similarities)
    return votes


def _other_folds(
    source_of: Callable[[Facts], VectorSource], facts: Facts, folds: NDArray[np.int64], k: int
) -> Iterator[tuple[NDArray[np.int64], Neighbors]]:
    for fold in np.unique(folds):
        held_out, others = np.flatnonzero(folds == fold), facts.rows[folds != fold]
        layer = source_of(facts.among(np.flatnonzero(folds != fold).tolist()))
        for start in range(0, len(held_out), _BLOCK):
            block = held_out[start : start + _BLOCK]
            yield block, find_neighbors(layer, layer.gather(facts.rows[block]), k, rows=others)


def others_nearest(
    layer: VectorSource, facts: Facts, k: int
) -> Iterator[tuple[NDArray[np.int64], Neighbors]]:
    """Yield the k nearest documents with another text, for blocks of positions in ``facts``.

    The blocks, (n,) of distinct positions that together are all, depend on ``facts`` alone, so
    that those of several layers can be read side by side. Places without a neighbour come last
    and hold row -1.
    """
    groups = facts.content_groups
    group_sizes = np.bincount(groups)[groups]
    # Documents with as many repeats need as many spare neighbours; a large group is left out of
    # the search instead.
    n_spare = 1 << np.ceil(np.log2(group_sizes)).astype(np.int64)
    for group in np.unique(groups[n_spare > _MAX_SPARE]):
        others = facts.rows[groups != group]
        members = np.flatnonzero(groups == group)
        for start in range(0, len(members), _BLOCK):
            block = members[start : start + _BLOCK]
            yield block, find_neighbors(layer, layer.gather(facts.rows[block]), k, rows=others)
    for spare in np.unique(n_spare[n_spare <= _MAX_SPARE]):
        chosen = np.flatnonzero(n_spare == spare)
        for start in range(0, len(chosen), _BLOCK):
            block = chosen[start : start + _BLOCK]
            queries = layer.gather(facts.rows[block])
            found = find_neighbors(layer, queries, k + int(spare), rows=facts.rows)
            at = np.searchsorted(facts.rows, np.maximum(found.rows, facts.rows[0]))
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
