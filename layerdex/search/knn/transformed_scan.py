"""The nearest neighbours of one query among transformed vectors, without transforming them all.

A transform maps a unit vector x to A (x - m), divided by its length. The similarity to a
transformed query q is ``(w · x - w · m) / |A (x - m)|`` with ``w = Aᵀ q``: a scan of the stored
codes, and a length for each document that does not depend on the query. Documents that rounding
may have moved across the k-th similarity are then transformed, so that results equal those of
transforming all. (100,000 × 384 on one thread: 466 ms to transform all, 18 ms this way, and 396 ms
for the first query, which computes the lengths; `benchmarks.transformed_search`.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from layerdex.records import Rows, Vectors
from layerdex.search.vectors.similarity import cosine_of_one
from layerdex.search.vectors.transform import Transform
from layerdex.storage.vectors.layer_vectors import SegmentSlice

_UNIT_ROUNDOFF = 2.0**-24
_SHORTEST = 1e-6
"""Of a mapped vector; the length of shorter ones is mostly rounding error."""
_SCANNED_TOGETHER = 4_096
_MARGIN = 2e-5  # two similarity steps: within one, the lower row comes first


def scan_transformed(
    transform: Transform, segment: SegmentSlice, query: Vectors, k: int
) -> tuple[Rows, NDArray[np.float64]]:
    """Return rows of a segment that include its k nearest, and their similarities.

    ``query`` is a transformed unit vector, (1, width) float32. The segment's codec must keep
    lengths. Similarities are summed in float64.
    """
    near = np.arange(len(segment.rows))
    if len(near) > k:
        similarities, errors = _estimate(transform, segment, query[0])
        kth = np.partition(similarities - errors, -k)[-k]
        near = np.flatnonzero(similarities + errors >= kth - _MARGIN)
    vectors = transform.apply(segment.file.decode(segment.positions[near]))
    return segment.rows[near], cosine_of_one(query[0], vectors)


def _estimate(
    transform: Transform, segment: SegmentSlice, query: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each row's similarity, and a bound of its difference to the transformed vector's.

    A float32 sum of n products is off by at most n units of roundoff, in any order of summation
    (Higham, *Accuracy and Stability of Numerical Algorithms*, 3.1).
    """
    weights = query if transform.matrix is None else query @ transform.matrix
    of_position = np.empty(segment.file.n)
    # In pieces, as FAISS sorts all products of a scan.
    for start in range(0, segment.file.n, _SCANNED_TOGETHER):
        within = range(start, min(start + _SCANNED_TOGETHER, segment.file.n))
        products, positions = segment.file.scan(weights[None], len(within), within=within)
        of_position[positions] = products
    stored, mapped = transform.lengths(segment.file)[:, segment.positions]
    mapped = np.maximum(mapped, _SHORTEST)
    offset = float(np.dot(weights.astype(np.float64), transform.mean))
    similarities = (of_position[segment.positions] / stored - offset) / mapped
    sizes = float(np.linalg.norm(weights)) + transform.size
    reach = 1 + float(np.linalg.norm(transform.mean))  # the longest distance from the mean
    # Three sums of that many products: the weights, a length, and the transformed vector.
    n_rounded = 3 * len(transform.mean)
    return similarities, n_rounded * _UNIT_ROUNDOFF * (1 + sizes * reach / mapped)
