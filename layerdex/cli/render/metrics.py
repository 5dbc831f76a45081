"""How tables and pictures write metrics, their intervals and their differences."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layerdex.search.evaluation.metrics import Interval

METRIC_NAMES = {
    "ndcg@10": "nDCG@10",
    "recall@100": "recall@100",
    "mrr@10": "MRR@10",
    "spearman": "Spearman",
    "average_precision": "avg. precision",
    "f1": "F1",
    "threshold": "threshold",
    "macro_f1": "macro-F1",
    "weighted_f1": "weighted F1",
    "accuracy": "accuracy",
}
"""Names of metrics as users read them, those that decide the best layer first."""


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
