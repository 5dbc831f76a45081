"""Which texts share a forward pass: a function of the lengths and the token budget alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def plan_batches(lengths: NDArray[np.int32], *, token_budget: int) -> list[NDArray[np.int64]]:
    """Group texts of near-equal length; each batch pads to at most ``token_budget`` tokens.

    ``lengths`` is (n,) int32. Returns index arrays that together hold each of 0..n-1 once. A text
    longer than the budget is a batch of its own. Small budgets win on a CPU, where activations
    then stay in cache.
    """
    order = np.argsort(lengths, kind="stable")
    batches: list[NDArray[np.int64]] = []
    start = 0
    for stop in range(1, len(order) + 1):
        is_last = stop == len(order)
        if is_last or (stop - start + 1) * lengths[order[stop]] > token_budget:
            batches.append(order[start:stop])
            start = stop
    return batches
