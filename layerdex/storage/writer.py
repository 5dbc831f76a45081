"""The writer of an index: everything that changes documents and segments on disk.

The commit order: a segment's files are written under a temporary name, flushed, renamed, and the
folder is flushed; only then does one transaction add the segment and its documents to the catalog.
"""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from layerdex.errors import DocumentNotFoundError, ModelError
from layerdex.records import EncodedVectors, Rows, Vectors
from layerdex.removals import RemovalLimit
from layerdex.storage.artifacts import remove_unreferenced_artifacts
from layerdex.storage.catalog.changes import (
    NEXT_ORDINAL,
    NEXT_ROW,
    FieldUpdate,
    NewVersion,
    VersionRows,
    advance_counter,
    insert_segment,
    insert_versions,
    mark_commit,
    mark_dead,
    put_setting,
    update_fields,
    version_rows,
)
from layerdex.storage.catalog.engine import empty_log, translate_errors
from layerdex.storage.catalog.log import log_path, next_salt, write_salt_to_log
from layerdex.storage.catalog.row_digests import damage_error
from layerdex.storage.catalog.rows import (
    Version,
    count_before,
    find_live,
    find_vanished,
    live_ids,
    read_setting,
)
from layerdex.storage.catalog.schema import DOCUMENT, LIVE, SEGMENT
from layerdex.storage.catalog.segments import SEGMENT_NAME, read_segments
from layerdex.storage.catalog.vacuum import is_vacuumed, mark_vacuumed
from layerdex.storage.directory import CATALOG, SEGMENTS
from layerdex.storage.files import remove_tree, sync_file, sync_folder, write_file
from layerdex.storage.place import Place
from layerdex.storage.vectors.codecs import Codec
from layerdex.storage.vectors.layer_file import layer_filename, serialize_layer
from layerdex.storage.vectors.layer_vectors import Segment, n_positions
from layerdex.storage.vectors.segment_file import SegmentFile
from layerdex.threads import Threads

# Rounding, checksums and flushes take most of a commit and release the GIL.
_MAX_THREADS = min(4, len(os.sched_getaffinity(0)))
# 1,500 texts at the 7 layers of MiniLM; with less, starting threads takes as long as it saves.
_MIN_BYTES_FOR_THREADS = 1 << 24
N_MISSING_NAMED = 3

T = TypeVar("T")


