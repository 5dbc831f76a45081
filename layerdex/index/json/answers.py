"""Answers about documents as plain data: hits, predictions, duplicates, label issues."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from layerdex.index.json.plain import Json, pick, plain, transform_of

if TYPE_CHECKING:
    from layerdex.index.label_changes import LabelChanges
    from layerdex.search.dedup.overlap import Overlap
    from layerdex.search.dedup.threshold_sweep import ThresholdSweep
    from layerdex.search.labels.label_issues import LabelIssues
    from layerdex.search.results import Deduplication, Hit, Prediction


def hit_to_json(hit: Hit) -> Json:
    """Return a hit with its similarity, or in the same place the score of a ranking."""
    closeness = "similarity" if hit.score is None else "score"
    return pick(hit, "rank", "id", closeness, "label", "text", "metadata")


def predicted_to_json(prediction: Prediction) -> Json:
    """Return a predicted label."""
    return {
        **pick(prediction, "text", "label", "confidence", "layer", "neighbors"),
        **({} if prediction.label_field == "label" else pick(prediction, "label_field")),
        **transform_of(prediction.target),
    }


def deduplication_to_json(result: Deduplication) -> Json:
    """Return the counts and clusters of duplicates."""
    return {
        **pick(result, "layer", "threshold", "n"),
        "n_kept": len(result.kept),
        **pick(result, "n_exact", "n_near", "n_conflicts", "n_unreadable"),
        "clusters": list(clusters_to_json(result)),
        **transform_of(result.target),
    }


def clusters_to_json(result: Deduplication) -> Iterator[Json]:
    """Yield each kept document with the duplicates removed for it."""
    for kept, removals in result.clusters.items():
        removed = [
            {
                **pick(removal, "id", "similarity"),
                "exact": removal.is_exact,
                "conflict": removal.is_conflict,
            }
            for removal in removals
        ]
        yield {"kept": kept, "removed": removed}


def threshold_sweep_to_json(sweep: ThresholdSweep) -> Json:
    """Return what each of many thresholds would remove."""
    bounds, counts = sweep.histogram()
    return {
        **pick(sweep, "layer", "n", "n_texts", "n_exact", "n_paired", "keep", "percentiles"),
        "nearest": {"bounds": bounds.tolist(), "counts": counts.tolist()},
        **pick(sweep, "valley", "steps"),
        **transform_of(sweep.target),
    }


def overlap_to_json(overlap: Overlap) -> Json:
    """Return the documents that another index has too."""
    return {
        **pick(overlap, "layer", "threshold", "n", "n_other", "n_exact", "n_near", "n_conflicts"),
        "found": plain(overlap.shared),
        **transform_of(overlap.target),
    }


def label_issues_to_json(issues: LabelIssues) -> Json:
    """Return label issues."""
    return {
        "layers": [target.name for target in issues.targets],
        "layer": issues.neighbors_target.name,
        **pick(issues, "k", "n", "label_field"),
        "n_found": issues.n_issues,
        "found": plain(issues.issues),
        **transform_of(issues.neighbors_target),
    }


def label_changes_to_json(changes: LabelChanges) -> Json:
    """Return what happened to the labels of documents."""
    return {
        "n_changed": len(changes.changed),
        **pick(changes, "changed", "n_unchanged", "unknown", "conflicts", "new_labels"),
    }


def label_issue_rows(issues: LabelIssues) -> Iterator[Json]:
    """Yield each label issue, as one line of JSON."""
    for issue in issues.issues:
        yield {**plain(issue), **transform_of(issues.neighbors_target)}
