"""Copies of segments without their dead versions, as a backup has them."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection, delete

from layerdex.storage.catalog.changes import insert_segment, mark_commit
from layerdex.storage.catalog.schema import DEAD, DOCUMENT, SEGMENT
from layerdex.storage.catalog.vacuum import is_vacuumed, mark_vacuumed
from layerdex.storage.files import write_file
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.store import Store
from layerdex.storage.vectors.layer_file import layer_filename, serialize_layer
from layerdex.storage.vectors.layer_vectors import Segment
from layerdex.storage.vectors.segment_file import SegmentFile


class LiveSegment:
    """The live versions of a segment that also has dead ones, copied under a name of its own."""

    def __init__(self, store: Store, snapshot: Snapshot, segment: Segment) -> None:
        self.name = uuid.uuid4().hex[:16]
        self._store = store
        self._segment = segment
        rows = snapshot.segment_rows(segment)
        self._rows = np.setdiff1d(rows, snapshot.dead, assume_unique=True)
        self._positions = np.searchsorted(rows, self._rows)
        self._files: dict[int, SegmentFile] = {}

    def copy_layer(self, layer: int, folder: Path) -> None:
        """Write a layer's vectors to ``folder``, if there are any.

        Raises OSError, or `DamagedIndexError` for a file that is not the one in the catalog.
        """
        if not len(self._rows):
            return
        codes = self._store.open_file(self._segment, layer).codes(self._positions)
        data = serialize_layer(codes, self._store.codec)
        folder.mkdir(exist_ok=True)
        write_file(folder / layer_filename(layer), data)
        self._files[layer] = SegmentFile.of(data)

    def replace(self, connection: Connection) -> None:
        """Put this segment in the place of the one with dead versions, in a copied catalog."""
        connection.execute(delete(SEGMENT).where(SEGMENT.c.name == self._segment.name))
        if len(self._rows):
            insert_segment(connection, self.name, self._files, self._rows.tolist())


def drop_dead_versions(connection: Connection, segments: list[LiveSegment]) -> None:
    """Drop what is not in the newest commit from a copied catalog, which nobody else uses.

    ``segments`` are the copies of all segments that have dead versions.
    """
    if segments:
        with connection.begin():
            for segment in segments:
                segment.replace(connection)
            connection.execute(delete(DOCUMENT).where(DEAD))
            # Whoever has the copied index open must not take its segments for these.
            mark_commit(connection)
    with connection.begin():
        is_due = not is_vacuumed(connection)
    if is_due:
        driver: Any = connection.connection.driver_connection
        driver.execute("VACUUM")
        with connection.begin():
            mark_vacuumed(connection)
