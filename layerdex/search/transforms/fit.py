"""Fitting transforms: on which documents, and how much to shrink."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np

from layerdex.arguments import check_between
from layerdex.choices import TransformName
from layerdex.errors import OptionError
from layerdex.records import OnProgress, Vectors
from layerdex.search.evaluation.classification import evaluate_on_folds
from layerdex.search.evaluation.vote_scores import VotingOptions
from layerdex.search.knn.sampling import sample_table
from layerdex.search.knn.vector_space import GetLayer, VectorSpace, layer_spaces
from layerdex.search.targets import SearchTarget
from layerdex.search.vectors.in_memory import InMemoryVectors
from layerdex.search.vectors.transform import (
    PrincipalAxes,
    Transform,
    TransformedVectors,
    find_axes,
)
from layerdex.storage.snapshot import DocumentTable
from layerdex.storage.vectors.layer_vectors import VectorSource
from layerdex.tabular import NUMBER, WHOLE, Brief, Table, Tabular
from layerdex.wording import counted

N_FITTED = 50_000
"""Documents drawn to fit on: 77 MB of vectors at width 384."""

N_JUDGED = 4_000
"""Labelled documents, drawn from these, that choose the shrinkage."""

SHRINKAGES = (0.1, 0.3, 0.5, 0.7, 0.9)
DEFAULT_SHRINKAGE = 0.5
"""Used without labels to choose by; docs/transforms.md measures others."""

_LEAST_SHRINKAGE = 0.001
"""Covariances are singular: less turns short axes into noise, far less overflows float32."""

_N_FOLDS = 3
_K = 10


@dataclass(frozen=True, slots=True)
class Sample:
    """Documents to fit on, each text once, and those whose labels choose the shrinkage, or None.

    ``at`` are the positions of the latter in the former.
    """

    fitted: DocumentTable
    judged: DocumentTable | None
    at: Sequence[int]


@dataclass(frozen=True, slots=True, repr=False)
class LayerFit(Brief):
    """The principal axes of a layer, and the shrinkage for whitening.

    ``macro_f1`` is that of neighbours on folds, without a transform and with each; empty unless
    labels chose the shrinkage. Whitening's is the best of `SHRINKAGES` on the same folds, which
    flatters it a little.
    """

    layer: int
    shrinkage: float
    macro_f1: Mapping[TransformName, float]
    axes: PrincipalAxes = field(repr=False)


@dataclass(frozen=True, slots=True, repr=False)
class TransformFit(Tabular):
    """Transforms for layers, ascending, fitted on ``n_fitted`` texts of ``n`` documents.

    ``n_judged`` labelled documents chose the shrinkages; 0 if these are set by hand or by default.
    """

    n: int
    n_fitted: int
    n_judged: int
    layers: tuple[LayerFit, ...]

    @property
    def best(self) -> SearchTarget | None:
        """The layer and transform with the highest macro-F1, or None without labels.

        A tie goes to the shallower layer, and there to the simpler transform.
        """
        macro_f1 = {
            SearchTarget((fit.layer,), transform=name): value
            for fit in self.layers
            for name, value in fit.macro_f1.items()
        }
        return max(macro_f1, key=macro_f1.__getitem__, default=None)

    def _summary(self) -> str:
        best = "" if self.best is None else f"; best: {self.best.title}"
        layers = counted(len(self.layers), "layer")
        return f"{layers} fitted on {counted(self.n_fitted, 'text')}{best}"

    def _table(self) -> Table:
        figures = {f"macro_f1_{name.value}": name for name in TransformName}
        rows = [
            {
                "layer": fit.layer,
                "shrinkage": fit.shrinkage,
                **{column: fit.macro_f1.get(name) for column, name in figures.items()},
            }
            for fit in self.layers
        ]
        dtypes = {"layer": WHOLE, "shrinkage": NUMBER, **dict.fromkeys(figures, NUMBER)}
        return Table(dtypes, len(rows), rows)


def draw_sample(table: DocumentTable) -> Sample:
    """Draw at most `N_FITTED` documents to fit on, and of these at most `N_JUDGED` to choose by.

    The same documents give the same sample. Labels with fewer documents than folds are ignored.
    Raises `OptionError` for fewer than two texts.
    """
    fitted = sample_table(table, n=N_FITTED).drop_repeats()
    if len(fitted.rows) < 2:
        raise OptionError(f"a transform needs at least two texts to fit on, got {len(fitted.rows)}")
    labelled = fitted.take([i for i, label in enumerate(fitted.labels) if label is not None])
    judged = sample_table(labelled, n=N_JUDGED).with_frequent_labels(_N_FOLDS)
    if len(set(judged.labels)) < 2:
        return Sample(fitted, None, ())
    return Sample(fitted, judged, np.searchsorted(fitted.rows, judged.rows).tolist())


def fit_layers(
    get_layer: GetLayer,
    table: DocumentTable,
    *,
    layers: Sequence[int],
    shrinkages: Mapping[int, float] | None = None,
    on_progress: OnProgress | None = None,
) -> TransformFit:
    """Fit transforms of layers on documents, and choose shrinkages unless they are set by layer.

    Each layer takes the value of `SHRINKAGES` with the highest macro-F1 of neighbours on three
    folds of the labelled documents (a tie goes to the highest), or `DEFAULT_SHRINKAGE` without
    labels. Labels never enter the fit itself. A layer whose vectors are all alike stays as it is.
    Raises `OptionError` if all layers are so.
    """
    sample = draw_sample(table)
    fits: list[LayerFit] = []
    for layer in layers:
        vectors = get_layer(layer).gather(sample.fitted.rows)
        axes = find_axes(vectors)
        if shrinkages is not None:
            fits.append(LayerFit(layer, check_shrinkage(shrinkages[layer]), {}, axes))
        else:
            fits.append(_choose_at(layer, vectors, axes, sample))
        if on_progress is not None:
            on_progress(len(fits), len(layers))
    if all(fit.axes.is_flat for fit in fits):
        raise OptionError(
            "a transform needs documents that differ, and the vectors of these are all alike"
        )
    n_judged = 0 if sample.judged is None or shrinkages is not None else len(sample.judged.rows)
    return TransformFit(len(table.rows), len(sample.fitted.rows), n_judged, tuple(fits))


def check_shrinkage(value: object) -> float:
    """Return a shrinkage from 0.001 to 1. Raises `OptionError` for other values."""
    return check_between("a shrinkage", value, _LEAST_SHRINKAGE, 1)


def _choose_at(layer: int, vectors: Vectors, axes: PrincipalAxes, sample: Sample) -> LayerFit:
    if sample.judged is None:
        return LayerFit(layer, DEFAULT_SHRINKAGE, {}, axes)
    transforms = [None, axes.center(), *map(axes.whiten, SHRINKAGES)]
    none, center, *whiten = judge(vectors[sample.at], sample.judged, transforms)
    best = _best(whiten)
    macro_f1 = {
        TransformName.NONE: none,
        TransformName.CENTER: center,
        TransformName.WHITEN: whiten[best],
    }
    return LayerFit(layer, SHRINKAGES[best], macro_f1, axes)


def _best(values: Sequence[float]) -> int:
    """Return the position of the highest value, and of equal ones the last."""
    return max(range(len(values)), key=lambda i: (values[i], i))


def judge(
    vectors: Vectors, table: DocumentTable, transforms: Sequence[Transform | None]
) -> list[float]:
    """Return the macro-F1 of 10 neighbours on folds with each transform, or without for None.

    ``vectors`` (n, width) are those of ``table``.
    """
    plain = InMemoryVectors(table.rows, vectors)
    sources: list[VectorSource] = [
        plain if transform is None else TransformedVectors(transform, plain)
        for transform in transforms
    ]
    # Each source stands in for a layer.
    evaluation = evaluate_on_folds(
        sources.__getitem__,
        table,
        VotingOptions((_K,), n_resamples=0),
        n_folds=_N_FOLDS,
        spaces=layer_spaces(range(len(sources))),
    )
    return [scores.values["macro_f1"] for scores in evaluation.scores]


class Fitter:
    """Fits transforms on the documents that may vote, for an evaluation.

    A layer that several of the ``spaces`` have is fitted once for the same documents. The
    transforms of other layers are not cached: a matrix for each layer and fold grows to gigabytes.
    """

    def __init__(
        self, get_layer: GetLayer, name: TransformName, spaces: Sequence[VectorSpace]
    ) -> None:
        self._get_layer = get_layer
        self._name = name
        self._n_spaces = Counter(layer for space in spaces for layer in space.layers)
        self._cache: dict[tuple[int, bytes], Transform] = {}

    def fit(self, space: VectorSpace, table: DocumentTable) -> VectorSpace:
        """Return a space whose layers are transformed, fitted on these documents.

        The shrinkage is chosen as by `fit_layers`, on folds of these documents alone.
        """
        if self._name is TransformName.NONE:
            return space
        transforms = {layer: self._at(layer, table) for layer in space.layers}
        return space.transformed(self._name, transforms)

    def _at(self, layer: int, table: DocumentTable) -> Transform:
        if self._n_spaces[layer] < 2:
            return self._fit(layer, table)
        key = (layer, blake2b(table.rows.tobytes()).digest())
        if key not in self._cache:
            self._cache[key] = self._fit(layer, table)
        return self._cache[key]

    def _fit(self, layer: int, table: DocumentTable) -> Transform:
        sample = draw_sample(table)
        vectors = self._get_layer(layer).gather(sample.fitted.rows)
        axes = find_axes(vectors)
        if self._name is TransformName.CENTER:
            return axes.center()
        if sample.judged is None:
            return axes.whiten(DEFAULT_SHRINKAGE)
        transforms = [axes.whiten(shrinkage) for shrinkage in SHRINKAGES]
        return transforms[_best(judge(vectors[sample.at], sample.judged, transforms))]
