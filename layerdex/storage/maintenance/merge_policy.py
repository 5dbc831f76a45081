"""Which neighbouring segments are worth merging after a run, so that there are never many.

This is Lucene's LogDocMergePolicy (apache/lucene, ``LogMergePolicy.java``), which merges only
neighbours, as row ranges must not overlap: segments whose sizes are of one order of magnitude
stand on one level, and ten on a level become one segment of the level above. So there are at most
nine a level, and a document is copied about once a level: log10 of the number of documents.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

# Lucene's own defaults.
_MERGE_FACTOR = 10
_LEVEL_SPAN = 0.75

FULL_DOCUMENTS = 4_096
"""Segments of this many live documents, a window, are left alone: copying them would gain little
and take long. `compact` merges them too."""

TARGET_DOCUMENTS = 65_536
"""No merge makes a larger segment: 50 MB a layer, 384 wide, in memory while it is written."""


def choose_merges(sizes: Sequence[int]) -> list[range]:
    """Return which neighbouring segments to merge, as ranges of positions in ``sizes``.

    ``sizes`` are numbers of live documents, segments in row order. Ranges ascend, do not overlap
    and hold at least two segments. Merging changes levels, so ask again until there are none.
    """
    merges: list[range] = []
    start = 0
    for end in [at for at, size in enumerate(sizes) if size >= FULL_DOCUMENTS] + [len(sizes)]:
        for level in _levels(sizes, start, end):
            if len(level) >= _MERGE_FACTOR:
                merges += [one for one in split_at_target(sizes, level) if len(one) > 1]
        start = end + 1
    return merges


def split_at_target(sizes: Sequence[int], within: range) -> Iterator[range]:
    """Cut a range, from its start, into ones that each make a segment within the target.

    One that is larger alone stays alone.
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

    Smaller segments before the last one of a level count as its own: they could not be merged
    with their like without it.
    """
    heights = [math.log(max(size, 1), _MERGE_FACTOR) for size in sizes[start:end]]
    at = 0
    while at < len(heights):
        bottom = max(heights[at:]) - _LEVEL_SPAN
        stop = max(i for i in range(at, len(heights)) if heights[i] >= bottom) + 1
        yield range(start + at, start + stop)
        at = stop
