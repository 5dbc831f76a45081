"""Choosing the neighboring segments to merge after a run, so that there are never many.

This is Lucene's LogDocMergePolicy (apache/lucene, ``LogMergePolicy.java``), which merges only
neighbors: row ranges must not overlap. Segments whose sizes are of one order of magnitude form a
level, and ten on a level become one segment of the next level, up to `TARGET_DOCUMENTS`. So there
are at most nine segments per level below it, and a document is copied about once per level: log10
of the number of documents, and never more than seven times. A long run merges many windows at once,
and copies a document once.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence

# Lucene's own defaults.
_MERGE_FACTOR = 10
_LEVEL_SPAN = 0.75

TARGET_DOCUMENTS = 262_144
"""The largest segment that a merge makes, one layer of which is held in memory.

That is 200 MB for width 384 in float16, and 1.6 GB for width 1,536 in float32.
"""


def choose_merges(sizes: Sequence[int], left_out: Collection[int] = ()) -> list[range]:
    """Return which neighboring segments to merge, as ranges of positions in ``sizes``.

    ``sizes`` are numbers of live documents, segments in row order. Ranges ascend, do not overlap
    and have at least two segments, none of them at the positions ``left_out``. Merging changes
    levels, so call it again until there are none.
    """
    merges: list[range] = []
    start = 0
    # No two of these fit into one segment.
    full = {at for at, size in enumerate(sizes) if size > TARGET_DOCUMENTS // 2}
    for end in [*sorted(full.union(left_out)), len(sizes)]:
        for level in _levels(sizes, start, end):
            *whole, rest = split_at_target(sizes, level)
            merges += [merge for merge in whole if len(merge) > 1]
            if len(rest) >= _MERGE_FACTOR:
                merges.append(rest)
        start = end + 1
    return merges


def split_at_target(sizes: Sequence[int], within: range) -> Iterator[range]:
    """Split a range, from its start, into ranges that each make a segment within the target.

    A segment larger than the target gets a range of its own.
    """
    start, n_documents = within.start, 0
    for at in within:
        if at > start and n_documents + sizes[at] > TARGET_DOCUMENTS:
            yield range(start, at)
            start, n_documents = at, 0
        n_documents += sizes[at]
    if start < within.stop:
        yield range(start, within.stop)


def _levels(sizes: Sequence[int], start: int, end: int) -> Iterator[range]:
    """Yield the levels of segments ``start`` to ``end``, largest first.

    Smaller segments before the last one of a level belong to it: they have no other neighbors to
    be merged with.
    """
    heights = [math.log(max(size, 1), _MERGE_FACTOR) for size in sizes[start:end]]
    at = 0
    while at < len(heights):
        bottom = max(heights[at:]) - _LEVEL_SPAN
        stop = max(i for i in range(at, len(heights)) if heights[i] >= bottom) + 1
        yield range(start + at, start + stop)
        at = stop
