"""Reading the segments of the catalog, and the rows in each."""

from __future__ import annotations

import re

import numpy as np
from sqlalchemy import ColumnElement, Connection, func, select

from layerdex.errors import DamagedIndexError
from layerdex.records import Rows
from layerdex.storage.catalog.row_digests import check_digest, damage_error, segment_digest
from layerdex.storage.catalog.rows import row_array
from layerdex.storage.catalog.schema import DOCUMENT, SEGMENT, SEGMENT_FILE
from layerdex.storage.catalog.validation import are_segments
from layerdex.storage.vectors.layer_vectors import Segment
from layerdex.storage.vectors.segment_file import SegmentFile

SEGMENT_NAME = re.compile(r"[0-9a-f]{16}")


def read_segments(connection: Connection) -> list[Segment]:
    """Return all segments in row order."""
    files: dict[int, dict[int, SegmentFile]] = {}
    keys = (SEGMENT_FILE.c.segment_id, SEGMENT_FILE.c.layer)
    of_files = select(
        *keys, SEGMENT_FILE.c.size_bytes, SEGMENT_FILE.c.crc32, SEGMENT_FILE.c.block_hashes
    ).order_by(*keys)
    for segment_id, layer, size_bytes, crc32, hashes in connection.execute(of_files):
        files.setdefault(segment_id, {})[layer] = SegmentFile(size_bytes, crc32, hashes)
    query = select(
        SEGMENT.c.id,
        SEGMENT.c.name,
        SEGMENT.c.n_documents,
        SEGMENT.c.first_row,
        SEGMENT.c.last_row,
        SEGMENT.c.digest,
    ).order_by(SEGMENT.c.first_row)
    segments = []
    for segment_id, name, n_documents, first_row, last_row, digest in connection.execute(query):
        segment_files = files.get(segment_id, {})
        segment = Segment(segment_id, name, n_documents, first_row, last_row, segment_files)
        # The name becomes a path, which must not lead out of the index.
        if not isinstance(segment.name, str) or not SEGMENT_NAME.fullmatch(segment.name):
            raise damage_error(f"the name {segment.name!a} of a segment")
        check_digest(segment_digest(segment), digest, f"segment {segment.name}")
        segments.append(segment)
    if not are_segments(segments):
        raise damage_error("a segment")
    return segments


def within(segment: Segment) -> ColumnElement[bool]:
    """Return the condition over `DOCUMENT` for the versions in a segment."""
    return DOCUMENT.c.row.between(segment.first_row, segment.last_row)


def n_versions_within(connection: Connection, segment: Segment) -> int:
    """Return the number of document versions in a segment, dead ones included."""
    query = select(func.count()).select_from(DOCUMENT).where(within(segment))
    return int(connection.scalar(query) or 0)


def segment_rows(connection: Connection, segment: Segment) -> Rows:
    """Return the row at each position of a segment, dead ones included."""
    if segment.is_contiguous:
        return np.arange(segment.first_row, segment.last_row + 1, dtype=np.int64)
    query = select(DOCUMENT.c.row).where(within(segment)).order_by(DOCUMENT.c.row)
    rows = row_array(connection.scalars(query))
    if len(rows) != segment.n_documents:
        raise DamagedIndexError(
            f"the catalog has lost documents of segment {segment.name}: restore it from a backup"
        )
    return rows
