"""Figures by layer of any kind of question, and two indexes compared by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from layerdex.arguments import format_value
from layerdex.choices import TransformName
from layerdex.errors import OptionError
from layerdex.records import LayerName
from layerdex.search.evaluation.metrics import Interval, interval
from layerdex.search.evaluation.results import FrugalLayer, find_frugal

THRESHOLD = "threshold"
"""The one figure that is not the better the higher it is: a similarity to decide by."""


class Subject(StrEnum):
    """What was asked to measure a layer: documents' labels, queries with judgements, or pairs."""

    LABELS = "labels"
    QUERIES = "queries"
    PAIRS = "pairs"


@dataclass(frozen=True, slots=True)
class Resampled:
    """The figures of a layer: as measured, (n_metrics,), and on resamples of what was asked.

    ``resamples`` is (n_metrics, n_resamples); those of two layers are paired.
    """

    measured: NDArray[np.float64]
    resamples: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Figures:
    """A layer's figures by metric, with 95 % intervals (none where none were asked for)."""

    layer: LayerName
    values: dict[str, float]
    intervals: dict[str, Interval]


@dataclass(frozen=True, slots=True)
class Measurement:
    """Figures for each layer, from ``n`` documents, queries or pairs.

    ``metrics`` are named; the first decides the best layer, where a tie goes to the shallower.
    ``frugal`` is None without resamples. ``n_left_out`` of what was given could not be asked (see
    the function that measured).
    """

    subject: Subject
    n: int
    n_left_out: int
    metrics: tuple[str, ...]
    results: tuple[Figures, ...]
    best_layer: int
    frugal: FrugalLayer | None
    resampled: Mapping[LayerName, Resampled] = field(repr=False)
    transform: TransformName = TransformName.NONE

    @property
    def best(self) -> Figures:
        """The best layer's figures."""
        return self.at(self.best_layer)

    def at(self, layer: LayerName) -> Figures:
        """Return the figures of a layer; raises `OptionError` if it was not measured."""
        for one in self.results:
            if one.layer == layer:
                return one
        raise OptionError(f"layer {format_value(layer)} was not measured")


@dataclass(frozen=True, slots=True)
class Difference:
    """The second index's figures less the first's, by metric.

    ``first`` and ``second`` name the layers; ``intervals`` are those of the paired bootstrap.
    """

    first: LayerName
    second: LayerName
    values: dict[str, float]
    intervals: dict[str, Interval]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two indexes of the same documents, measured on the same questions.

    ``differences`` has each layer that both have, ``best`` the best layers of either. Of the
    documents, ``n_documents`` are in both; ``n_only`` were left out as they are in the first or
    in the second alone, ``n_changed`` as their texts or labels differ.
    """

    first: Measurement
    second: Measurement
    differences: tuple[Difference, ...]
    best: Difference
    n_documents: int
    n_only: tuple[int, int]
    n_changed: int


def measure(
    subject: Subject,
    resampled: Mapping[LayerName, Resampled],
    *,
    metrics: tuple[str, ...],
    n: int,
    n_left_out: int = 0,
) -> Measurement:
    """Put figures together; the best and the frugal layer are single ones, never fused."""
    single = {layer: one for layer, one in resampled.items() if isinstance(layer, int)}
    measured = {layer: float(one.measured[0]) for layer, one in single.items()}
    best = max(sorted(measured), key=measured.__getitem__)
    results = (
        Figures(layer, _values(metrics, one.measured), _intervals(metrics, one.resamples))
        for layer, one in resampled.items()
    )
    return Measurement(
        subject=subject,
        n=n,
        n_left_out=n_left_out,
        metrics=metrics,
        results=tuple(results),
        best_layer=best,
        frugal=find_frugal(best, {i: one.resamples[0] for i, one in single.items()}, measured),
        resampled=resampled,
    )


def compare(
    first: Measurement,
    second: Measurement,
    *,
    n_documents: int,
    n_only: tuple[int, int],
    n_changed: int,
) -> Comparison:
    """Return the differences of two measurements whose resamples are paired.

    Raises `OptionError` where they share no layer.
    """
    shared = [layer for layer in first.resampled if layer in second.resampled]
    if not shared:
        raise OptionError("the two indexes have no layer in common")
    return Comparison(
        first=first,
        second=second,
        differences=tuple(_difference(first, second, layer, layer) for layer in shared),
        best=_difference(first, second, first.best_layer, second.best_layer),
        n_documents=n_documents,
        n_only=n_only,
        n_changed=n_changed,
    )


def _difference(
    first: Measurement, second: Measurement, of_first: LayerName, of_second: LayerName
) -> Difference:
    one, other = first.resampled[of_first], second.resampled[of_second]
    values = _values(first.metrics, other.measured - one.measured)
    intervals = _intervals(first.metrics, other.resamples - one.resamples)
    values.pop(THRESHOLD, None)
    intervals.pop(THRESHOLD, None)
    return Difference(of_first, of_second, values, intervals)


def _values(metrics: Sequence[str], measured: NDArray[np.float64]) -> dict[str, float]:
    return dict(zip(metrics, measured.tolist(), strict=True))


def _intervals(metrics: Sequence[str], resamples: NDArray[np.float64]) -> dict[str, Interval]:
    if not resamples.shape[1]:
        return {}
    return dict(zip(metrics, map(interval, resamples), strict=True))
