"""Metadata values as the catalog stores them, and which texts are numbers."""

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
    """Parse a plain decimal number; None for any other text, also for ``nan`` and ``1_000``."""
    if _NUMBER.fullmatch(text) is None:
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def encode_value(value: Scalar) -> tuple[ValueType, str, float | None]:
    """Return the type of a value, its text, and the number that it is or that its text is."""
    if isinstance(value, bool):
        return ValueType.BOOLEAN, "true" if value else "false", None
    if isinstance(value, int):
        return ValueType.INTEGER, str(value), parse_number(str(value))
    if isinstance(value, float):
        return ValueType.REAL, repr(value), value
    return ValueType.TEXT, value, parse_number(value)


def decode_value(value_type: str, text: str) -> Scalar:
    """Return the value that `encode_value` turned into this type and text."""
    match ValueType(value_type):
        case ValueType.TEXT:
            return text
        case ValueType.INTEGER:
            return int(text)
        case ValueType.REAL:
            return float(text)
        case ValueType.BOOLEAN:
            return text == "true"
