"""An opened index directory: creating, reading, writing and checking it.

my-index/
catalog.sqlite3
catalog.sqlite3.crc32
approximate/<name>.safetensors
heads/<name>.safetensors
segments/<name>/layer-00.faiss ...
transforms/<name>.safetensors
writer.lock
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection

from layerdex.choices import StoredPrecision
from layerdex.errors import DamagedIndexError
from layerdex.records import EncoderSettings
from layerdex.storage.artifacts import ARTIFACT_KINDS
from layerdex.storage.catalog.changes import COMMITS, put_setting
from layerdex.storage.catalog.checks import (
    CatalogCheck,
    begin_writing,
    check_catalog,
    end_writing,
)
from layerdex.storage.catalog.engine import (
    create_catalog,
    set_busy_timeout,
    translate_errors,
    write_engine,
)
from layerdex.storage.catalog.read_only import read_engine, unchanged_if_immutable
from layerdex.storage.catalog.revisions import check_schema
from layerdex.storage.catalog.seal import break_seal, check_seal, renew_seal
from layerdex.storage.catalog.settings import (
    CommitMark,
    check_counts,
    initial_settings,
    read_mark,
    read_settings,
)
from layerdex.storage.catalog.upgrade import migrate_if_older
from layerdex.storage.commit_cache import CommitCache
from layerdex.storage.directory import (
    CATALOG,
    LOCK,
    SEGMENTS,
    check_creatable,
    check_own,
    check_segments_folder,
    locked,
    resolve,
)
from layerdex.storage.files import make_folder, remove_tree
from layerdex.storage.place import Place
from layerdex.storage.queries import query_newest
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.vectors.codecs import codec_of
from layerdex.storage.vectors.faiss_library import load_faiss
from layerdex.storage.vectors.layer_file import LayerFile, check_layer, check_size, layer_filename
from layerdex.storage.vectors.layer_vectors import Segment
from layerdex.storage.vectors.segment_file import SegmentFile
from layerdex.storage.writer import Writer

T = TypeVar("T")


class Store:
    """An open index directory."""

    def __init__(self, path: Path) -> None:
        """Open the index at ``path``; an older schema is migrated first.

        Raises `IndexNotFoundError`, `SchemaError`, `DamagedIndexError`, `LockedIndexError` or
        `StorageError`.
        """
        path = resolve(path)  # the working directory may change
        self.path = path
        self._catalog = path / CATALOG
        with translate_errors(self._catalog):
            self._engine = read_engine(self._catalog)
            check_own(path)
            check_segments_folder(path / SEGMENTS)
            migrate_if_older(path)
        self._cache = CommitCache(self.open_file, self.file_path)
        with translate_errors(self._catalog), self._engine.connect() as connection:
            check_schema(connection)
            settings = read_settings(connection, path)
        self._identity = settings.identity
        self.settings, self.layers = settings.encoder, settings.layers
        self.precision, self.query_template = settings.precision, settings.query_template
        self.codec = codec_of(self.precision)

    @classmethod
    def create(
        cls,
        path: Path,
        settings: EncoderSettings,
        layers: tuple[int, ...],
        *,
        precision: StoredPrecision = StoredPrecision.FLOAT16,
        query_template: str | None = None,
        lock_timeout_s: float = 10.0,
    ) -> Store:
        """Create an empty index in a directory that does not exist or is empty.

        Raises `IndexExistsError` if there is something, or if another process has just created
        an index there, and `OptionError` for a directory inside an index.
        """

        def fill(connection: Connection) -> None:
            values = initial_settings(
                settings, layers, precision=precision, query_template=query_template
            )
            for key, value in values.items():
                put_setting(connection, key, value)
            for kind in ARTIFACT_KINDS:
                put_setting(connection, kind.name, None)

        load_faiss()  # if it is missing, say so before anything is created
        path = resolve(path)
        with translate_errors(path):
            check_creatable(path)
            make_folder(path)
            with locked(path, timeout_s=lock_timeout_s):
                check_creatable(path)
                (path / SEGMENTS).mkdir(exist_ok=True)
                create_catalog(path / CATALOG, fill)
                renew_seal(path / CATALOG)
        return cls(path)

    @contextmanager
    def read(self) -> Iterator[Snapshot]:
        """Open the newest commit for reading; it stays the same until the context ends.

        Raises `LockedIndexError` if a process stands still while SQLite opens or closes the catalog
        for it.
        """
        with (
            translate_errors(self._catalog),
            self._engine.connect() as connection,
            unchanged_if_immutable(connection, self._catalog),
        ):
            commit = self._cache.commit(connection, self._read_mark(connection))
            yield Snapshot(
                connection,
                self.path,
                commit=commit,
                cache=self._cache,
                width=self.settings.width,
                codec=self.codec,
            )

    def query(self, question: Callable[[Snapshot], T]) -> T:
        """Answer ``question`` from the newest commit; see `query_newest`."""
        return query_newest([self], question)

    @contextmanager
    def write(
        self, *, lock_timeout_s: float = 10.0, check: CatalogCheck = CatalogCheck.SEAL
    ) -> Iterator[Writer]:
        """Become the only writer.

        Raises `LockedIndexError` if another writer, or who else has locked the catalog, stays
        longer than ``lock_timeout_s`` (for SQLite's own locks at least half a second), and
        `DamagedIndexError` if ``check`` finds damage of the catalog. Whoever is the writer waits
        longer for locks of SQLite.
        """
        with ExitStack() as stack:
            with translate_errors(self.path):
                place = stack.enter_context(locked(self.path, timeout_s=lock_timeout_s))
                with place.unmoved():
                    writer = self._begin_writing(stack, place, check, lock_timeout_s)
            # Outside `translate_errors`: the caller's errors, as of reading a source, are its own.
            yield writer

    def check_can_write(self, *, lock_timeout_s: float) -> None:
        """Raise `LockedIndexError` or `StorageError` if nobody could begin to write now.

        Unlike `write` it changes nothing, and reads no catalog.
        """
        with translate_errors(self.path), locked(self.path, timeout_s=lock_timeout_s):
            pass

    def _begin_writing(
        self, stack: ExitStack, place: Place, check: CatalogCheck, timeout_s: float
    ) -> Writer:
        check_segments_folder(place.path / SEGMENTS)
        make_folder(place.folder / SEGMENTS)
        place.hold_catalog(CATALOG)
        connection = stack.enter_context(self._connect_writer(place, timeout_s))
        self._read_mark(connection)  # or another index would be written to
        connection.rollback()
        is_sound = check_catalog(connection, self._catalog, check)
        place.check()  # SQLite has opened what is at the path
        stack.callback(self._end_writing, connection, place, os.getpid(), is_sound=is_sound)
        writer = Writer(
            connection,
            place,
            salt=begin_writing(connection, place),
            layers=self.layers,
            width=self.settings.width,
            codec=self.codec,
        )
        writer.remove_leftovers()
        set_busy_timeout(connection)  # a run of hours is not lost to someone who is there first
        return writer

    @contextmanager
    def _connect_writer(self, place: Place, timeout_s: float) -> Iterator[Connection]:
        """Open the catalog for writing, and leave it open if it is another's at the end."""
        writer_pid = os.getpid()
        with write_engine(self._catalog, busy_timeout_s=timeout_s).connect() as connection:
            driver: Any = connection.connection.driver_connection
            try:
                yield connection
            finally:
                if not _is_own(place, writer_pid):
                    driver.abandon()

    def _end_writing(
        self, connection: Connection, place: Place, writer_pid: int, *, is_sound: bool
    ) -> None:
        if _is_own(place, writer_pid):
            end_writing(connection, place, is_sound=is_sound)

    def _read_mark(self, connection: Connection) -> CommitMark:
        """Return the mark of the newest commit; raises `SchemaError` and as `read_mark` does."""
        check_schema(connection)
        return read_mark(connection, self._identity, self.path)

    def discard_if_unused(self) -> None:
        """Remove the files that `create` made, if nothing was ever committed; other files stay."""
        with translate_errors(self.path), locked(self.path, timeout_s=0) as place:
            with self.read() as snapshot:
                if snapshot.setting(COMMITS) != 0:
                    return
            check_segments_folder(self.path / SEGMENTS)
            catalog = place.folder / CATALOG
            with place.unmoved():
                # Nothing was committed: it has leftovers at most.
                remove_tree(place.folder / SEGMENTS)
                break_seal(catalog)
                for suffix in ("-wal", "-shm", ""):  # if killed in between, it is still an index
                    catalog.with_name(CATALOG + suffix).unlink(missing_ok=True)
            (place.folder / LOCK).unlink(missing_ok=True)

    def file_path(self, segment: Segment, layer: int) -> Path:
        """Return the path of a segment's layer file."""
        return self.path / SEGMENTS / segment.name / layer_filename(layer)

    def open_file(self, segment: Segment, layer: int) -> LayerFile:
        """Map a segment's layer file, which checks itself against the catalog as it is read.

        Raises FileNotFoundError or `DamagedIndexError`.
        """
        path, recorded, n = self._file(segment, layer)
        return LayerFile(path, recorded, n=n, width=self.settings.width, codec=self.codec)

    def check_file(self, segment: Segment, layer: int) -> None:
        """Check the whole of a segment's layer file against the catalog, without mapping it.

        Raises OSError, such as FileNotFoundError, or `DamagedIndexError`.
        """
        path, recorded, n = self._file(segment, layer)
        check_layer(path, recorded, n=n, width=self.settings.width, codec=self.codec)

    def _file(self, segment: Segment, layer: int) -> tuple[Path, SegmentFile, int]:
        """Return path, record and number of vectors of a layer file."""
        path, recorded = self.file_path(segment, layer), segment.files.get(layer)
        if recorded is None:
            raise DamagedIndexError(f"{path} is not in the catalog: run 'layerdex repair'")
        return path, recorded, segment.n_documents

    def check_catalog(self) -> None:
        """Check the catalog's seal and counts, for operations that need no vectors.

        Raises `DamagedIndexError`.
        """
        with translate_errors(self._catalog):
            check_seal(self._catalog)
        with self.read() as snapshot:
            check_counts(snapshot.connection, snapshot.segments, self.path)

    def check_whole(self) -> None:
        """Check the catalog's seal, counts, and the sizes of segment files: all that is cheap.

        Raises `DamagedIndexError`.
        """

        def question(snapshot: Snapshot) -> None:
            for segment in snapshot.segments:
                for layer, file in segment.files.items():
                    check_size(self.file_path(segment, layer), file.size_bytes)

        self.check_catalog()
        self.query(question)


def _is_own(place: Place, writer_pid: int) -> bool:
    """Return whether this is no process that a writer's callback forked, nor another's place."""
    return os.getpid() == writer_pid and place.is_same()
