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
from layerdex.search.evaluation.results import VotingOptions
from layerdex.search.knn.sampling import sample_table
from layerdex.search.knn.vector_space import GetLayer, VectorSpace, layer_spaces
from layerdex.search.vectors.in_memory import InMemoryVectors
from layerdex.search.vectors.transform import (
    PrincipalAxes,
    Transform,
    TransformedVectors,
    find_axes,
)
from layerdex.storage.snapshot import DocumentTable
from layerdex.storage.vectors.layer_vectors import VectorSource

N_FITTED = 50_000
"""Documents drawn to fit on: 77 MB at width 384."""

N_JUDGED = 4_000
"""Labelled ones of these, drawn to choose the shrinkage by."""

SHRINKAGES = (0.1, 0.3, 0.5, 0.7, 0.9)
DEFAULT_SHRINKAGE = 0.5
"""Where there are no labels to choose by; see docs/transforms.md for what others do."""

_LEAST_SHRINKAGE = 0.001
"""Covariances are singular: less makes noise of the short axes, far less overflows float32."""

_N_FOLDS = 3
_K = 10


@dataclass(frozen=True, slots=True)
class Sample:
    """Documents to fit on, each text once, and those whose labels choose, or None.

    ``at`` are the spaces of the latter among the former.
    """

    fitted: DocumentTable
    judged: DocumentTable | None
    at: Sequence[int]


@dataclass(frozen=True, slots=True)
class LayerFit:
    """What was fitted at a layer: its axes, and the shrinkage that whitening takes.

    ``macro_f1`` is of neighbours on folds, without a transform and with each; empty where the
    shrinkage was not chosen by labels. Whitening's is the best of `SHRINKAGES` on the same folds,
    and flatters a little.
    """

    layer: int
    shrinkage: float
    macro_f1: Mapping[TransformName, float]
    axes: PrincipalAxes = field(repr=False)


@dataclass(frozen=True, slots=True)
class TransformFit:
    """Transforms for layers, ascending, fitted on ``n_fitted`` texts of ``n`` documents.

    ``n_judged`` labelled ones chose the shrinkages; 0 where these are given, or the default.
    """

    n: int
    n_fitted: int
    n_judged: int
    layers: tuple[LayerFit, ...]

    @property
    def best(self) -> tuple[int, TransformName] | None:
        """The layer and transform with the highest macro-F1, or None where there is none.

        A tie goes to the shallower layer, and there to the simpler transform.
        """
        tried = [(one.layer, how) for one in self.layers for how in one.macro_f1]
        figures = {one.layer: one.macro_f1 for one in self.layers}
        return max(tried, key=lambda one: figures[one[0]][one[1]], default=None)


def draw_sample(table: DocumentTable) -> Sample:
    """Draw the documents to fit on, at most `N_FITTED`, and of these at most `N_JUDGED` to choose.

    The same documents give the same sample. Labels with fewer documents than folds choose nothing.
    Raises `OptionError` for fewer than two texts.
    """
    fitted = sample_table(table, n=N_FITTED).drop_repeats()
    if len(fitted.rows) < 2:
        raise OptionError(f"a transform is fitted on two texts or more, not {len(fitted.rows)}")
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
    """Fit transforms of layers on documents, and choose shrinkages unless they are given by layer.

    Of `SHRINKAGES` each layer takes the one with the highest macro-F1 of neighbours on three folds
    of the labelled documents (a tie goes to more), or `DEFAULT_SHRINKAGE` without labels. Labels
    never enter the fit itself. A layer whose vectors are all alike stays as it is. Raises
    `OptionError` where all layers are so.
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
    if all(one.axes.is_flat for one in fits):
        raise OptionError("a transform is fitted on documents that differ, and these are all alike")
    n_judged = 0 if sample.judged is None or shrinkages is not None else len(sample.judged.rows)
    return TransformFit(len(table.rows), len(sample.fitted.rows), n_judged, tuple(fits))


def check_shrinkage(value: object) -> float:
    """Return a shrinkage from 0.001 to 1. Raises `OptionError` for any other."""
    return check_between("a shrinkage", value, _LEAST_SHRINKAGE, 1)


def _choose_at(layer: int, vectors: Vectors, axes: PrincipalAxes, sample: Sample) -> LayerFit:
    if sample.judged is None:
        return LayerFit(layer, DEFAULT_SHRINKAGE, {}, axes)
    tried = [None, axes.center(), *map(axes.whiten, SHRINKAGES)]
    none, center, *whiten = judge(vectors[sample.at], sample.judged, tried)
    best = _best(whiten)
    figures = {
        TransformName.NONE: none,
        TransformName.CENTER: center,
        TransformName.WHITEN: whiten[best],
    }
    return LayerFit(layer, SHRINKAGES[best], figures, axes)


def _best(figures: Sequence[float]) -> int:
    return max(range(len(figures)), key=lambda i: (figures[i], i))


def judge(vectors: Vectors, table: DocumentTable, tried: Sequence[Transform | None]) -> list[float]:
    """Return the macro-F1 of 10 neighbours on folds with each transform, None being none.

    ``vectors`` (n, width) are those of ``table``.
    """
    given = InMemoryVectors(table.rows, vectors)
    sources: list[VectorSource] = [
        given if one is None else TransformedVectors(one, given) for one in tried
    ]
    # Each stands in for a layer.
    evaluation = evaluate_on_folds(
        sources.__getitem__,
        table,
        VotingOptions((_K,), n_resamples=0),
        n_folds=_N_FOLDS,
        spaces=layer_spaces(range(len(sources))),
    )
    return [evaluation.result(i, _K).macro_f1 for i in range(len(sources))]


class Fitter:
    """Fits transforms on the documents that may vote, for an evaluation.

    A layer is fitted once for the same documents, however many of the ``spaces`` have it. What one
    space alone has is not held: a matrix for each layer and fold grows to gigabytes.
    """

    def __init__(
        self, get_layer: GetLayer, how: TransformName, spaces: Sequence[VectorSpace]
    ) -> None:
        self._get_layer = get_layer
        self._how = how
        self._n_places = Counter(layer for space in spaces for layer in space.layers)
        self._found: dict[tuple[int, bytes], Transform] = {}

    def fit(self, space: VectorSpace, table: DocumentTable) -> VectorSpace:
        """Return a space with its vectors transformed as these documents say.

        The shrinkage is chosen as by `fit_layers`, on folds of these documents alone.
        """
        if self._how is TransformName.NONE:
            return space
        transforms = {layer: self._at(layer, table) for layer in space.layers}
        return space.transformed(self._how, transforms)

    def _at(self, layer: int, table: DocumentTable) -> Transform:
        if self._n_places[layer] < 2:
            return self._fit(layer, table)
        key = (layer, blake2b(table.rows.tobytes()).digest())
        if key not in self._found:
            self._found[key] = self._fit(layer, table)
        return self._found[key]

    def _fit(self, layer: int, table: DocumentTable) -> Transform:
        sample = draw_sample(table)
        vectors = self._get_layer(layer).gather(sample.fitted.rows)
        axes = find_axes(vectors)
        if self._how is TransformName.CENTER:
            return axes.center()
        if sample.judged is None:
            return axes.whiten(DEFAULT_SHRINKAGE)
        tried = [axes.whiten(one) for one in SHRINKAGES]
        return tried[_best(judge(vectors[sample.at], sample.judged, tried))]
