"""The label of a document: one value, also where annotation tools write a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np

from layerdex.indexer.readers.fields import CHOICES, decode_choices
from layerdex.indexer.readers.values import (
    BadKindError,
    BadValueError,
    kind,
    name_value,
    plain,
)

_ADVICE = "; use null for none"
_MAX_SHOWN = 3
_MAX_CHARACTERS = 60


def label_value(value: object, *, name: str, field: str = "label") -> str | None:
    """Return a label as a string, or None for null, an empty list and missing values.

    ``name`` is the field in the source. A list of one label is that label. Raises `BadValueError`
    for several labels, spans and objects, as a document has one label.
    """
    path = name
    value = plain(decode_choices(value), field=field)
    if isinstance(value, Mapping):
        if CHOICES not in value:
            raise BadKindError(f"{field} is nested ({kind(value)}); {_inside(value, name)}")
        value, path = value[CHOICES], f"{path}.{CHOICES}"
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        value = _single(value, field=field, path=path)
    return name_value(value, field=field, empty_advice=_ADVICE)


def _single(values: Sequence[object], *, field: str, path: str) -> object:
    """Return the only label of a list, None of an empty one; ``path`` leads to the list."""
    if any(isinstance(one, (Mapping, list, tuple)) for one in values):
        raise BadKindError(
            f"{field} holds spans, such as {shown(values[:1])}, but a document has one label: "
            f"remove them to read the texts alone"
        )
    if len(values) > 1:
        raise BadValueError(
            f"{field} is a list of {len(values)} ({shown(values)}), but a document has one "
            f"label: --label-field {path}.0 reads the first"
        )
    return values[0] if values else None


def _inside(value: Mapping[object, object], name: str) -> str:
    inner = next(iter(value), "NAME")
    return f"name the field inside it, such as --label-field {name}.{inner}"


def shown(values: Sequence[object]) -> str:
    """Return the first of several values for a message."""
    text = ", ".join(map(repr, islice(values, _MAX_SHOWN)))
    text += ", …" if len(values) > _MAX_SHOWN else ""
    return text if len(text) <= _MAX_CHARACTERS else text[:_MAX_CHARACTERS] + "…"