class Writer:
    """Changes to an index, each method one commit; made by `Store.write`."""

    def __init__(
        self,
        connection: Connection,
        place: Place,
        *,
        salt: int,
        layers: tuple[int, ...],
        width: int,
        codec: Codec,
    ) -> None:
        self._connection = connection
        self.place = place
        self._folder = place.folder / SEGMENTS
        self._salt = salt
        self._layers = layers
        self._width = width
        self._codec = codec
        self._deferred: dict[str, Any] = {}

    def remove_leftovers(self) -> None:
        """Remove the files that a killed writer wrote and never committed.

        Raises `DamagedIndexError`, and removes nothing, if a damaged catalog may have lost a
        segment.
        """
        with self.transaction() as connection:
            committed = set(connection.scalars(select(SEGMENT.c.name)))
        with self.changing_files():
            folders = [
                entry
                for entry in self._folder.iterdir()
                if SEGMENT_NAME.fullmatch(entry.name.removesuffix(".new"))
            ]
            leftovers = [folder for folder in folders if folder.name not in committed]
            for folder in folders:
                if folder.name in committed and not folder.is_symlink():  # a killed repair
                    leftovers += folder.glob("*.new")
            if leftovers:
                self._check_all_listed(committed)
            for entry in leftovers:
                remove_tree(entry)
            with self.transaction() as connection:
                remove_unreferenced_artifacts(self._folder.parent, connection)

    def _check_all_listed(self, committed: set[str]) -> None:
        """Raise `DamagedIndexError` unless ``committed`` are the names of all segments.

        They were read from an index of SQLite without a check. A damaged page that lost the row of
        a segment has not lost its documents, so their number tells.
        """
        with self.transaction() as connection:
            segments = read_segments(connection)
            n_rows = connection.scalar(select(func.count()).select_from(DOCUMENT))
        if committed != {segment.name for segment in segments} or n_rows != n_positions(segments):
            raise damage_error("the list of segments")

    def count(self) -> int:
        """Return the number of live documents."""
        with self.transaction() as connection:
            query = select(func.count()).select_from(DOCUMENT).where(LIVE)
            return connection.scalar(query) or 0

    def count_before(self, ordinal: int) -> int:
        """Return the number of live documents with a lower ordinal."""
        with self.transaction() as connection:
            return count_before(connection, ordinal)

    def find(self, ids: Sequence[str]) -> dict[str, Version]:
        """Return the live documents among ``ids``, by id."""
        with self.transaction() as connection:
            return find_live(connection, ids)

    def live_ids(self) -> Generator[tuple[str, bytes]]:
        """Yield id and content hash of the live documents."""
        with self.transaction() as connection:
            yield from live_ids(connection)

    def find_vanished(
        self, unknown: Callable[[Sequence[str]], Sequence[str]]
    ) -> Generator[list[Version], None, None]:
        """Yield the live documents whose ids are unknown; see `catalog.rows.find_vanished`."""
        with self.transaction() as connection:
            yield from find_vanished(connection, unknown)

    def commit(
        self,
        versions: Sequence[NewVersion],
        vectors: EncodedVectors,
        field_updates: Sequence[FieldUpdate] = (),
    ) -> None:
        """Add ``versions`` as one segment, and update fields, in one transaction.

        ``vectors`` is (n_layers, n, width) float32, stored layers ascending, and is rounded to the
        index's precision. Raises `ModelError` for vectors that are not of unit length.
        """
        check_shape(vectors, (len(self._layers), len(versions), self._width))
        with self.transaction() as connection:
            counters = [read_setting(connection, key) for key in (NEXT_ROW, NEXT_ORDINAL)]

        def prepare() -> VersionRows:
            return version_rows(versions, first_row=counters[0], first_ordinal=counters[1])

        with _mapper(vectors.nbytes) as map_layers:
            layers = list(map_layers(self._serialize, vectors))
            name, files, rows = self._write_segment(layers, map_layers, prepare)
        with self.change() as connection:
            n_new = len(versions) - len(rows.replaced)
            before = [
                advance_counter(connection, NEXT_ROW, len(versions)),
                advance_counter(connection, NEXT_ORDINAL, n_new),
            ]
            if before != counters:  # someone has removed the lock, and another writer came between
                counters = before
                rows = prepare()
            insert_segment(connection, name, files, rows.rows)
            insert_versions(connection, rows)
            update_fields(connection, field_updates)

    def update_fields(self, field_updates: Sequence[FieldUpdate]) -> None:
        """Replace label and metadata of live documents."""
        with self.change() as connection:
            update_fields(connection, field_updates)

    def delete(
        self,
        ids: Sequence[str],
        *,
        limit: RemovalLimit | None = None,
        missing_ok: bool = False,
    ) -> int:
        """Mark all of the documents dead, or none, and return how many.

        Raises `DocumentNotFoundError` unless ``missing_ok``, and `RemovalError` where more would go
        than ``limit`` allows.
        """
        live = self.find(ids)
        if not missing_ok:
            check_found(ids, live)
        if limit is not None:
            limit.check(len(live), self.count(), verb="deleted", outcome="nothing was deleted")
        if live:
            with self.change() as connection:
                mark_dead(connection, [version.row for version in live.values()])
        return len(live)

    def remove(self, rows: Rows) -> None:
        """Mark the live documents at ``rows`` dead, which `find_vanished` has checked."""
        with self.change() as connection:
            mark_dead(connection, rows.tolist())

    def get(self, key: str) -> Any:
        """Return a setting, None if there is none."""
        with self.transaction() as connection:
            return read_setting(connection, key)

    def set(self, key: str, value: Any) -> None:
        """Set a setting."""
        with self.change() as connection:
            put_setting(connection, key, value)

    def set_with_next(self, key: str, value: Any) -> None:
        """Set a setting in the next commit, whatever that changes, or in `set_deferred`."""
        self._deferred[key] = value

    def forget_next(self, key: str) -> None:
        """Do not set a setting of `set_with_next` that no commit has taken."""
        self._deferred.pop(key, None)

    def set_deferred(self) -> None:
        """Commit what `set_with_next` has left, if anything."""
        if self._deferred:
            with self.change():
                pass

    def segments(self) -> list[Segment]:
        """Return all segments in row order."""
        with self.transaction() as connection:
            return read_segments(connection)

    def write_segment(
        self, layers: Iterable[NDArray[np.uint8]]
    ) -> tuple[str, dict[int, SegmentFile]]:
        """Write the files of a new segment, which is not yet committed; return name and files.

        ``layers`` are the bytes of the file of each stored layer, ascending; one at a time is in
        memory.
        """
        name, files, _ = self._write_segment(layers, map, lambda: None)
        return name, files

    def _write_segment(
        self,
        layers: Iterable[NDArray[np.uint8]],
        map_layers: Callable[..., Iterable[Any]],
        meanwhile: Callable[[], T],
    ) -> tuple[str, dict[int, SegmentFile], T]:
        """Write a segment as `write_segment` does, and return what ``meanwhile`` returned.

        ``map_layers`` is called like `map`; it may write in other threads.
        """
        name = uuid.uuid4().hex[:16]
        temporary = self._folder / f"{name}.new"

        def write(layer: int, data: NDArray[np.uint8]) -> SegmentFile:
            write_file(temporary / layer_filename(layer), data)
            return SegmentFile.of(data)

        with self.changing_files():
            temporary.mkdir()
            written = map_layers(write, self._layers, layers)
            prepared = meanwhile()
            files = dict(zip(self._layers, written, strict=True))
            sync_folder(temporary)
            temporary.rename(self._folder / name)
            sync_folder(self._folder)
        return name, files, prepared

    def _serialize(self, vectors: Vectors) -> NDArray[np.uint8]:
        return serialize_layer(self._codec.encode(vectors), self._codec)

    @contextmanager
    def changing_files(self) -> Iterator[Path]:
        """Yield the folder of segments; raise `StorageError` if it is not at its path any more."""
        with translate_errors(self.place.path / SEGMENTS), self.place.unmoved():
            yield self._folder

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Run a transaction, which is committed at the end, or rolled back after an error."""
        with translate_errors(self.place.path), self._connection.begin():
            yield self._connection

    def vacuum(self, *, max_pages: float = math.inf) -> None:
        """Rewrite the catalog, unless it is larger or nothing was committed since the last time.

        This returns free pages to the file system. It also drops the copies of deleted values that
        SQLite leaves in the unused bytes of a page when it moves rows to another one; what
        ``secure_delete`` overwrites are the rows themselves.
        """
        with self.transaction() as connection:
            is_due = not is_vacuumed(connection)
        with translate_errors(self.place.path), self.place.unmoved():
            driver: Any = self._connection.connection.driver_connection
            (n_pages,) = driver.execute("PRAGMA page_count").fetchone()
            (checkpoint_at,) = driver.execute("PRAGMA wal_autocheckpoint").fetchone()
            if is_due and n_pages <= max_pages:
                with self._next_state():
                    pass  # VACUUM writes the salt that SQLite knows
                driver.execute("PRAGMA wal_autocheckpoint=0")  # not while two states have one salt
                try:
                    driver.execute("VACUUM")
                finally:
                    driver.execute(f"PRAGMA wal_autocheckpoint={checkpoint_at}")
                with self._next_state() as connection:
                    mark_vacuumed(connection)

    def empty_log(self, *, timeout_s: float = 0.0) -> bool:
        """Move SQLite's log into the catalog, for good; see `catalog.engine.empty_log`."""
        with translate_errors(self.place.path), self.place.unmoved():
            is_empty = empty_log(self._connection, timeout_s=timeout_s)
            if (log := log_path(self.place.folder / CATALOG)).exists():
                sync_file(log)  # a power loss must not bring back what it had
        return is_empty

    @contextmanager
    def change(self) -> Iterator[Connection]:
        """Run a transaction that counts as a commit, so that readers notice it."""
        with self.place.unmoved(), self._next_state() as connection:
            mark_commit(connection)
            for key, value in self._deferred.items():
                put_setting(connection, key, value)
            yield connection
        self._deferred.clear()

    @contextmanager
    def _next_state(self) -> Iterator[Connection]:
        """Run a transaction with a salt of its own."""
        salt = next_salt(self._salt)
        with self.transaction() as connection:
            write_salt_to_log(connection, salt)
            yield connection
            self.place.check()  # before SQLite commits; what it opened is still in the old place
        self._salt = salt


