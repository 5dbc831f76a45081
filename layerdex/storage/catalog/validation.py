"""Types and ranges of the catalog's values: SQLite allows any value in any column.

Digests find damage. A forged catalog has matching digests, and must still be an error, never a
crash or an array of a size that it claims.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from layerdex.records import EncoderSettings, Quantization
from layerdex.storage.vectors.layer_vectors import Segment

_MAX_ROWS = 1 << 62
"""Less than 64 bits can hold, so that counters can advance."""
_MAX_COMPONENTS = 1 << 20
_MAX_BLOCKS = 1 << 16
_MAX_CANDIDATES = 1 << 16

_NONE = type(None)
_VERSIONS = {
    (int, str, int, label, bytes, int, int, bool, n_unknown, bool, int)
    for label in (str, _NONE)
    for n_unknown in (int, _NONE)
}


def is_version(fields: Sequence[Any]) -> bool:
    """Return whether the fields of a document version (`VERSION_FIELDS`) have their types."""
    if tuple(map(type, fields)) not in _VERSIONS:
        return False
    _, _, ordinal, _, _, n_characters, n_tokens, _, n_unknown, unreadable, _ = fields
    least: int = min(ordinal, n_characters, n_tokens, (n_unknown or 0) - unreadable)
    return least >= 0


def is_metadata(fields: Sequence[Sequence[Any]]) -> bool:
    """Return whether name, type, text and number of each field are of the right type."""
    return all(
        type(name) is type(value_type) is type(text) is str
        and (number is None or type(number) is float)
        for name, value_type, text, number in fields
    )


def are_segments(segments: Sequence[Segment]) -> bool:
    """Return whether segments, in row order, have room for their rows and do not overlap."""
    return all(map(_is_segment, segments)) and all(
        segment.last_row < following.first_row for segment, following in pairwise(segments)
    )


def _is_segment(segment: Segment) -> bool:
    numbers = [segment.n_documents, segment.first_row, segment.last_row]
    for layer, file in segment.files.items():
        numbers += [layer, file.size_bytes, file.crc32 or 0]
    return (
        all(is_count(number) for number in numbers)
        and all(file.is_valid for file in segment.files.values())
        and 0 < segment.first_row <= segment.last_row
        and 0 < segment.n_documents <= segment.last_row - segment.first_row + 1
    )


def are_settings(
    encoder: EncoderSettings, layers: tuple[int, ...], counters: Sequence[Any]
) -> bool:
    """Return whether settings have their types and ranges, and layers ascend within the depth."""
    texts = [encoder.model, encoder.template, encoder.fingerprint]
    sizes = [encoder.width, encoder.max_length, encoder.token_budget, encoder.window]
    if encoder.window_bytes is not None:
        sizes.append(encoder.window_bytes)
    return (
        all(isinstance(text, str) for text in texts)
        and (encoder.revision is None or isinstance(encoder.revision, str))
        and (encoder.quantization is None or _is_quantization(encoder.quantization, encoder.depth))
        and all(is_count(number) and number > 0 for number in sizes)
        and isinstance(encoder.pads, bool)
        and encoder.width <= _MAX_COMPONENTS
        and is_count(encoder.depth)
        and encoder.depth <= _MAX_BLOCKS
        and all(map(is_count, counters))
        and bool(layers)
        and layers[0] >= 0
        and layers[-1] <= encoder.depth
        and all(layer < deeper for layer, deeper in pairwise(layers))
    )


def _is_quantization(made: Quantization, depth: object) -> bool:
    figures = (made.mean_cosines, made.lowest_cosines, made.overlaps)
    return (
        all(isinstance(part, str) for part in made.identity)
        and all(is_count(n) and n > 0 for n in (made.n_calibrating, made.n_checked))
        and all(isinstance(of_layers, tuple) for of_layers in figures)
        and all(len(of_layers) - 1 == depth for of_layers in figures)
        and all(
            isinstance(figure, float) and math.isfinite(figure)
            for of_layers in figures
            for figure in of_layers
        )
    )


def is_best_layer(value: object, layers: Sequence[int]) -> bool:
    """Return whether a setting is a best layer, one of ``layers``, with its figures."""
    return (
        isinstance(value, Mapping)
        and is_count(value.get("layer"))
        and value["layer"] in layers
        and isinstance(value.get("method"), str)
        and all(isinstance(figure, float | int) for key, figure in value.items() if key != "method")
    )


def is_head(value: object) -> bool:
    """Return whether a setting is the record of a classification head."""
    if not isinstance(value, Mapping):
        return False
    texts = [value.get(name) for name in ("file", "fingerprint", "label_field")]
    labels, temperature = value.get("labels"), value.get("temperature")
    return (
        all(isinstance(text, str) for text in texts)
        and all(is_count(value.get(name)) for name in ("layer", "size_bytes", "crc32"))
        and all(is_count(value.get(name, 0)) for name in ("next_row", "n_in_index"))
        and isinstance(labels, Sequence)
        and all(isinstance(label, str) for label in labels)
        and isinstance(temperature, float | int)
        and 0 < temperature < math.inf
    )


def is_transform(value: object) -> bool:
    """Return whether a setting is the record of vector transforms."""
    if not isinstance(value, Mapping):
        return False
    counts = [value.get(name) for name in ("size_bytes", "crc32", "n", "n_fitted", "next_row")]
    layers, shrinkages = value.get("layers"), value.get("shrinkages")
    return (
        all(isinstance(value.get(name), str) for name in ("file", "fingerprint"))
        and all(map(is_count, counts))
        and isinstance(layers, list)
        and isinstance(shrinkages, list)
        and len(layers) == len(shrinkages)
        and all(map(is_count, layers))
        and all(isinstance(share, float | int) and 0 < share <= 1 for share in shrinkages)
    )


def are_approximate(value: object) -> bool:
    """Return whether a setting is the records of approximate indexes, at most one per layer."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(map(_is_approximate, value))
        and len({record["layer"] for record in value}) == len(value)
    )


def _is_approximate(record: object) -> bool:
    if not isinstance(record, Mapping):
        return False
    counts = ["layer", "size_bytes", "crc32", "n", "first_row", "next_row", "n_lists", "n_queries"]
    measured, target = record.get("measured"), record.get("target")
    return (
        all(isinstance(record.get(name), str) for name in ("file", "fingerprint"))
        and all(is_count(record.get(name)) for name in counts)
        and isinstance(target, float)
        and 0 < target < 1
        and record["n"] > 0
        and 0 < record["first_row"] < record["next_row"]
        and isinstance(measured, list)
        and bool(measured)
        and all(map(_is_measured, measured))
        and measured[0]["share"] == 1
        and all(more["share"] > less["share"] for more, less in pairwise(measured))
    )


def _is_measured(measured: object) -> bool:
    if not isinstance(measured, Mapping):
        return False
    shares = [measured.get(name) for name in ("share", "recall", "bound")]
    names = ("n_probes", "n_probes_together", "n_candidates")
    counts = [measured.get(name) for name in names]
    return (
        # Others would be arguments that there are not.
        measured.keys() == {"share", "recall", "bound", *names}
        and all(isinstance(share, float | int) and 0 <= share <= 1 for share in shares)
        and measured["share"] > 0
        and measured["bound"] < 1  # which an exact answer alone has
        and all(is_count(n) for n in counts)
        and 0 < measured["n_candidates"] <= _MAX_CANDIDATES
        and min(measured["n_probes"], measured["n_probes_together"]) > 0
    )


def is_count(value: object) -> bool:
    """Return whether a value is an integer from 0 to 2^62 - 1."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_ROWS
