"""`Probe`: what a linear head can predict at each layer, beside what neighbours predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from layerdex.records import OnProgress
from layerdex.search.evaluation.classification import evaluate_on_folds
from layerdex.search.evaluation.evaluation import Evaluation
from layerdex.search.evaluation.folds import assign_folds, two_labels
from layerdex.search.evaluation.metrics import (
    LABEL_METRICS,
    Codes,
    Interval,
    interval,
    resample,
    score,
)
from layerdex.search.evaluation.vote_scores import VotingOptions
from layerdex.search.knn.vector_space import GetLayer, VectorSpace
from layerdex.search.labels.head import GRID, CrossValidation, Head, cross_validate, fit_head
from layerdex.search.targets import SearchTarget
from layerdex.storage.snapshot import DocumentTable
from layerdex.tabular import NUMBER, WHOLE, Brief, Table, Tabular
from layerdex.wording import counted


@dataclass(frozen=True, slots=True, repr=False)
class LayerProbe(Brief):
    """How well a head predicts labels of folds that it was not fitted on.

    ``log_loss`` (nats) is that of the calibrated probabilities; ``predicted`` (n,) are codes.
    """

    target: SearchTarget
    c: float
    temperature: float
    accuracy: float
    macro_f1: float
    log_loss: float
    predicted: Codes = field(repr=False)

    @property
    def layer(self) -> int:
        """The layer of the target."""
        return self.target.layers[0]


@dataclass(frozen=True, slots=True, repr=False)
class Probe(Tabular):
    """Heads at each layer, beside neighbours on the same folds (``neighbors``).

    ``best_layer`` has the highest macro-F1; a tie goes to the shallower. ``head`` is fitted there
    on all ``n`` documents. ``gain`` is its macro-F1 on the folds minus that of the neighbours at
    their own best layer, with the 95 % interval of the paired bootstrap. ``fingerprint`` is that
    of the index.
    """

    n: int
    n_folds: int
    scores: tuple[LayerProbe, ...]
    best_layer: int
    head: Head
    neighbors: Evaluation
    gain: float
    gain_interval: Interval
    label_field: str = "label"
    fingerprint: str = ""

    @property
    def best(self) -> LayerProbe:
        """The scores of the best layer."""
        return next(scores for scores in self.scores if scores.layer == self.best_layer)

    def _summary(self) -> str:
        return (
            f"{counted(self.n, 'document')}, {self.n_folds} folds; best layer {self.best_layer} "
            f"(macro-F1 {self.best.macro_f1:.4f}, {self.gain:+.4f} against neighbours)"
        )

    def _table(self) -> Table:
        """Return the figures of heads, and those of neighbours on the same folds."""
        heads = dict.fromkeys(("accuracy", "macro_f1", "log_loss", "c", "temperature"), NUMBER)
        neighbors = dict.fromkeys(("neighbors_accuracy", "neighbors_macro_f1"), NUMBER)
        rows = []
        for scores in self.scores:
            values = self.neighbors.at(scores.layer).values
            of_head = {name: getattr(scores, name) for name in heads}
            of_neighbors = {name: values[name.removeprefix("neighbors_")] for name in neighbors}
            rows.append({"layer": scores.layer, **of_head, **of_neighbors})
        return Table({"layer": WHOLE, **heads, **neighbors}, len(rows), rows)


def probe_layers(
    get_layer: GetLayer,
    table: DocumentTable,
    *,
    spaces: Sequence[VectorSpace],
    n_folds: int,
    options: VotingOptions,
    on_progress: OnProgress | None = None,
) -> Probe:
    """Cross-validate a linear head at each layer, and fit the best on all documents.

    Folds are those of `evaluate_on_folds`. ``on_progress`` counts fits: of each layer, fold and
    strength of regularisation, and the last one on all documents. Raises `NoLabelsError` for fewer
    than two labels, `OptionError` as `assign_folds` does.
    """
    names, codes = two_labels(table)
    folds = assign_folds(codes, table.content_groups, n_folds)
    n_fits, n_done = len(spaces) * n_folds * len(GRID) + 1, 0

    def count_fit() -> None:
        nonlocal n_done
        n_done += 1
        if on_progress is not None:
            on_progress(n_done, n_fits)

    neighbors = evaluate_on_folds(get_layer, table, options, n_folds=n_folds, spaces=spaces)
    validated: dict[int, CrossValidation] = {}
    for space in spaces:
        [layer] = space.layers
        vectors = get_layer(layer).gather(table.rows)
        validated[layer] = cross_validate(vectors, codes, folds, len(names), on_fit=count_fit)
    scores = tuple(_score(space.target, validated[space.layers[0]], codes) for space in spaces)
    best = max(scores, key=lambda of_layer: of_layer.macro_f1)
    _, by_neighbors = neighbors.label_codes(neighbors.best_layer)
    predictions = [best.predicted, by_neighbors]
    resampled = resample(codes, predictions, n_resamples=max(options.n_resamples, 1))
    macro_f1 = resampled[:, LABEL_METRICS.index("macro_f1")]
    head = fit_head(
        get_layer(best.layer).gather(table.rows),
        codes,
        names,
        layer=best.layer,
        validated=validated[best.layer],
    )
    count_fit()
    return Probe(
        n=len(codes),
        n_folds=n_folds,
        scores=scores,
        best_layer=best.layer,
        head=head,
        neighbors=neighbors,
        gain=best.macro_f1 - neighbors.best.values["macro_f1"],
        gain_interval=interval(macro_f1[0] - macro_f1[1]),
    )


def _score(target: SearchTarget, validated: CrossValidation, codes: Codes) -> LayerProbe:
    predicted = validated.predicted
    values = score(codes, predicted)
    return LayerProbe(
        target=target,
        c=validated.c,
        temperature=validated.temperature,
        accuracy=values["accuracy"],
        macro_f1=values["macro_f1"],
        log_loss=validated.log_loss,
        predicted=predicted,
    )
