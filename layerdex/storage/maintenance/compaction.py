"""Merging small segments, and dropping dead document versions."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, delete, select

from layerdex.errors import DamagedIndexError, LockedIndexError, StorageError
from layerdex.records import OnProgress, Rows, progress_of_shares
from layerdex.storage.catalog.changes import insert_segment
from layerdex.storage.catalog.rows import read_dead, row_array
from layerdex.storage.catalog.schema import DEAD, DOCUMENT, LIVE, SEGMENT
from layerdex.storage.catalog.segments import read_segments, segment_rows
from layerdex.storage.files import free_bytes, remove_tree
from layerdex.storage.maintenance.merge_policy import choose_merges, split_at_target
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.store import Store
from layerdex.storage.vectors.layer_file import LayerFile, Positions, empty_layer
from layerdex.storage.vectors.layer_vectors import Segment, n_positions
from layerdex.storage.writer import Writer

logger = logging.getLogger(__name__)

_UNMERGED = "small segments are not merged: %s"
# 4 MB, some thousands of documents: rewritten in 20 ms.
_SMALL_CATALOG_PAGES = 1_000


@dataclass(frozen=True, slots=True)
class Compaction:
    """What `compact` would do, in numbers.

    ``n_bytes_freed`` counts layer files and is exact. The catalog shrinks too, by an amount that is
    unknown until it is rewritten.
    """

    n_merged: int
    n_segments_after: int
    n_dead: int
    n_bytes_freed: int


def compact(store: Store, writer: Writer, *, on_progress: OnProgress | None = None) -> int:
    """Merge small segments and drop dead versions; return the number of replaced segments.

    Each group of neighbouring segments is one commit: the new segment is written whole, swapped
    in by one transaction, and only then are the old files unlinked. At the end the catalog is
    rewritten, so that nothing of deleted documents and replaced values is left in it. A question
    that is still open keeps them in SQLite's log; `purge` waits for it.
    """
    with writer.transaction() as connection:
        groups = _groups(*_read_sizes(connection))
    _merge_all(store, writer, groups, on_progress)
    writer.vacuum()
    return sum(map(len, groups))


def drop_dead(store: Store, writer: Writer, *, on_progress: OnProgress | None = None) -> int:
    """Drop all dead versions, and return how many; only the segments that have some are rewritten.

    Each of them is one commit, as in `compact`.
    """
    with writer.transaction() as connection:
        segments, sizes = _read_sizes(connection)
    groups = [[s] for s, size in zip(segments, sizes, strict=True) if size < s.n_documents]
    return _merge_all(store, writer, groups, on_progress)


def plan_compaction(store: Store, snapshot: Snapshot) -> Compaction:
    """Return what `compact` would do to this commit."""
    segments, sizes = _read_sizes(snapshot.connection)
    groups = _groups(segments, sizes)
    live = dict(zip((segment.name for segment in segments), sizes, strict=True))
    code_bytes = store.settings.width * store.codec.code_bytes
    n_bytes_freed = n_dead = 0
    for group in groups:
        n_live = sum(live[segment.name] for segment in group)
        n_dead += sum(segment.n_documents for segment in group) - n_live
        for layer in store.layers:
            size_bytes = [segment.files[layer].size_bytes for segment in group]
            # All files of a codec have a header of the same size; an empty file is not written.
            header = size_bytes[0] - group[0].n_documents * code_bytes
            n_bytes_freed += sum(size_bytes) - (header + n_live * code_bytes if n_live else 0)
    n_merged = sum(map(len, groups))
    n_new = sum(any(live[segment.name] for segment in group) for group in groups)
    return Compaction(n_merged, len(segments) - n_merged + n_new, n_dead, n_bytes_freed)


class SmallMerges:
    """Merges of small segments during one run and at its end.

    Unlike `compact` they touch no large segments and rewrite only a small catalog, so that their
    time does not grow with the index. What cannot be merged stays as it is, and a warning is logged
    once: a segment with a damaged file, a group that the disk has no room for beside the segments
    that it replaces, and all of them where the disk is full nevertheless. Everything is committed
    before, and answers are the same.
    """

    def __init__(self, store: Store, writer: Writer) -> None:
        self._store = store
        self._writer = writer
        self._left_out: set[str] = set()
        self._has_lacked_room = False

    def merge(self) -> int:
        """Merge what `merge_policy` chooses, until nothing is left; return how many it replaced."""
        n_replaced = n_dropped = 0
        writer = self._writer
        try:
            while groups := self._groups():
                for group in groups:
                    if damaged := self._damaged(group):
                        self._leave_out(damaged)
                        continue
                    if not self._has_room(group):
                        self._leave_out(group)
                        continue
                    try:
                        n_dropped += _merge(self._store, writer, group)
                        n_replaced += len(group)
                    except DamagedIndexError as error:
                        logger.warning(_UNMERGED, error)
                        self._leave_out(group)
                        writer.remove_leftovers()
            if n_dropped:
                writer.vacuum(max_pages=_SMALL_CATALOG_PAGES)
        except (DamagedIndexError, LockedIndexError, StorageError) as error:
            writer.place.check()
            logger.warning(_UNMERGED, error)
            with contextlib.suppress(StorageError, DamagedIndexError, LockedIndexError):
                writer.remove_leftovers()
        return n_replaced

    def _groups(self) -> list[list[Segment]]:
        """Return the groups to merge, which have no segment that is left out."""
        with self._writer.transaction() as connection:
            segments, sizes = _read_sizes(connection)
        left_out = [at for at, s in enumerate(segments) if s.name in self._left_out]
        return [segments[merge.start : merge.stop] for merge in choose_merges(sizes, left_out)]

    def _damaged(self, group: Sequence[Segment]) -> list[Segment]:
        """Return the segments with a damaged file, before a copy of the group is written."""
        damaged = []
        for segment in group:
            try:
                for layer in self._store.layers:
                    with _missing_is_damage():
                        self._store.check_file(segment, layer)
            except DamagedIndexError as error:
                logger.warning(_UNMERGED, error)
                damaged.append(segment)
        return damaged

    def _leave_out(self, group: Sequence[Segment]) -> None:
        self._left_out.update(segment.name for segment in group)

    def _has_room(self, group: Sequence[Segment]) -> bool:
        """Return whether the disk has room for what replaces a group, or warn if it has not."""
        n_bytes = sum(file.size_bytes for segment in group for file in segment.files.values())
        with self._writer.changing_files() as folder:
            n_free = free_bytes(folder)
        if n_bytes > n_free and not self._has_lacked_room:
            reason = f"their copy takes {n_bytes:,} bytes, and the disk has {n_free:,} left"
            logger.warning(_UNMERGED, reason)
            self._has_lacked_room = True
        return n_bytes <= n_free


def _groups(segments: list[Segment], sizes: list[int]) -> list[list[Segment]]:
    """Return the neighbors that fit together, and single segments with dead versions."""
    groups = []
    for merge in split_at_target(sizes, range(len(sizes))):
        group = segments[merge.start : merge.stop]
        if len(group) > 1 or sizes[merge.start] < group[0].n_documents:
            groups.append(group)
    return groups


def _read_sizes(connection: Connection) -> tuple[list[Segment], list[int]]:
    """Return all segments in row order, and the number of live documents in each."""
    segments = read_segments(connection)
    query = select(DOCUMENT.c.row).where(DEAD).order_by(DOCUMENT.c.row)
    dead = row_array(connection.scalars(query))
    first = np.searchsorted(dead, [segment.first_row for segment in segments])
    last = np.searchsorted(dead, [segment.last_row for segment in segments], side="right")
    n_dead = (last - first).tolist()
    return segments, [s.n_documents - n for s, n in zip(segments, n_dead, strict=True)]


def _merge_all(
    store: Store,
    writer: Writer,
    groups: Sequence[Sequence[Segment]],
    on_progress: OnProgress | None,
) -> int:
    """Merge each group, and return the number of dead versions that they had."""
    n_dropped = 0
    sizes = [n_positions(group) for group in groups]
    told = progress_of_shares(on_progress, sizes, sum(sizes))
    for tell, group in zip(told, groups, strict=True):
        n_dropped += _merge(store, writer, group, tell)
    return n_dropped


def _merge(
    store: Store,
    writer: Writer,
    group: Sequence[Segment],
    on_progress: OnProgress | None = None,
) -> int:
    """Make a group one segment, and return the number of dead versions that it had."""
    first, last = group[0].first_row, group[-1].last_row
    within = DOCUMENT.c.row.between(first, last)
    with writer.transaction() as connection:
        read_dead(connection, within)  # check them: they are dropped for good
        query = select(DOCUMENT.c.row).where(within, LIVE).order_by(DOCUMENT.c.row)
        rows = row_array(connection.scalars(query))
        positions = [_positions(segment_rows(connection, segment), rows) for segment in group]

    def merged_layers() -> Iterator[NDArray[np.uint8]]:
        for n_done, layer in enumerate(store.layers):
            if on_progress is not None:
                on_progress(n_done, len(store.layers))
            data, codes = empty_layer(len(rows), store.settings.width, store.codec)
            start = 0
            for segment, at in zip(group, positions, strict=True):
                # One mapped file at a time: the kernel allows about 65,000 maps.
                file = _open(store, segment, layer)
                # A slice is a view of what is mapped; positions would copy it first.
                codes[start : start + len(at)] = file.codes(
                    slice(None) if len(at) == file.n else at
                )
                start += len(at)
            yield data
            del data, codes  # or they would still be held while the next layer is filled

    new = writer.write_segment(merged_layers()) if len(rows) else None
    with writer.change() as connection:
        connection.execute(delete(SEGMENT).where(SEGMENT.c.id.in_([s.id for s in group])))
        connection.execute(delete(DOCUMENT).where(within, DEAD))
        if new is not None:
            insert_segment(connection, *new, rows.tolist())
    with writer.changing_files() as folder:
        for segment in group:
            remove_tree(folder / segment.name)
    if on_progress is not None:
        on_progress(len(store.layers), len(store.layers))
    return n_positions(group) - len(rows)


def _positions(rows: Rows, live: Rows) -> Positions:
    """Return the positions of the live rows among a segment's ``rows``."""
    first, last = np.searchsorted(live, [rows[0], rows[-1] + 1])
    return np.searchsorted(rows, live[first:last])


def _open(store: Store, segment: Segment, layer: int) -> LayerFile:
    with _missing_is_damage():  # checked, or damage would be copied under a new checksum
        return store.open_file(segment, layer)


@contextlib.contextmanager
def _missing_is_damage() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DamagedIndexError(
            f"{error.filename} is missing: run 'layerdex repair' on this index"
        ) from error
