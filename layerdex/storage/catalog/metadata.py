"""Metadata values as the catalog writes them, and what counts as a number."""

from __future__ import annotations

import math
import re
from enum import StrEnum

from layerdex.records import Scalar

_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*", re.ASCII)


class ValueType(StrEnum):
    """The JSON type of a metadata value."""

    TEXT = "text"
    INTEGER = "integer"
    REAL = "real"
    BOOLEAN = "boolean"


def parse_number(text: str) -> float | None:
    """Read a plain decimal number; None for anything else, ``nan`` and ``1_000`` included."""
    if _NUMBER.fullmatch(text) is None:
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def encode_value(value: Scalar) -> tuple[ValueType, str, float | None]:
    """Write a value as kind, text, and its number where it has one; `decode_value` reads it."""
    if isinstance(value, bool):
        return ValueType.BOOLEAN, "true" if value else "false", None
    if isinstance(value, int):
        return ValueType.INTEGER, str(value), parse_number(str(value))
    if isinstance(value, float):
        return ValueType.REAL, repr(value), value
    return ValueType.TEXT, value, parse_number(value)


def decode_value(kind: str, text: str) -> Scalar:
    """Read back what `encode_value` wrote."""
    match ValueType(kind):
        case ValueType.TEXT:
            return text
        case ValueType.INTEGER:
            return int(text)
        case ValueType.REAL:
            return float(text)
        case ValueType.BOOLEAN:
            return text == "true"
