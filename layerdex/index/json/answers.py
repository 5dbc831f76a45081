"""Answers about documents as plain data: hits, predictions, duplicates, label issues."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from layerdex.index.json.transform import transform_of

if TYPE_CHECKING:
    from layerdex.search.dedup.overlap import Overlap
    from layerdex.search.dedup.threshold_sweep import ThresholdSweep
    from layerdex.search.labels.label_issues import LabelIssue, LabelIssues
    from layerdex.search.results import Deduplication, Hit, Prediction

Json = dict[str, Any]


def hit_to_json(hit: Hit) -> Json:
    """Return a hit with its similarity, or in the same place the score of a ranking."""
    closeness = {"similarity": hit.similarity} if hit.score is None else {"score": hit.score}
    return {
        "rank": hit.rank,
        "id": hit.id,
        **closeness,
        "label": hit.label,
        "text": hit.text,
        "metadata": hit.metadata,
    }


def prediction_to_json(prediction: Prediction) -> Json:
    """Return a predicted label."""
    return {
        "text": prediction.text,
        "label": prediction.label,
        "confidence": prediction.confidence,
        "layer": prediction.layer,
        "neighbors": [asdict(neighbor) for neighbor in prediction.neighbors],
        **transform_of(prediction.target),
    }


def deduplication_to_json(result: Deduplication) -> Json:
    """Return the counts and clusters of duplicates."""
    return {
        "layer": result.layer,
        "threshold": result.threshold,
        "n": result.n,
        "n_kept": len(result.kept),
        "n_exact": result.n_exact,
        "n_near": len(result.removed) - result.n_exact,
        "n_conflicts": result.n_conflicts,
        "clusters": list(clusters_to_json(result)),
        **transform_of(result.target),
    }


def clusters_to_json(result: Deduplication) -> Iterator[Json]:
    """Yield each kept document with the duplicates removed for it."""
    for kept, removals in result.clusters.items():
        yield {
            "kept": kept,
            "removed": [
                {
                    "id": removal.id,
                    "similarity": removal.similarity,
                    "exact": removal.is_exact,
                    "conflict": removal.is_conflict,
                }
                for removal in removals
            ],
        }


def threshold_sweep_to_json(sweep: ThresholdSweep) -> Json:
    """Return what each of many thresholds would remove."""
    bounds, counts = sweep.histogram()
    return {
        "layer": sweep.layer,
        "n": sweep.n,
        "n_texts": sweep.n_texts,
        "n_exact": sweep.n_exact,
        "n_paired": sweep.n_paired,
        "keep": sweep.keep.value,
        "percentiles": dict(sweep.percentiles),
        "nearest": {"bounds": bounds.tolist(), "counts": counts.tolist()},
        "valley": sweep.valley,
        "steps": [asdict(step) for step in sweep.steps],
        **transform_of(sweep.target),
    }


def overlap_to_json(overlap: Overlap) -> Json:
    """Return the documents that another index has too."""
    return {
        "layer": overlap.layer,
        "threshold": overlap.threshold,
        "n": overlap.n,
        "n_other": overlap.n_other,
        "n_exact": overlap.n_exact,
        "n_near": len(overlap.shared) - overlap.n_exact,
        "n_conflicts": overlap.n_conflicts,
        "found": [asdict(document) for document in overlap.shared],
        **transform_of(overlap.target),
    }


def label_issue_to_json(issue: LabelIssue) -> Json:
    """Return a label issue."""
    return asdict(issue)


def label_issues_to_json(issues: LabelIssues) -> Json:
    """Return label issues."""
    return {
        "layers": [target.name for target in issues.targets],
        "layer": issues.neighbors_target.name,
        "k": issues.k,
        "n": issues.n,
        "label_field": issues.label_field,
        "n_found": issues.n_issues,
        "found": [label_issue_to_json(issue) for issue in issues.issues],
        **transform_of(issues.neighbors_target),
    }


def label_issue_rows(issues: LabelIssues) -> Iterator[Json]:
    """Yield each label issue, as one line of JSON."""
    for issue in issues.issues:
        yield {**label_issue_to_json(issue), **transform_of(issues.neighbors_target)}
