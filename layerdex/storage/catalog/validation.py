"""Types and ranges of what the catalog holds: SQLite keeps any value in any column.

Digests find what was damaged. A catalog that someone forged has digests that fit, and must still
be an error rather than a crash, or an array as large as a number in it says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from layerdex.records import EncoderSettings
from layerdex.storage.vectors.layer_vectors import Segment

_MOST_ROWS = 1 << 62
"""Below what 64 bits hold, so that counters can go on."""
_MOST_COMPONENTS = 1 << 20
_MOST_BLOCKS = 1 << 16

_TYPES = (int, str, int, str, bytes, int, int, bool, int)
_VERSIONS = {_TYPES, (*_TYPES[:3], type(None), *_TYPES[4:])}


def is_version(fields: Sequence[Any]) -> bool:
    """Say whether the fields of a document version (`VERSION_FIELDS`) have their types."""
    return tuple(map(type, fields)) in _VERSIONS and min(fields[2], fields[5], fields[6]) >= 0


def is_metadata(fields: Sequence[Sequence[Any]]) -> bool:
    """Say whether name, kind, text and number of each field have their types."""
    return all(
        type(name) is type(kind) is type(text) is str and (number is None or type(number) is float)
        for name, kind, text, number in fields
    )


def are_segments(segments: Sequence[Segment]) -> bool:
    """Say whether segments, in row order, have room for their rows and share none."""
    return all(map(_is_segment, segments)) and all(
        one.last_row < other.first_row for one, other in pairwise(segments)
    )


def _is_segment(segment: Segment) -> bool:
    numbers = [segment.n_documents, segment.first_row, segment.last_row]
    for layer, file in segment.files.items():
        numbers += [layer, file.size_bytes, file.crc32]
    return (
        all(is_count(number) for number in numbers)
        and 0 < segment.first_row <= segment.last_row
        and 0 < segment.n_documents <= segment.last_row - segment.first_row + 1
    )


def are_settings(
    encoder: EncoderSettings, layers: tuple[int, ...], counters: Sequence[Any]
) -> bool:
    """Say whether settings have their types and ranges, and layers ascend within the model's."""
    texts = [encoder.model, encoder.template, encoder.fingerprint]
    sizes = [encoder.width, encoder.max_length, encoder.token_budget, encoder.window]
    return (
        all(isinstance(text, str) for text in texts)
        and (encoder.revision is None or isinstance(encoder.revision, str))
        and all(is_count(number) and number > 0 for number in sizes)
        and encoder.width <= _MOST_COMPONENTS
        and is_count(encoder.depth)
        and encoder.depth <= _MOST_BLOCKS
        and all(map(is_count, counters))
        and bool(layers)
        and layers[0] >= 0
        and layers[-1] <= encoder.depth
        and all(one < other for one, other in pairwise(layers))
    )


def is_best_layer(value: object, layers: Sequence[int]) -> bool:
    """Say whether a setting names the best of the stored layers."""
    return (
        isinstance(value, Mapping)
        and is_count(value.get("layer"))
        and value["layer"] in layers
        and isinstance(value.get("method"), str)
        and all(isinstance(one, float | int) for name, one in value.items() if name != "method")
    )


def is_head(value: object) -> bool:
    """Say whether a setting describes a head's file and what it was fitted on."""
    if not isinstance(value, Mapping):
        return False
    texts = [value.get(name) for name in ("file", "fingerprint", "label_field")]
    labels, temperature = value.get("labels"), value.get("temperature")
    return (
        all(isinstance(text, str) for text in texts)
        and all(is_count(value.get(name)) for name in ("layer", "size_bytes", "crc32"))
        and isinstance(labels, Sequence)
        and all(isinstance(label, str) for label in labels)
        and isinstance(temperature, float | int)
        and 0 < temperature < math.inf
    )


def is_transform(value: object) -> bool:
    """Say whether a setting describes the file of transforms and what they were fitted on."""
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
        and all(isinstance(one, float | int) and 0 < one <= 1 for one in shrinkages)
    )


def is_count(value: object) -> bool:
    """Say whether a value is a whole number from 0 that 64 bits hold, with room."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_ROWS
