"""Evaluations from their scores: the best layer, and the frugal one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from layerdex.search.evaluation.evaluation import (
    Classification,
    Evaluation,
    FrugalLayer,
    LayerScores,
    Resampled,
    Retrieval,
    Subject,
)
from layerdex.search.evaluation.metrics import Interval, interval


def make_evaluation(
    subject: Subject,
    scores: Sequence[LayerScores],
    resampled: Resampled,
    *,
    metrics: tuple[str, ...],
    n: int,
    n_left_out: int = 0,
    classification: Classification | None = None,
    retrieval: Retrieval | None = None,
) -> Evaluation:
    """Return the evaluation with its best and its frugal layer; see `Evaluation`."""
    decisive: dict[int, float] = {}
    for of_target in scores:
        if isinstance(of_target.layer, int):  # the first has the first k and weighting
            decisive.setdefault(of_target.layer, of_target.values[metrics[0]])
    best = max(sorted(decisive), key=decisive.__getitem__)
    return Evaluation(
        subject=subject,
        n=n,
        metrics=metrics,
        scores=tuple(scores),
        best_layer=best,
        frugal=_find_frugal(best, decisive, {layer: resampled[layer][0] for layer in decisive}),
        resampled=resampled,
        n_left_out=n_left_out,
        classification=classification,
        retrieval=retrieval,
    )


def intervals_of(metrics: Sequence[str], resampled: NDArray[np.float64]) -> dict[str, Interval]:
    """Return the interval of each metric from (n_metrics, n_resamples), or none without any."""
    if not resampled.shape[1]:
        return {}
    return dict(zip(metrics, map(interval, resampled), strict=True))


def _find_frugal(
    best: int, values: Mapping[int, float], resampled: Mapping[int, NDArray[np.float64]]
) -> FrugalLayer | None:
    """Return the shallowest layer whose difference to the best may be chance.

    ``resampled`` (n_resamples,) is the metric of ``values`` on paired resamples.
    """
    if not len(resampled[best]):
        return None
    losses = {layer: interval(resampled[best] - each) for layer, each in resampled.items()}
    frugal = min(layer for layer, loss in losses.items() if loss.includes_zero)
    return FrugalLayer(
        layer=frugal,
        loss=values[best] - values[frugal],
        loss_interval=losses[frugal],
        encoding_share=frugal / max(losses) if max(losses) else 1.0,
        disk_share=1 / len(losses),
    )
