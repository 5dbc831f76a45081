"""What an index and a machine hold as plain data: documents, settings, skipped rows."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerdex.index.machine import Machine
    from layerdex.records import Document, Rejected, SourceDocument, Truncated
    from layerdex.storage.maintenance.info import IndexInfo

Json = dict[str, Any]


def index_info_to_json(info: IndexInfo) -> Json:
    """Return counts, sizes and settings of an index."""
    encoder = info.encoder
    return {
        "n_documents": info.n_documents,
        "n_dead": info.n_dead,
        "n_segments": info.n_segments,
        "n_truncated": info.n_truncated,
        "size_bytes": info.size_bytes,
        "layers": list(info.layers),
        "precision": info.precision.value,
        "depth": encoder.depth,
        "width": encoder.width,
        "model": encoder.model,
        "revision": encoder.revision,
        "adapter": encoder.adapter,
        "pooling": encoder.pooling.value,
        "template": encoder.template,
        "query_template": info.query_template,
        "max_length": encoder.max_length,
        "long": encoder.long.value,
        "fingerprint": encoder.fingerprint,
        "token_budget": encoder.token_budget,
        "window": encoder.window,
        "labels": info.labels,
        "best_layer": info.best_layer,
        "transform": info.transform,
    }


def document_to_json(document: Document) -> Json:
    """Return a stored document, as ``export`` writes it."""
    return document.as_row()


def source_document_to_json(document: SourceDocument) -> Json:
    """Return a document as a source gives it."""
    fields = {"id": document.id, "text": document.text, "label": document.label}
    return {**fields, **document.metadata}


def truncated_to_json(truncated: Truncated) -> Json:
    """Return a document whose text was cut."""
    return asdict(truncated)


def rejected_to_json(row: Rejected) -> Json:
    """Return a skipped row."""
    return {"source": row.origin.source, "line": row.origin.line, "reason": row.reason}


def machine_to_json(machine: Machine) -> Json:
    """Return what a machine has."""
    return asdict(machine)
