"""The nearest documents of one query among stored vectors, by several threads.

FAISS compares one query in one thread, so each thread scans segments of its own, or pieces of
large ones. A scan bounds similarities: of the documents that may be among the k nearest of all, and
of no others, vectors are decoded. A piece of which a filter keeps little is decoded instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from layerdex.limits import Pool
from layerdex.records import Rows, Vectors
from layerdex.search.vectors.similarity import SIMILARITY_STEP, cosine
from layerdex.storage.vectors.codecs import NORM_TOLERANCE
from layerdex.storage.vectors.faiss_library import one_omp_thread
from layerdex.storage.vectors.layer_vectors import SegmentSlice, decode_slices
from layerdex.threads import map_in_threads

_SCANNED_SHARE = 0.1
_N_EXTRA = 16
"""Candidates of a segment beyond k, to see whether equal ones were cut off."""

_UNIT_ROUNDOFF = 2.0**-24
_MARGIN = 2 * SIMILARITY_STEP  # within one step, the lower row comes first
_DECODED_TOGETHER = 16_384
_MIN_COMPONENTS_FOR_THREADS = 1 << 23
"""Of all vectors: one thread scans them in 2 ms, and starting threads takes a quarter of one."""

_JOBS_PER_THREAD = 4
_SCANNED_TOGETHER = 32_768
"""Documents of a piece: two of width 384 take 3 ms, and each some 0.1 ms beside its scan."""


class _Bounds(NamedTuple):
    """Candidates of a slice, ``at`` in it, and the least and largest similarity each may have.

    Any other document of the slice is at most as similar as the least of ``highest``.
    """

    at: NDArray[np.int64]
    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]


def is_scanned(part: SegmentSlice, n: int) -> bool:
    """Return whether scanning n documents is faster than decoding those of a slice."""
    return len(part.rows) >= _SCANNED_SHARE * n


def nearest_of_segments(
    parts: Sequence[SegmentSlice], query: Vectors, k: int
) -> tuple[Rows, NDArray[np.float64]]:
    """Return rows that include the k nearest of a unit vector, (1, width), and their similarities.

    Similarities are summed in float64.
    """
    parts = [piece for part in parts for piece in part.pieces(_SCANNED_TOGETHER)]
    n_wanted = k + _N_EXTRA
    bounds = _bound(parts, query, n_wanted)
    while True:
        floor = _kth([each.lowest for each in bounds], k) - _MARGIN
        cut = [
            i
            for i, (part, each) in enumerate(zip(parts, bounds, strict=True))
            if len(each.at) < len(part.rows) and each.highest.min() >= floor
        ]
        if not cut:
            break
        n_wanted *= 2
        for i, each in zip(cut, _bound([parts[i] for i in cut], query, n_wanted), strict=True):
            bounds[i] = each
    near = [
        _taken(part, np.sort(each.at[each.highest >= floor]))
        for part, each in zip(parts, bounds, strict=True)
    ]
    near = [part for part in near if len(part.rows)]
    similarities = [
        np.einsum("ij,j->i", decode_slices(group), query[0].astype(np.float64))
        for group in _together(near)
    ]
    rows = np.concatenate([np.empty(0, np.int64), *(part.rows for part in near)])
    return rows, np.clip(np.concatenate([np.empty(0), *similarities]), -1, 1)


def _bound(parts: Sequence[SegmentSlice], query: Vectors, n_wanted: int) -> list[_Bounds]:
    n_components = sum(len(part.span) for part in parts) * query.shape[1]
    n_threads = Pool.BLAS.size() if n_components >= _MIN_COMPONENTS_FOR_THREADS else 1
    n_jobs = min(n_threads * _JOBS_PER_THREAD, len(parts)) if n_threads > 1 else 1
    ends = [len(parts) * job // n_jobs for job in range(n_jobs + 1)] if parts else [0]
    jobs = [parts[start:end] for start, end in pairwise(ends)]
    bound = partial(_bound_job, query=query, n_wanted=n_wanted)
    return [*chain.from_iterable(map_in_threads(bound, jobs, n_threads=n_threads))]


def _bound_job(parts: Sequence[SegmentSlice], *, query: Vectors, n_wanted: int) -> list[_Bounds]:
    with one_omp_thread():
        found = {
            id(part): _scan(part, query, n_wanted)
            for part in parts
            if is_scanned(part, len(part.span))
        }
    for group in _together([part for part in parts if id(part) not in found]):
        similarities = cosine(query, decode_slices(group))[0].astype(np.float64)
        ends = np.cumsum([len(part.rows) for part in group])[:-1]
        for part, of_part in zip(group, np.split(similarities, ends), strict=True):
            error = _rounding(query)
            positions = np.arange(len(of_part))
            found[id(part)] = _Bounds(positions, of_part - error, of_part + error)
    return [found[id(part)] for part in parts]


def _scan(part: SegmentSlice, query: Vectors, n_wanted: int) -> _Bounds:
    span, allowed = part.span, None
    if len(part.rows) < len(span):
        allowed = np.zeros(len(span), dtype=np.bool_)
        allowed[part.positions - span.start] = True
    products, positions = part.file.scan(query, n_wanted, allowed=allowed, within=span)
    at = np.searchsorted(part.positions, positions)
    wide = products.astype(np.float64)
    # A product is one with a vector whose length is 1 within the tolerance.
    off = np.sign(wide) * NORM_TOLERANCE
    error = _rounding(query)
    return _Bounds(at, wide / (1 + off) - error, wide / (1 - off) + error)


def _rounding(query: Vectors) -> float:
    """Return how far a float32 sum of products may be off; see `transformed_scan`."""
    return float(2 * query.shape[1] * _UNIT_ROUNDOFF)


def _kth(values: Sequence[NDArray[np.float64]], k: int) -> float:
    """Return the k-th largest value, -inf if there are fewer."""
    together = np.concatenate([np.empty(0), *values])
    return float(np.partition(together, -k)[-k]) if len(together) >= k else -np.inf


def _taken(part: SegmentSlice, at: NDArray[np.int64]) -> SegmentSlice:
    return SegmentSlice(part.rows[at], part.positions[at], part.file)


def _together(parts: Sequence[SegmentSlice]) -> list[list[SegmentSlice]]:
    """Return slices in groups that are decoded at once: one by one, small ones take long."""
    groups: list[list[SegmentSlice]] = []
    n = 0
    for part in parts:
        n += len(part.rows)
        if not groups or n > _DECODED_TOGETHER:
            groups.append([])
            n = len(part.rows)
        groups[-1].append(part)
    return groups
