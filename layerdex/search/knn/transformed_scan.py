"""The nearest of one query among transformed vectors, without transforming them all.

A transform moves a unit vector x to A (x - m) and divides by the length of that. The product with
a query q, transformed itself, is ``(w · x - w · m) / |A (x - m)|`` with ``w = Aᵀ q``: a scan of the
codes as they lie, and a length that is each document's own, whatever the query. All that rounding
may have kept out of the k nearest are then transformed as everywhere else, so that answers are
those of transforming all. (100,000 × 384 by one thread: 466 ms for all, 18 ms so, and 396 ms for
the first query, which learns the lengths.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from layerdex.records import Rows, Vectors
from layerdex.search.vectors.transform import Transform
from layerdex.storage.vectors.layer_vectors import SegmentSlice

_UNIT_ROUNDOFF = 2.0**-24
_SHORTEST = 1e-6
"""Of a moved vector; shorter ones are rounding, and transformed to know better."""
_STEPS = 2e-5  # two steps of similarity: within one, a lower row comes first


def scan_transformed(
    transform: Transform, part: SegmentSlice, query: Vectors, k: int
) -> tuple[Rows, NDArray[np.float32]]:
    """Return rows that include the k nearest of a part, and their similarities.

    ``query`` is a transformed unit vector, (1, width) float32. The part's codes keep lengths.
    """
    near = np.arange(len(part.rows))
    if len(near) > k:
        similarities, errors = _estimate(transform, part, query[0])
        kth = np.partition(similarities - errors, -k)[-k]
        near = np.flatnonzero(similarities + errors >= kth - _STEPS)
    vectors = transform.apply(part.file.decode(part.positions[near]))
    return part.rows[near], np.clip(vectors @ query[0], -1, 1)


def _estimate(
    transform: Transform, part: SegmentSlice, query: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the similarity of each row, and how far the transformed vectors' may be from it.

    A float32 sum of n products is off by n units of roundoff at most (Higham, *Accuracy and
    Stability of Numerical Algorithms*, 3.1), whichever way it is summed.
    """
    weights = query if transform.matrix is None else query @ transform.matrix
    products, positions = part.file.scan(weights[None], part.file.n, allowed=None)
    of_position = np.empty(part.file.n)
    of_position[positions] = products
    stored, moved = transform.lengths(part.file)[:, part.positions]
    moved = np.maximum(moved, _SHORTEST)
    offset = float(np.dot(weights.astype(np.float64), transform.mean))
    similarities = (of_position[part.positions] / stored - offset) / moved
    sizes = float(np.linalg.norm(weights)) + transform.size
    reach = 1 + float(np.linalg.norm(transform.mean))  # no vector is farther from the mean
    # Three sums of that many products: the weights, a length, and the vector that is transformed.
    n_rounded = 3 * len(transform.mean)
    return similarities, n_rounded * _UNIT_ROUNDOFF * (1 + sizes * reach / moved)