@contextmanager
def _mapper(n_bytes: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """Yield `map`, or a function like it with several threads if that is worth it."""
    if n_bytes < _MIN_BYTES_FOR_THREADS:
        yield map
        return
    with Threads(_MAX_THREADS, "layerdex-write") as threads:
        yield threads.map


def check_found(ids: Sequence[str], live: Container[str]) -> None:
    """Raise `DocumentNotFoundError`, naming the first few, for ids that are not in ``live``."""
    missing = [id_ for id_ in dict.fromkeys(ids) if id_ not in live]
    if len(missing) == 1:
        raise DocumentNotFoundError(f"no document has the id {missing[0]!r}")
    if missing:
        n_more = len(missing) - N_MISSING_NAMED
        named = ", ".join(map(repr, missing[:N_MISSING_NAMED]))
        more = f" and {n_more:,} more" if n_more > 0 else ""
        raise DocumentNotFoundError(
            f"no document has the ids {named}{more} ({len(missing):,} of {len(set(ids)):,} ids)"
        )


def check_shape(vectors: EncodedVectors, shape: tuple[int, int, int]) -> None:
    """Raise `ModelError` unless an encoder's vectors are float32 of shape (n_layers, n, width)."""
    if vectors.shape != shape or vectors.dtype != np.float32:
        raise ModelError(
            f"the encoder returned vectors of shape {vectors.shape} and type {vectors.dtype}, "
            f"expected {shape} and float32"
        )
