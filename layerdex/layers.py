"""Layer numbers: the only place that parses and resolves them.

Layer 0 is the embedding output and 1..depth are the encoder blocks, as in Hugging Face
``hidden_states``; a negative number counts from the deepest layer, -1 being that layer itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import SupportsIndex

from layerdex.arguments import format_value, to_list
from layerdex.errors import LayerError, OptionError

LayerSelection = str | SupportsIndex | Iterable[SupportsIndex]

_RANGE = re.compile(r"\s*(-?\d{1,9})\s*(?:-\s*(-?\d{1,9}))?\s*")


def resolve_layer(layer: SupportsIndex, *, depth: int) -> int:
    """Return the layer from 0 to ``depth`` that a number, possibly negative, stands for.

    Raises `LayerError` when the model has no such layer.
    """
    is_iterable = isinstance(layer, Iterable)  # NumPy's arrays have an __index__ that fails
    if isinstance(layer, bool) or is_iterable or not isinstance(layer, SupportsIndex):
        raise OptionError(f"a layer must be a whole number, got {format_value(layer)}")
    number = layer.__index__()
    resolved = number if number >= 0 else depth + 1 + number
    if not 0 <= resolved <= depth:
        raise LayerError(
            f"layer {format_value(number)} does not exist: this model has layers 0 to {depth} "
            f"(or -1 to -{depth + 1}, counted from the deepest)"
        )
    return resolved


def resolve_layers(selection: LayerSelection, *, depth: int) -> tuple[int, ...]:
    """Return the ascending layers of a selection: ``all``, ``-1``, ``4``, ``0,4-6`` or numbers.

    Raises `OptionError` for a selection that cannot be read, `LayerError` for a missing layer.
    """
    if isinstance(selection, str):
        chosen = _parse(selection, depth=depth)
    elif isinstance(selection, Iterable):
        numbers = to_list(selection, what="layers are whole numbers")
        chosen = [resolve_layer(layer, depth=depth) for layer in numbers]
    else:
        chosen = [resolve_layer(selection, depth=depth)]
    if not chosen:
        raise OptionError("no layer selected")
    return tuple(sorted(set(chosen)))


def resolve_stored(
    selection: LayerSelection, *, stored: tuple[int, ...], depth: int
) -> tuple[int, ...]:
    """Like `resolve_layers`, for an index that holds the layers ``stored``.

    ``all`` means all stored layers. Raises `LayerError` for a layer the index does not hold.
    """
    if isinstance(selection, str) and selection.strip().lower() == "all":
        return stored
    chosen = resolve_layers(selection, depth=depth)
    missing = [layer for layer in chosen if layer not in stored]
    if missing:
        raise LayerError(
            f"layer {missing[0]} is not in this index: it holds {format_layers(stored)} "
            f"of a model with layers 0 to {depth}"
        )
    return chosen


def resolve_weighted(
    selection: LayerSelection, *, stored: tuple[int, ...], depth: int
) -> dict[int, float]:
    """Return the stored layers of a selection, ascending, with a weight each.

    In a string a layer may have a weight, as in ``4:0.7,6:0.3``; the default is 1. Raises
    `OptionError` for a selection that cannot be read or a layer with two weights, `LayerError` for
    a missing layer.
    """
    if not isinstance(selection, str) or ":" not in selection:
        return dict.fromkeys(resolve_stored(selection, stored=stored, depth=depth), 1.0)
    weights: dict[int, float] = {}
    for part in selection.split(","):
        layers, colon, weight = part.partition(":")
        try:
            number = float(weight) if colon else 1.0
        except ValueError as error:
            raise OptionError(f"cannot read the weight in {part.strip()!r}: write 4:0.7") from error
        for layer in resolve_stored(layers, stored=stored, depth=depth):
            if layer in weights:
                raise OptionError(f"layer {layer} is given twice in {selection!r}")
            weights[layer] = number
    return dict(sorted(weights.items()))


def format_layers(layers: Iterable[int]) -> str:
    """Write ascending layers in the short form, such as ``0,4-6``."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def name_layers(layers: Sequence[int]) -> str:
    """Write ascending layers in the short form with their noun, such as ``layers 0,4-6``."""
    return f"layer{'' if len(layers) == 1 else 's'} {format_layers(layers)}"


def _parse(selection: str, *, depth: int) -> list[int]:
    if selection.strip().lower() == "all":
        return list(range(depth + 1))
    chosen: list[int] = []
    for part in selection.split(","):
        match = _RANGE.fullmatch(part)
        if match is None:
            raise OptionError(
                f"cannot read layers {selection!r}: write 'all', a number such as 4 or -1, "
                "or numbers and ranges such as 0,4-6"
            )
        first = resolve_layer(int(match[1]), depth=depth)
        last = first if match[2] is None else resolve_layer(int(match[2]), depth=depth)
        if last < first:
            raise OptionError(f"layer range {part.strip()!r} runs backwards")
        chosen.extend(range(first, last + 1))
    return chosen
