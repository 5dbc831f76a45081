"""Figures of layers as plain data: evaluations, comparisons, geometry, probes, trainings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from layerdex.index.json.transform import transform_of

if TYPE_CHECKING:
    from layerdex.index.training import Tuning
    from layerdex.search.evaluation.comparison import Comparison, Difference
    from layerdex.search.evaluation.evaluation import Evaluation, FrugalLayer, LayerScores
    from layerdex.search.evaluation.geometry import Geometry
    from layerdex.search.evaluation.metrics import Interval
    from layerdex.search.labels.probe import Probe
    from layerdex.search.targets import SearchTarget
    from layerdex.search.transforms.fit import TransformFit

Json = dict[str, Any]


def evaluation_to_json(evaluation: Evaluation) -> Json:
    """Return the figures of each layer: of predicted labels, or of judged queries or pairs."""
    if evaluation.classification is None:
        return {**_scores_to_json(evaluation), **transform_of(evaluation.best.target)}
    classification = evaluation.classification
    folds = {} if classification.n_folds is None else {"n_folds": classification.n_folds}
    return {
        "method": classification.method.value,
        "n": evaluation.n,
        "label_field": classification.label_field,
        "layers": [_label_scores(scores) for scores in evaluation.scores],
        "best_layer": evaluation.best_layer,
        "frugal_layer": _frugal_layer(evaluation.frugal),
        **folds,
        **transform_of(evaluation.best.target),
    }


def _label_scores(scores: LayerScores) -> Json:
    return {
        "layer": scores.layer,
        "k": scores.k,
        "weights": scores.weights,
        "accuracy": scores.values["accuracy"],
        "macro_f1": scores.values["macro_f1"],
        "weighted_f1": scores.values["weighted_f1"],
        **_intervals(scores.intervals),
    }


def _scores_to_json(evaluation: Evaluation) -> Json:
    """Return the metrics of any evaluation: of labels, at the first k and weighting."""
    return {
        "subject": evaluation.subject.value,
        "n": evaluation.n,
        "n_left_out": evaluation.n_left_out,
        "metrics": list(evaluation.metrics),
        "layers": [
            {"layer": scores.layer, **scores.values, **_intervals(scores.intervals)}
            for scores in map(evaluation.at, evaluation.layers)
        ],
        "best_layer": evaluation.best_layer,
        "frugal_layer": _frugal_layer(evaluation.frugal),
    }


def comparison_to_json(comparison: Comparison) -> Json:
    """Return two indexes at the same task."""
    return {
        "n_documents": comparison.n_documents,
        "n_only_first": comparison.n_only[0],
        "n_only_second": comparison.n_only[1],
        "n_changed": comparison.n_changed,
        "first": _scores_to_json(comparison.first),
        "second": _scores_to_json(comparison.second),
        "differences": [_difference(difference) for difference in comparison.differences],
        "best": _difference(comparison.best),
    }


def _difference(difference: Difference) -> Json:
    return {
        "first_layer": difference.first.name,
        "second_layer": difference.second.name,
        **difference.values,
        **_intervals(difference.intervals),
    }


def _frugal_layer(frugal: FrugalLayer | None) -> Json | None:
    return None if frugal is None else asdict(frugal)


def _intervals(intervals: Mapping[str, Interval]) -> Json:
    return {f"{name}_interval": _bounds(interval) for name, interval in intervals.items()}


def _bounds(interval: Interval) -> list[float]:
    return [interval.low, interval.high]


def geometry_to_json(geometry: Geometry) -> Json:
    """Return label-free figures of layers."""
    return {
        "n": geometry.n,
        "n_texts": geometry.n_texts,
        "n_paired": geometry.n_paired,
        "k": geometry.k,
        "seed": geometry.seed,
        "layers": [asdict(shape) for shape in geometry.layers],
        "agreement": geometry.agreement.tolist(),
    }


def probe_to_json(probe: Probe) -> Json:
    """Return linear classifiers by layer, beside neighbours."""
    neighbors = probe.neighbors
    [k] = neighbors.ks
    layers = []
    for head in probe.scores:
        knn = neighbors.at(head.layer, k)
        layers.append(
            {
                "layer": head.layer,
                "c": head.c,
                "temperature": head.temperature,
                "accuracy": head.accuracy,
                "macro_f1": head.macro_f1,
                "log_loss": head.log_loss,
                "knn_accuracy": knn.values["accuracy"],
                "knn_macro_f1": knn.values["macro_f1"],
            }
        )
    return {
        "n": probe.n,
        "n_folds": probe.n_folds,
        "label_field": probe.label_field,
        "k": k,
        "layers": layers,
        "best_layer": probe.best_layer,
        "knn_best_layer": neighbors.best_layer,
        "gain": probe.gain,
        "gain_interval": _bounds(probe.gain_interval),
    }


def transform_fit_to_json(fit: TransformFit) -> Json:
    """Return fitted transforms."""
    return {
        "n": fit.n,
        "n_fitted": fit.n_fitted,
        "n_judged": fit.n_judged,
        "layers": [
            {
                "layer": layer.layer,
                "shrinkage": layer.shrinkage,
                "macro_f1": {name.value: f1 for name, f1 in layer.macro_f1.items()} or None,
            }
            for layer in fit.layers
        ],
        "best": None if fit.best is None else _best_transform(fit.best),
    }


def _best_transform(best: SearchTarget) -> Json:
    return {"layer": best.name, "transform": best.transform.value}


def tuning_to_json(tuning: Tuning) -> Json:
    """Return a trained adapter."""
    trained = tuning.trained
    pairs = zip(tuning.before.scores, tuning.after.scores, strict=True)
    return {
        "adapter": str(tuning.adapter),
        "layer": tuning.layer,
        "n_training": tuning.n_training,
        "n_held_out": tuning.n_held_out,
        "n_left_out": tuning.n_left_out,
        "n_trained_parameters": trained.n_trained,
        "n_parameters": trained.n_parameters,
        "share": trained.share,
        "epochs": [asdict(epoch) for epoch in trained.epochs],
        "best_epoch": trained.best_epoch,
        "measured_on": "test" if tuning.is_test else "held-out",
        "n_measured": tuning.after.n,
        "layers": [
            {"layer": before.layer, "before": _tuned(before), "after": _tuned(after)}
            for before, after in pairs
        ],
    }


def _tuned(scores: LayerScores) -> Json:
    return {
        "accuracy": scores.values["accuracy"],
        "accuracy_interval": _bounds(scores.intervals["accuracy"]),
        "macro_f1": scores.values["macro_f1"],
    }
