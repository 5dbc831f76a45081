"""What can a linear head read at each layer? Beside what neighbours say there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from layerdex.records import OnProgress
from layerdex.search.evaluation.classification import evaluate_on_folds, split, two_labels
from layerdex.search.evaluation.metrics import METRICS, Codes, Interval, interval, resample, score
from layerdex.search.evaluation.results import Evaluation, VotingOptions
from layerdex.search.knn.vector_space import GetLayer, layer_spaces
from layerdex.search.labels.head import Head, HeldOut, cross_validate, fit_head
from layerdex.storage.snapshot import DocumentTable


@dataclass(frozen=True, slots=True)
class LayerProbe:
    """How well a head at a layer predicts labels of folds that it was not fitted on.

    ``log_loss`` (nats) is that of the calibrated probabilities; ``predicted`` (n,) are codes.
    """

    layer: int
    c: float
    temperature: float
    accuracy: float
    macro_f1: float
    log_loss: float
    predicted: Codes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Probe:
    """Heads at each layer, beside neighbours on the same folds (``neighbors``).

    ``best_layer`` has the highest macro-F1; a tie goes to the shallower. ``head`` is fitted there
    on all ``n`` documents. ``gain`` is its macro-F1 on the folds less that of the neighbours at
    their own best layer, with the paired bootstrap's 95 % interval. ``fingerprint`` is the index's.
    """

    n: int
    n_folds: int
    results: tuple[LayerProbe, ...]
    best_layer: int
    head: Head
    neighbors: Evaluation
    gain: float
    gain_interval: Interval
    label_field: str = "label"
    fingerprint: str = ""

    @property
    def best(self) -> LayerProbe:
        """The best layer's result."""
        return next(one for one in self.results if one.layer == self.best_layer)


def probe_layers(
    get_layer: GetLayer,
    table: DocumentTable,
    *,
    layers: Sequence[int],
    n_folds: int,
    choices: VotingOptions,
    on_progress: OnProgress | None = None,
) -> Probe:
    """Cross-validate a linear head at each layer, and fit the best on all documents.

    Folds are those of `evaluate_on_folds`. ``on_progress`` counts layers. Raises `NoLabelsError`
    for fewer than two labels, `OptionError` for fewer than 2 folds or more than there are texts.
    """
    names, codes = two_labels(table)
    folds = split(codes, table.content_groups, n_folds)
    neighbors = evaluate_on_folds(
        get_layer, table, choices, n_folds=n_folds, spaces=layer_spaces(layers)
    )
    held_out: dict[int, HeldOut] = {}
    for layer in layers:
        vectors = get_layer(layer).gather(table.rows)
        held_out[layer] = cross_validate(vectors, codes, folds, len(names))
        if on_progress is not None:
            on_progress(len(held_out), len(layers))
    results = tuple(_result(layer, one, codes) for layer, one in sorted(held_out.items()))
    best = max(results, key=lambda one: one.macro_f1)
    vectors = get_layer(best.layer).gather(table.rows)
    predictions = [best.predicted, neighbors.best.predicted]
    resampled = resample(codes, predictions, n_resamples=max(choices.n_resamples, 1))
    macro_f1 = resampled[:, METRICS.index("macro_f1")]
    return Probe(
        n=len(codes),
        n_folds=n_folds,
        results=results,
        best_layer=best.layer,
        head=fit_head(vectors, codes, names, layer=best.layer, chosen=held_out[best.layer]),
        neighbors=neighbors,
        gain=best.macro_f1 - neighbors.best.macro_f1,
        gain_interval=interval(macro_f1[0] - macro_f1[1]),
    )


def _result(layer: int, held_out: HeldOut, codes: Codes) -> LayerProbe:
    predicted = held_out.logits.argmax(axis=1).astype(np.int64)
    figures = score(codes, predicted)
    return LayerProbe(
        layer=layer,
        c=held_out.c,
        temperature=held_out.temperature,
        accuracy=figures.accuracy,
        macro_f1=figures.macro_f1,
        log_loss=held_out.log_loss,
        predicted=predicted,
    )
