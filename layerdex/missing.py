"""Missing values, whatever library they come from."""

from __future__ import annotations

from collections.abc import Mapping, Set
from decimal import Decimal

import numpy as np

NESTED = (Mapping, list, tuple, Set, np.ndarray)

_NEVER_MISSING = (str, int, *NESTED)


def is_missing(value: object) -> bool:
    """Return whether a value is None, NaN, NaT or pandas.NA."""
    if value is None or isinstance(value, _NEVER_MISSING):
        return value is None
    if isinstance(value, Decimal):  # a signalling NaN cannot be compared
        return value.is_nan()
    if type(value).__name__ == "NAType":  # pandas.NA, whose comparisons have no truth
        return True
    return bool(value != value)  # noqa: PLR0124 - NaN and NaT are unequal to themselves
