"""How tables write the intervals of metrics, and their differences."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layerdex.search.evaluation.metrics import Interval


def describe_range(interval: Interval) -> str:
    """Write an interval in few columns."""
    low, high = f"{interval.low:.3f}", f"{interval.high:.3f}"
    return f"{low} to {high}" if interval.low < 0 else f"{low}-{high}"


def describe_signed(interval: Interval) -> str:
    """Write the interval of a difference."""
    return f"{interval.low:+.4f} to {interval.high:+.4f}"


def judge(interval: Interval, *, better: str = "better") -> str:
    """Say whether a difference with this interval may be chance."""
    if interval.low > 0:
        return better
    return "worse" if interval.high < 0 else "may be chance"
