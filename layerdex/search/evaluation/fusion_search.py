"""Which layers are better together? Greedy forward selection, judged on documents it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from layerdex.choices import Fuse, Weights
from layerdex.errors import NoLabelsError
from layerdex.records import OnProgress
from layerdex.search.evaluation.classification import evaluate_on_folds, split, two_labels
from layerdex.search.evaluation.metrics import (
    METRICS,
    Codes,
    Interval,
    Scores,
    interval,
    resample,
    score,
)
from layerdex.search.evaluation.results import VotingOptions
from layerdex.search.knn.neighbors import find_neighbors
from layerdex.search.knn.vector_space import GetLayer, VectorSpace, layer_spaces
from layerdex.search.knn.voting import labels_of, vote
from layerdex.search.targets import SearchTarget
from layerdex.storage.snapshot import DocumentTable

_N_PARTS = 4  # one of them is held out
_N_FOLDS = 3
_LEAST_GAIN = 1e-4  # in macro-F1; less is noise of the folds


@dataclass(frozen=True, slots=True)
class Step:
    """Layers that were tried together, and their macro-F1 on the folds they were chosen by."""

    layers: tuple[int, ...]
    macro_f1: float


@dataclass(frozen=True, slots=True)
class FusionProposal:
    """A small set of layers, and whether it is better than the best single layer.

    ``steps`` are the layers taken one by one. Of the ``n`` documents, ``n_held_out`` chose
    neither ``layers`` nor ``single``: on these ``fused`` and ``alone`` are measured, and ``gain``
    is the difference of macro-F1, with the paired bootstrap's 95 % interval.
    """

    layers: tuple[int, ...]
    single: int
    steps: tuple[Step, ...]
    n: int
    n_held_out: int
    fused: Scores
    alone: Scores
    gain: float
    gain_interval: Interval


def propose_fusion(
    get_layer: GetLayer,
    table: DocumentTable,
    choices: VotingOptions,
    *,
    layers: Sequence[int],
    on_progress: OnProgress | None = None,
) -> FusionProposal:
    """Choose layers whose vectors side by side predict labels best (`Fuse.CONCAT`, even weights).

    A quarter of the documents is held out. On three folds of the others, selection begins with
    the best layer and adds the one that raises macro-F1 most, as long as one does (greedy forward
    selection: Kohavi and John, *Artificial Intelligence* 97, 1997). Raises `NoLabelsError` where
    the documents have fewer than two labels.
    """
    _, codes = two_labels(table)
    parts = split(codes, table.content_groups, min(_N_PARTS, len(np.unique(table.content_groups))))
    chosen_by, held_out = np.flatnonzero(parts != 0), np.flatnonzero(parts == 0)
    if not len(chosen_by) or not len(held_out):
        raise NoLabelsError("there are too few documents to hold some out")
    steps = _select(get_layer, table.take(chosen_by.tolist()), choices, layers, on_progress)
    best, last = steps[0].layers[0], steps[-1].layers
    predictions = [
        _predict(get_layer, table, codes, space, choices, chosen_by=chosen_by, held_out=held_out)
        for space in (_together(last), _together((best,)))
    ]
    true = codes[held_out]
    fused, alone = (score(true, predicted) for predicted in predictions)
    resampled = resample(true, predictions, n_resamples=max(choices.n_resamples, 1))
    macro_f1 = resampled[:, METRICS.index("macro_f1")]
    return FusionProposal(
        layers=last,
        single=best,
        steps=tuple(steps),
        n=len(codes),
        n_held_out=len(held_out),
        fused=fused,
        alone=alone,
        gain=fused.macro_f1 - alone.macro_f1,
        gain_interval=interval(macro_f1[0] - macro_f1[1]),
    )


def _select(
    get_layer: GetLayer,
    table: DocumentTable,
    choices: VotingOptions,
    layers: Sequence[int],
    on_progress: OnProgress | None,
) -> list[Step]:
    choices = replace(choices, ks=choices.ks[:1], weights=choices.weights[:1], n_resamples=0)
    steps: list[Step] = []
    n_tried, n_most = 0, len(layers) * (len(layers) + 1) // 2
    while len(steps) < len(layers):
        taken = steps[-1].layers if steps else ()
        tried = []
        for layer in sorted(set(layers) - set(taken)):
            together = tuple(sorted({*taken, layer}))
            tried.append(Step(together, _on_folds(get_layer, table, choices, _together(together))))
            n_tried += 1
            if on_progress is not None:
                on_progress(n_tried, n_most)
        best = max(tried, key=lambda step: step.macro_f1)  # a tie goes to the shallower
        if steps and best.macro_f1 < steps[-1].macro_f1 + _LEAST_GAIN:
            break
        steps.append(best)
    if on_progress is not None:
        on_progress(n_most, n_most)
    return steps


def _on_folds(
    get_layer: GetLayer, table: DocumentTable, choices: VotingOptions, space: VectorSpace
) -> float:
    n_folds = min(_N_FOLDS, len(np.unique(table.content_groups)))
    # The best layer of an evaluation is a single one, so the fused vectors stand in for layer 0.
    evaluation = evaluate_on_folds(
        lambda _: space.vectors(get_layer),
        table,
        choices,
        n_folds=n_folds,
        spaces=layer_spaces([0]),
    )
    return evaluation.best.macro_f1


def _together(layers: tuple[int, ...]) -> VectorSpace:
    if len(layers) == 1:
        return VectorSpace(SearchTarget(layers))
    return VectorSpace(SearchTarget(layers, Fuse.CONCAT, (1.0,) * len(layers)))


def _predict(
    get_layer: GetLayer,
    table: DocumentTable,
    codes: Codes,
    space: VectorSpace,
    choices: VotingOptions,
    *,
    chosen_by: Codes,
    held_out: Codes,
) -> Codes:
    source = space.vectors(get_layer)
    queries, labelled_neighbors = source.gather(table.rows[held_out]), table.rows[chosen_by]
    found = find_neighbors(source, queries, choices.ks[0], rows=labelled_neighbors)
    weights: Weights = choices.weights[0]
    return vote(
        labels_of(found, labelled_neighbors, codes[chosen_by]), found.similarities, weights
    ).labels
