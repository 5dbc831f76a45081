"""Merging small segments, and dropping dead versions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from sqlalchemy import delete, select

from layerdex.errors import DamagedIndexError
from layerdex.records import OnProgress, Rows
from layerdex.storage.catalog import clear_errors
from layerdex.storage.changes import insert_segment
from layerdex.storage.codecs import Codes
from layerdex.storage.directory import SEGMENTS
from layerdex.storage.files import remove_tree
from layerdex.storage.rows import segment_rows
from layerdex.storage.segment import LayerFile
from layerdex.storage.store import Store
from layerdex.storage.tables import DOCUMENT, SEGMENT
from layerdex.storage.vectors import Segment
from layerdex.storage.writer import Writer

# A merged segment of this many documents, 384 wide, takes 50 MB a layer while it is written.
_TARGET_DOCUMENTS = 65_536


def compact(store: Store, writer: Writer, *, on_progress: OnProgress | None = None) -> int:
    """Merge small segments and drop dead versions; return how many segments were replaced.

    Each group of neighbouring segments is one commit: the new segment is written whole, swapped
    in by one transaction, and only then are the old files unlinked.
    """
    n_replaced = 0
    segments = writer.segments()
    groups = list(_groups(writer, segments))
    for done, group in enumerate(groups, 1):
        _merge(store, writer, group)
        n_replaced += len(group)
        if on_progress is not None:
            on_progress(done, len(groups))
    if groups:
        writer.vacuum()
    return n_replaced


def _groups(writer: Writer, segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    group: list[Segment] = []
    for segment in segments:
        if group and sum(s.n_documents for s in group) + segment.n_documents > _TARGET_DOCUMENTS:
            yield from _worth_merging(writer, group)
            group = []
        group.append(segment)
    yield from _worth_merging(writer, group)


def _worth_merging(writer: Writer, group: list[Segment]) -> Iterator[list[Segment]]:
    n_live = sum(len(_live_rows(writer, segment)) for segment in group)
    if len(group) > 1 or n_live < sum(segment.n_documents for segment in group):
        yield group


def _live_rows(writer: Writer, segment: Segment) -> Rows:
    with writer.transaction() as connection:
        within = DOCUMENT.c.row.between(segment.first_row, segment.last_row)
        query = select(DOCUMENT.c.row).where(within, DOCUMENT.c.live).order_by(DOCUMENT.c.row)
        return np.fromiter(connection.scalars(query), dtype=np.int64)


def _merge(store: Store, writer: Writer, group: Sequence[Segment]) -> None:
    live = [_live_rows(writer, segment) for segment in group]
    rows = np.concatenate(live)
    with writer.transaction() as connection:
        own = [segment_rows(connection, segment) for segment in group]
    positions = [np.searchsorted(mine, chosen) for mine, chosen in zip(own, live, strict=True)]

    def merged_layers() -> Iterator[Codes]:
        for layer in store.layers:
            files = [_open(store, segment, layer) for segment in group]
            parts = zip(files, positions, strict=True)
            yield np.concatenate([file.codes(at) for file, at in parts])

    new = writer.write_segment(merged_layers()) if len(rows) else None
    first, last = group[0].first_row, group[-1].last_row
    with writer.change() as connection:
        connection.execute(delete(SEGMENT).where(SEGMENT.c.id.in_([s.id for s in group])))
        within = DOCUMENT.c.row.between(first, last)
        connection.execute(delete(DOCUMENT).where(within, ~DOCUMENT.c.live))
        if new is not None:
            insert_segment(connection, *new, rows.tolist())
    with clear_errors(store.path):
        for segment in group:
            remove_tree(store.path / SEGMENTS / segment.name)


def _open(store: Store, segment: Segment, layer: int) -> LayerFile:
    try:  # the checks keep a damaged vector from being copied under a fresh checksum
        return store.open_file(segment, layer)
    except FileNotFoundError as error:
        raise DamagedIndexError(
            f"{error.filename} is missing: run 'layerdex repair' on this index"
        ) from error
