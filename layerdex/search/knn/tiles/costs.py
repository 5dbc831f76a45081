"""About how long the parts of a comparison take, so that progress moves evenly.

In nanoseconds of one thread, with real vectors of 384 components in mind. Only proportions matter,
and they need to be right within a factor of two.
"""

from __future__ import annotations

from layerdex.search.knn.tiles.arithmetic import (
    Arithmetic,
    BFloat16,
    Float32,
    Int8,
    fastest_arithmetic,
)
from layerdex.search.knn.tiles.vectors import has_codes

READ_NS = 2_000.0
ENCODE_NS = 10_000.0
"""Of one vector: to read it, and to make its code."""

_CODED_SHARE = 1 / 3
_WITH_PAIRS = 2.0
"""Codes are about a third as long as vectors; the pairs that are left double the time of tiles."""


def pair_ns(n: int, width: int, n_queries: int | None = None) -> float:
    """Return what it takes to rule one pair out, or to compute it, among n vectors.

    With ``n_queries``, that is a pair of one of them and a vector.
    """
    if not has_codes(n, n_queries):  # what would multiply them need not be loaded
        return Float32().score_ns(width)
    tried: list[Arithmetic] = [Float32(), BFloat16(), Int8(1.0)]
    arithmetic = next(each for each in tried if each.name == fastest_arithmetic())
    return _WITH_PAIRS * arithmetic.score_ns(int(width * _CODED_SHARE))


def plain_ns(n: int, width: int) -> float:
    """Return what it takes to compare one vector with n others in float32."""
    return n * Float32().score_ns(width)


def others_ns(n: int, width: int) -> float:
    """Return what it takes to find the nearest others of n vectors."""
    return n * (READ_NS + ENCODE_NS + plain_ns(1_024, width) + n / 2 * pair_ns(n, width))


def queries_ns(n_queries: int, n: int, width: int) -> float:
    """Return what it takes to find the nearest of n vectors, for queries."""
    encode_ns = ENCODE_NS if has_codes(n, n_queries) else 0.0
    return n * (READ_NS + encode_ns + n_queries * pair_ns(n, width, n_queries))
