"""Which layer should I trust? Accuracy and macro-F1 of neighbour classification at each layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from layerdex.arguments import check_count, shown
from layerdex.errors import NoLabelsError, OptionError
from layerdex.records import OnProgress, Vectors, Weights
from layerdex.search.classify import NO_LABEL, encode_labels, labels_of, vote
from layerdex.search.neighbors import Neighbors, find_neighbors
from layerdex.storage.snapshot import Facts
from layerdex.storage.vectors import LayerVectors

_BLOCK = 4_096
_MAX_SPARE = 64
GetLayer = Callable[[int], LayerVectors]


class Method(StrEnum):
    """What was classified: each document by the others, or a test set."""

    LEAVE_ONE_OUT = "leave-one-out"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class LayerResult:
    """How well k neighbours at a layer predict labels; ``predicted`` (n,) are label codes."""

    layer: int
    k: int
    accuracy: float
    macro_f1: float
    predicted: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Results for each layer and k; ``true`` (n,) are codes into ``label_names``.

    ``best_layer`` has the highest macro-F1 at the first k; a tie goes to the shallower layer.
    """

    method: Method
    n: int
    results: tuple[LayerResult, ...]
    best_layer: int
    true: NDArray[np.int64]
    label_names: tuple[str, ...]

    def result(self, layer: int, k: int) -> LayerResult:
        """Return the result for a layer and a k; `OptionError` if they were not evaluated."""
        for one in self.results:
            if (one.layer, one.k) == (layer, k):
                return one
        raise OptionError(f"layer {shown(layer)} was not evaluated with k = {shown(k)}")

    def report(self, layer: int, k: int) -> str:
        """Return scikit-learn's classification report for a layer and k."""
        from sklearn.metrics import classification_report

        names = np.array([*self.label_names, "(none)"])
        predicted = names[self.result(layer, k).predicted]
        text: str = classification_report(
            names[self.true], predicted, labels=sorted(set(names[self.true])), zero_division=0
        )
        return text


def evaluate_leave_one_out(
    get_layer: GetLayer,
    facts: Facts,
    *,
    layers: Sequence[int],
    ks: Sequence[int],
    weights: Weights,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Classify each labelled document by all others, at each layer and for each k.

    Documents with the same text as the held-out one never vote. Raises `NoLabelsError` unless
    at least two labels occur, `OptionError` for a k below 1.
    """
    _check_ks(ks)
    names, codes = encode_labels(facts.labels)
    if len(names) < 2:
        raise NoLabelsError(
            f"evaluation needs documents of at least two labels, not {len(names)}: "
            "index a source with a label field (see --label-field)"
        )
    n_steps, done = len(facts.rows) * len(layers), 0
    neighbor_labels: dict[int, tuple[NDArray[np.int64], NDArray[np.float32]]] = {}
    for layer in layers:
        k = min(max(ks), len(facts.rows))
        labels = np.full((len(facts.rows), k), NO_LABEL, dtype=np.int64)
        similarities = np.full(labels.shape, -1, dtype=np.float32)
        for chosen, found in _others(get_layer(layer), facts, k):
            width = found.rows.shape[1]
            labels[chosen, :width] = labels_of(found, facts.rows, codes)
            similarities[chosen, :width] = np.maximum(found.similarities, -1)
            done += len(chosen)
            if on_progress is not None:
                on_progress(done, n_steps)
        neighbor_labels[layer] = (labels, similarities)
    return _summarize(Method.LEAVE_ONE_OUT, neighbor_labels, codes, names, ks, weights)


def evaluate_on_test(
    get_layer: GetLayer,
    facts: Facts,
    *,
    vectors: Mapping[int, Vectors],
    test_labels: Sequence[str],
    ks: Sequence[int],
    weights: Weights,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Classify test texts, whose ``vectors`` (n, width) are given by layer, by all documents.

    Raises `NoLabelsError` without labelled documents or without test texts, `OptionError` for a
    k below 1.
    """
    _check_ks(ks)
    if not len(facts.rows) or not len(test_labels):
        raise NoLabelsError("there are no labelled documents to vote, or none to be classified")
    names, codes = encode_labels([*facts.labels, *test_labels])
    known, true = codes[: len(facts.rows)], codes[len(facts.rows) :]
    neighbor_labels = {}
    for layer, queries in vectors.items():
        found = find_neighbors(get_layer(layer), queries, max(ks), rows=facts.rows)
        labels = labels_of(found, facts.rows, known)
        neighbor_labels[layer] = (labels, np.maximum(found.similarities, -1))
        if on_progress is not None:
            on_progress(len(neighbor_labels), len(vectors))
    return _summarize(Method.TEST, neighbor_labels, true, names, ks, weights)


def _check_ks(ks: Sequence[int]) -> None:
    if not ks:
        raise OptionError("give at least one k")
    for k in ks:
        check_count("k", k)


def _others(
    layer: LayerVectors, facts: Facts, k: int
) -> Iterator[tuple[NDArray[np.int64], Neighbors]]:
    """Yield the k nearest documents with another text, for blocks of positions in ``facts``."""
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


def _summarize(
    method: Method,
    neighbor_labels: Mapping[int, tuple[NDArray[np.int64], NDArray[np.float32]]],
    true: NDArray[np.int64],
    names: tuple[str, ...],
    ks: Sequence[int],
    weights: Weights,
) -> Evaluation:
    from sklearn.metrics import f1_score

    results = []
    for layer, (labels, similarities) in neighbor_labels.items():
        for k in ks:
            predicted = vote(labels[:, :k], similarities[:, :k], weights).labels
            occurring = np.setdiff1d(np.union1d(true, predicted), [NO_LABEL])
            macro_f1 = f1_score(true, predicted, labels=occurring, average="macro", zero_division=0)
            accuracy = float(np.mean(true == predicted))
            results.append(LayerResult(layer, k, accuracy, float(macro_f1), predicted))
    best = max((one for one in results if one.k == ks[0]), key=lambda r: (r.macro_f1, -r.layer))
    return Evaluation(method, len(true), tuple(results), best.layer, true, names)
