"""What an index holds and how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from layerdex.cli.render.tables import make_list, print_table
from layerdex.cli.render.text import (
    counted,
    describe_field,
    describe_labels,
    describe_unknown,
    one_line,
)
from layerdex.layers import format_layers
from layerdex.wording import METRIC_NAMES

if TYPE_CHECKING:
    from layerdex.index.checks import IndexInfo
    from layerdex.records import EncoderSettings

_N_LABELS_SHOWN = 5
_DAMAGED = "damaged"


def print_info(info: IndexInfo, *, title: str) -> None:
    """Print counts, sizes and settings, one per line."""
    from layerdex.index.languages import is_english_model

    encoder = info.encoder
    rows: dict[str, str | None] = {
        "documents": f"{info.n_documents:,} live, {counted(info.n_dead, 'dead version')}",
        "segments": f"{info.n_segments:,}, {info.size_bytes / 1e6:,.1f} MB in all",
        "layers": f"{format_layers(info.layers)} of 0-{encoder.depth}, width {encoder.width}",
        "precision": info.precision.value,
        "best layer": _DAMAGED if "best_layer" in info.damaged else _describe_best(info.best_layer),
        "labels": _describe_labels(info.labels),
        "fields": _DAMAGED if "source_fields" in info.damaged else _describe_fields(info),
        "dates": _DAMAGED if "date_formats" in info.damaged else _describe_dates(info),
        "truncated": counted(info.n_truncated, "text"),
        "unknown": describe_unknown(info.n_unknown, info.n_unreadable),
        "model": encoder.model + (f" at {encoder.revision}" if encoder.revision else ""),
        "language": "English; for others take a multilingual model"
        if is_english_model(encoder.model)
        else None,
        "adapter": encoder.adapter,
        "int8": _describe_int8(encoder),
        "pooling": encoder.pooling.value,
        "template": encoder.template,
        "transforms": _DAMAGED
        if "transform" in info.damaged
        else _describe_transform(info.transform),
        "head": _DAMAGED if "head" in info.damaged else _describe_head(info.head),
        "approximate": _DAMAGED
        if "approximate" in info.damaged
        else _describe_approximate(info.approximate),
        "for queries": info.query_template,
        "long texts": f"{encoder.long} at {counted(encoder.max_length, 'token')}",
        "batches": None if encoder.pads else "equal lengths only, as padding changes vectors",
        "fingerprint": encoder.fingerprint,
    }
    shown = {name: one_line(value) for name, value in rows.items() if value is not None}
    print_table(make_list(shown, title=one_line(title)))


def _describe_int8(encoder: EncoderSettings) -> str | None:
    if (made := encoder.quantization) is None:
        return None
    by = "Layerdex's own" if encoder.calibration is None else encoder.calibration.path
    return f"by NNCF {made.version} on {made.n_calibrating} texts of {by}; {made.describe()}"


def _describe_best(best: Mapping[str, Any] | None) -> str:
    if best is None:
        return "none saved"
    metric = next(name for name in METRIC_NAMES if name in best)
    n_sampled = best.get("n_sampled")
    of_sample = "" if n_sampled is None else f" of a sample of {n_sampled:,}"
    return f"{best['layer']} ({METRIC_NAMES[metric]} {best[metric]:.4f}{of_sample})"


def _describe_labels(labels: Mapping[str, int]) -> str:
    from layerdex.index.similar_labels import group_similar, quote_label

    similar = {label for group in group_similar(labels) for label in group}
    shown = [
        f"{quote_label(label) if label in similar else label} ({n:,})"
        for label, n in list(labels.items())[:_N_LABELS_SHOWN]
    ]
    n_more = len(labels) - len(shown)
    return (", ".join(shown) or "none") + (f" and {n_more:,} more" if n_more else "")


def _describe_fields(info: IndexInfo) -> str | None:
    if info.source_fields is None:
        return None
    parts = info.source_fields.parts
    metadata = parts.pop("metadata")
    parts["metadata"] = "all others" if metadata is None else ", ".join(metadata) or "none"
    return "; ".join(f"{part}: {name or 'none'}" for part, name in parts.items())


def _describe_dates(info: IndexInfo) -> str | None:
    formats = info.date_formats or {}
    return ", ".join(f"{field}={form}" for field, form in formats.items()) or None


def _describe_transform(transform: Mapping[str, Any] | None) -> str | None:
    if transform is None:
        return None
    changed = counted(transform["n_changed"], "document")
    return f"fitted on {counted(transform['n'], 'document')}; {changed} added or removed since"


def _describe_approximate(layers: Sequence[Mapping[str, Any]] | None) -> str | None:
    if layers is None:
        return None
    return "; ".join(map(_describe_approximate_layer, layers))


def _describe_approximate_layer(made: Mapping[str, Any]) -> str:
    bound = min(measured["bound"] for measured in made["measured"])
    described = f"layer {made['layer']}, recall at least {bound:.4f} (target {made['target']:g})"
    if made["n_tail"] or made["n_dead"]:
        changed = f"{made['n_tail']:,} added and {made['n_dead']:,} removed"
        described += f", {changed} since of {made['n']:,}"
    return described + (", stale: not used" if made["is_stale"] else "")


def _describe_head(head: Mapping[str, Any] | None) -> str | None:
    if head is None:
        return None
    described = f"layer {head['layer']}, {counted(head['n_labels'], 'label')}"
    described += describe_field(head["label_field"])
    if not (vanished := head["vanished_labels"]):
        return described
    return f"{described}; no document has any more: {describe_labels(vanished)}"
