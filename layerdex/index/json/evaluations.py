"""Figures of layers as plain data: evaluations, comparisons, geometry, probes, trainings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from layerdex.index.json.plain import Json, pick, plain, transform_of

if TYPE_CHECKING:
    from layerdex.index.training import Tuning
    from layerdex.search.evaluation.comparison import Comparison, Difference
    from layerdex.search.evaluation.evaluation import Evaluation, LayerScores
    from layerdex.search.evaluation.metrics import Interval
    from layerdex.search.evaluation.report import ClassificationReport
    from layerdex.search.labels.probe import LayerProbe, Probe
    from layerdex.search.targets import SearchTarget
    from layerdex.search.transforms.fit import TransformFit


_LABEL_METRICS = ("accuracy", "macro_f1", "weighted_f1")


def evaluation_to_json(evaluation: Evaluation) -> Json:
    """Return the scores of each layer: of predicted labels, or of judged queries or pairs."""
    transform = transform_of(evaluation.best.target)
    if evaluation.classification is None:
        return {**_scores_to_json(evaluation), **transform}
    classification = evaluation.classification
    return {
        **pick(classification, "method"),
        **pick(evaluation, "n"),
        **({} if classification.sample is None else {"n_sampled": len(classification.sample)}),
        **pick(classification, "label_field"),
        "layers": [_label_scores(scores) for scores in evaluation.scores],
        **_best(evaluation),
        **({} if classification.n_folds is None else pick(classification, "n_folds")),
        **transform,
    }


def _label_scores(scores: LayerScores) -> Json:
    return {
        **pick(scores, "layer"),
        **({} if scores.k is None else pick(scores, "k", "weights")),
        **{name: scores.values[name] for name in _LABEL_METRICS},
        **_intervals({name: scores.intervals[name] for name in _LABEL_METRICS if scores.intervals}),
    }


def _scores_to_json(evaluation: Evaluation) -> Json:
    """Return the metrics of any evaluation: of labels, at the first k and weighting."""
    return {
        **pick(evaluation, "subject", "n", "n_left_out", "metrics"),
        **({} if evaluation.retrieval is None else plain(evaluation.retrieval)),
        "layers": [
            {"layer": scores.layer, **scores.values, **_intervals(scores.intervals)}
            for scores in map(evaluation.at, evaluation.layers)
        ],
        **_best(evaluation),
    }


def _best(evaluation: Evaluation) -> Json:
    return {"best_layer": evaluation.best_layer, "frugal_layer": plain(evaluation.frugal)}


def classification_report_to_json(report: ClassificationReport) -> Json:
    """Return the figures of each label, and what is confused."""
    return {
        **pick(report, "n", "n_abstained", "n_unlabelled", "accuracy", "macro", "weighted"),
        "labels": [
            {"label": name, "precision": p, "recall": r, "f1": f1, "support": support}
            for name, p, r, f1, support in zip(
                report.label_names,
                report.precision.tolist(),
                report.recall.tolist(),
                report.f1.tolist(),
                report.support.tolist(),
                strict=True,
            )
        ],
        **pick(report, "confused", "unknown_labels"),
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


def _intervals(intervals: Mapping[str, Interval]) -> Json:
    return {f"{name}_interval": _bounds(interval) for name, interval in intervals.items()}


def _bounds(interval: Interval) -> list[float]:
    return [interval.low, interval.high]


def probe_to_json(probe: Probe) -> Json:
    """Return linear classifiers by layer, beside neighbours."""
    neighbors = probe.neighbors
    [k] = neighbors.ks
    return {
        **pick(probe, "n", "n_folds", "label_field"),
        "k": k,
        "layers": [_probed(head, neighbors.at(head.layer)) for head in probe.scores],
        "best_layer": probe.best_layer,
        "knn_best_layer": neighbors.best_layer,
        "gain": probe.gain,
        "gain_interval": _bounds(probe.gain_interval),
    }


def _probed(head: LayerProbe, neighbors: LayerScores) -> Json:
    return {
        **pick(head, "layer", "c", "temperature", "accuracy", "macro_f1", "log_loss"),
        "knn_accuracy": neighbors.values["accuracy"],
        "knn_macro_f1": neighbors.values["macro_f1"],
    }


def transform_fit_to_json(fit: TransformFit) -> Json:
    """Return fitted transforms."""
    return {
        **pick(fit, "n", "n_fitted", "n_judged"),
        "layers": [
            {**pick(layer, "layer", "shrinkage"), "macro_f1": plain(layer.macro_f1) or None}
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
        **pick(tuning, "layer", "n_training", "n_held_out", "n_left_out"),
        "n_trained_parameters": trained.n_trained,
        **pick(trained, "n_parameters", "share", "epochs", "best_epoch"),
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
