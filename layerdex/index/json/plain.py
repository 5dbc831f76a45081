"""Values and fields of results as dictionaries, lists, strings and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from layerdex.choices import TransformName

if TYPE_CHECKING:
    from layerdex.search.targets import SearchTarget

Json = dict[str, Any]


def plain(value: Any) -> Any:
    """Return a value as plain data: arrays and tuples are lists, enums their values."""
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value):
        return pick(value, *(field.name for field in fields(value)))
    if isinstance(value, Mapping):
        return {plain(key): plain(of_key) for key, of_key in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value  # NumPy's arrays and scalars


def pick(result: object, *names: str) -> Json:
    """Return some attributes of a result, in this order."""
    return {name: plain(getattr(result, name)) for name in names}


def transform_of(target: SearchTarget) -> Json:
    """Return the field of a target's transform: none where vectors are plain."""
    if target.transform is TransformName.NONE:
        return {}
    return {"transform": target.transform.value}
