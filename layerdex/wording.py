"""Words that command line, pictures and notebooks share."""

from __future__ import annotations

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


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """Write a count with its noun, such as ``1 segment`` or ``2,000 segments``."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def shorten(text: str, limit: int = 60) -> str:
    """Return the start of a text with single spaces, at most ``limit`` characters."""
    start = " ".join(text[: 2 * limit].split())
    is_whole = len(start) <= limit and len(text) <= 2 * limit
    return start if is_whole else start[: limit - 1] + "…"
