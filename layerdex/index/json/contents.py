"""What an index holds as plain data: documents, settings, skipped rows."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from layerdex.index.json.plain import Json, pick

if TYPE_CHECKING:
    from layerdex.records import Document, Rejected, SourceDocument
    from layerdex.storage.maintenance.info import IndexInfo

_COUNTS = (
    "n_documents",
    "n_dead",
    "n_segments",
    "n_truncated",
    "n_unknown",
    "n_unreadable",
    "size_bytes",
)
_MODEL = ("depth", "width", "model", "revision", "adapter", "pooling", "template")
_TEXTS = ("max_length", "long", "fingerprint", "token_budget", "window", "window_bytes", "pads")


def index_info_to_json(info: IndexInfo) -> Json:
    """Return counts, sizes and settings of an index."""
    quantization = info.encoder.quantization
    return {
        **pick(info, *_COUNTS, "layers", "precision"),
        **pick(info.encoder, *_MODEL),
        **pick(info, "query_template"),
        **pick(info.encoder, *_TEXTS),
        "calibration_file": info.encoder.calibration and info.encoder.calibration.path,
        "quantization": quantization and asdict(quantization),
        **pick(info, "labels", "best_layer", "transform", "head", "approximate"),
        "source_fields": info.source_fields and info.source_fields.to_setting(),
        "date_formats": info.date_formats,
    }


def document_to_json(document: Document) -> Json:
    """Return a stored document, as ``export`` writes it."""
    return document.as_row()


def source_document_to_json(document: SourceDocument) -> Json:
    """Return a document as a source gives it."""
    return {**pick(document, "id", "text", "label"), **document.metadata}


def rejected_to_json(row: Rejected) -> Json:
    """Return a skipped row."""
    return {**pick(row.origin, "source", "line"), **pick(row, "reason")}
