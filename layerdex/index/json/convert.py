"""Results as plain data: dictionaries, lists, strings and numbers; hits by `search_to_json`.

Result types are found by name, so that a search imports no module of training or building.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from layerdex.index.json.answers import (
    deduplication_to_json,
    hit_to_json,
    label_changes_to_json,
    label_issues_to_json,
    overlap_to_json,
    predicted_to_json,
    threshold_sweep_to_json,
)
from layerdex.index.json.contents import (
    document_to_json,
    index_info_to_json,
    rejected_to_json,
    source_document_to_json,
)
from layerdex.index.json.evaluations import (
    classification_report_to_json,
    comparison_to_json,
    evaluation_to_json,
    probe_to_json,
    transform_fit_to_json,
    tuning_to_json,
)
from layerdex.index.json.plain import Json, pick, plain, transform_of

if TYPE_CHECKING:
    from layerdex.choices import Change
    from layerdex.indexer.pipeline.pipeline import BuildReport
    from layerdex.search.evaluation.evaluation import Evaluation
    from layerdex.search.results import Prediction, SearchResult


def to_json(result: object) -> Json:
    """Return a result as plain data; raises `TypeError` for an object that is no result."""
    try:
        convert = _CONVERTERS[type(result).__name__]
    except KeyError:
        raise TypeError(f"{type(result).__name__} is not a result") from None
    return convert(result)


def search_to_json(results: Sequence[SearchResult], *, query_id: str | None) -> list[Json]:
    """Return the hits of a query, one object for each, at each layer in turn."""
    query = {} if query_id is None else {"query_id": query_id}
    return [
        {
            "query": result.query,
            **query,
            **hit_to_json(hit),
            "layer": result.target.name,
            **transform_of(result.target),
            **pick(result, "exact"),
        }
        for result in results
        for hit in result.hits
    ]


def prediction_to_json(prediction: Prediction, *, text_id: str | None) -> Json:
    """Return a text's predicted label, with the id of the text where it has one."""
    identifier = {} if text_id is None else {"id": text_id}
    return {**identifier, **predicted_to_json(prediction)}


def evaluations_to_json(evaluations: Sequence[Evaluation], *, with_report: bool) -> Json:
    """Return an evaluation, or several by the field that was predicted.

    ``with_report`` adds scikit-learn's classification report of the best layer.
    """
    documents = [to_json(evaluation) for evaluation in evaluations]
    if with_report:
        for evaluation, document in zip(evaluations, documents, strict=True):
            document["report"] = evaluation.report(evaluation.best_layer)
    if len(documents) == 1:
        return documents[0]
    return {document["label_field"]: document for document in documents}


def report_to_json(report: BuildReport, *, n_documents: int) -> Json:
    """Return the counts of a run, and how many documents the index has now."""
    return {**_counts(report), "n_documents": n_documents}


def dry_run_to_json(report: BuildReport, ids: Mapping[Change, Sequence[str]]) -> Json:
    """Return the counts of a dry run, and the ids of the documents that would change."""
    return {
        **_counts(report),
        "ids": {change.value: list(changed) for change, changed in ids.items()},
    }


def _counts(report: BuildReport) -> Json:
    counts = asdict(report)
    del counts["n_before"]
    return counts


def deletion_to_json(
    n_deleted: int, *, n_missing: int, n_documents: int, ids: Sequence[str] | None = None
) -> Json:
    """Return the counts of a deletion, and of a dry run the ids of what it would delete."""
    counts = {"n_deleted": n_deleted, "n_missing": n_missing, "n_documents": n_documents}
    return counts if ids is None else {**counts, "ids": list(ids)}


_CONVERTERS: dict[str, Callable[[Any], Json]] = {
    "Acceleration": plain,
    "ClassificationReport": classification_report_to_json,
    "Comparison": comparison_to_json,
    "Deduplication": deduplication_to_json,
    "Document": document_to_json,
    "Evaluation": evaluation_to_json,
    "Geometry": plain,
    "IndexInfo": index_info_to_json,
    "LabelChanges": label_changes_to_json,
    "LabelIssue": plain,
    "LabelIssues": label_issues_to_json,
    "Machine": plain,
    "Overlap": overlap_to_json,
    "Prediction": predicted_to_json,
    "Probe": probe_to_json,
    "Rejected": rejected_to_json,
    "SourceDocument": source_document_to_json,
    "ThresholdSweep": threshold_sweep_to_json,
    "TransformFit": transform_fit_to_json,
    "Truncated": plain,
    "Tuning": tuning_to_json,
    "Unknown": plain,
}
