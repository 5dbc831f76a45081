"""The index directory: created, opened, and read one committed state at a time.

my-index/
catalog.sqlite3
segments/<name>/layer-00.faiss …
writer.lock
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, func, insert, select

from layerdex.errors import DamagedIndexError
from layerdex.records import EncoderSettings, LongText, Pooling, StoredPrecision
from layerdex.storage.catalog import (
    check_schema,
    clear_errors,
    create_catalog,
    read_engine,
    unchanged_if_immutable,
    write_engine,
)
from layerdex.storage.changes import COMMITS, NEXT_ORDINAL, NEXT_ROW
from layerdex.storage.codecs import codec_of, read_precision
from layerdex.storage.directory import (
    CATALOG,
    LOCK,
    SEGMENTS,
    check_creatable,
    check_segments_folder,
    locked,
)
from layerdex.storage.faiss_library import load_faiss
from layerdex.storage.files import remove_tree
from layerdex.storage.segment import LayerFile, layer_filename
from layerdex.storage.snapshot import Snapshot, read_segments, read_setting
from layerdex.storage.tables import DOCUMENT, SETTING
from layerdex.storage.vectors import Segment
from layerdex.storage.writer import Writer

# The kernel allows a process some 65,000 maps.
_MAX_MAPPED = 16_384

T = TypeVar("T")


class Store:
    """An index directory, opened."""

    def __init__(self, path: Path) -> None:
        """Open the index at ``path``, and check its schema.

        Raises `IndexNotFoundError`, `SchemaError`, `DamagedIndexError` or `StorageError`.
        """
        self.path = path
        self._catalog = path / CATALOG
        with clear_errors(self._catalog):
            self._engine = read_engine(self._catalog)
        self._known: tuple[int, list[Segment]] = (-1, [])  # a commit, and its segments
        self._files: dict[tuple[str, int], LayerFile] = {}
        with clear_errors(self._catalog), self._engine.connect() as connection:
            check_schema(connection)
            self.settings, self.layers = _read_settings(connection, path)
            self.precision = read_precision(read_setting(connection, "precision"))
        self.codec = codec_of(self.precision)

    @classmethod
    def create(
        cls,
        path: Path,
        settings: EncoderSettings,
        layers: tuple[int, ...],
        *,
        precision: StoredPrecision = StoredPrecision.FLOAT16,
        lock_timeout_s: float = 10.0,
    ) -> Store:
        """Create an empty index in a directory that does not exist or is empty.

        Raises `IndexExistsError` where there is something, also an index that another process
        made meanwhile.
        """

        def fill(connection: Connection) -> None:
            values = {
                "encoder": asdict(settings),
                "layers": layers,
                "precision": precision.value,
                NEXT_ROW: 1,
                NEXT_ORDINAL: 1,
                COMMITS: 0,
            }
            rows = [{"key": key, "value": value} for key, value in values.items()]
            connection.execute(insert(SETTING), rows)

        load_faiss()  # its absence should show before anything is made
        with clear_errors(path):
            check_creatable(path)
            path.mkdir(parents=True, exist_ok=True)
            with locked(path, timeout_s=lock_timeout_s):
                check_creatable(path)
                (path / SEGMENTS).mkdir(exist_ok=True)
                create_catalog(path / CATALOG, fill)
        return cls(path)

    @contextmanager
    def read(self) -> Iterator[Snapshot]:
        """Open the newest commit for reading; it stays the same until the context ends."""
        with (
            unchanged_if_immutable(self._catalog),
            clear_errors(self._catalog),
            self._engine.connect() as connection,
        ):
            check_schema(connection)
            yield Snapshot(
                connection,
                segments=self._refresh(connection),
                width=self.settings.width,
                codec=self.codec,
                open_file=self._mapped_file,
            )

    def ask(self, question: Callable[[Snapshot], T]) -> T:
        """Answer ``question`` from the newest commit.

        If a segment was compacted away meanwhile, the question starts again from the commit
        that did so; a file that is missing without such a commit is damage.
        """
        while True:
            with self.read() as snapshot:
                commits = snapshot.setting(COMMITS)
                try:
                    return question(snapshot)
                except FileNotFoundError as error:
                    missing = error
            with self.read() as newer:
                if newer.setting(COMMITS) == commits:
                    raise DamagedIndexError(
                        f"{missing.filename} is missing: run 'layerdex repair' on this index"
                    ) from missing

    @contextmanager
    def write(self, *, lock_timeout_s: float = 10.0) -> Iterator[Writer]:
        """Become the one writer. Raises `LockedIndexError` when another stays longer."""
        with ExitStack() as stack:
            with clear_errors(self.path):
                stack.enter_context(locked(self.path, timeout_s=lock_timeout_s))
                check_segments_folder(self.path / SEGMENTS)
                (self.path / SEGMENTS).mkdir(exist_ok=True)
                connection = stack.enter_context(write_engine(self._catalog).connect())
                check_schema(connection)
                connection.rollback()
                writer = Writer(
                    connection, self.path / SEGMENTS, layers=self.layers, codec=self.codec
                )
                writer.remove_leftovers()
            # What the caller does in between, such as reading a source, is none of our errors.
            yield writer

    def discard_if_unused(self) -> None:
        """Remove what `create` made, if nothing was ever committed; other files stay."""
        with clear_errors(self.path), locked(self.path, timeout_s=0):
            with self.read() as snapshot:
                if snapshot.setting(COMMITS) != 0:
                    return
            check_segments_folder(self.path / SEGMENTS)
            remove_tree(self.path / SEGMENTS)  # it was made empty and holds leftovers at most
            for suffix in ("", "-wal", "-shm"):
                self._catalog.with_name(CATALOG + suffix).unlink(missing_ok=True)
            (self.path / LOCK).unlink(missing_ok=True)

    def file_path(self, segment: Segment, layer: int) -> Path:
        """Return where a segment's layer lies."""
        return self.path / SEGMENTS / segment.name / layer_filename(layer)

    def open_file(self, segment: Segment, layer: int) -> LayerFile:
        """Map a segment's layer, checked against the catalog.

        Raises FileNotFoundError or `DamagedIndexError`.
        """
        path, recorded = self.file_path(segment, layer), segment.files.get(layer)
        if recorded is None:
            raise DamagedIndexError(f"{path} is not in the catalog: run 'layerdex repair'")
        return LayerFile(
            path,
            n=segment.n_documents,
            width=self.settings.width,
            codec=self.codec,
            size_bytes=recorded.size_bytes,
            crc32=recorded.crc32,
        )

    def check_whole(self) -> None:
        """Check what is cheap to check: counts of document versions, and sizes of segment files.

        Raises `DamagedIndexError`.
        """

        def question(snapshot: Snapshot) -> None:
            _check_counts(snapshot, self.path)
            for segment in snapshot.segments:
                for layer, file in segment.files.items():
                    path = self.file_path(segment, layer)
                    if path.stat().st_size != file.size_bytes:
                        raise DamagedIndexError(
                            f"{path} is damaged: run 'layerdex repair' on this index"
                        )

        self.ask(question)

    def _refresh(self, connection: Connection) -> list[Segment]:
        """Return the segments of this commit; another thread may be at another one."""
        commits: int = read_setting(connection, COMMITS)
        known, segments = self._known
        if commits != known:
            segments = read_segments(connection)
            self._known = (commits, segments)
            by_name = {segment.name: segment for segment in segments}
            self._files = {
                (name, layer): file
                for (name, layer), file in self._files.items()
                if name in by_name and file.is_current(self.file_path(by_name[name], layer))
            }
        return segments

    def _mapped_file(self, segment: Segment, layer: int) -> LayerFile:
        key = (segment.name, layer)
        if key not in self._files:
            while len(self._files) >= _MAX_MAPPED:
                self._files.pop(next(iter(self._files)))
            self._files[key] = self.open_file(segment, layer)
        return self._files[key]


def _read_settings(connection: Connection, path: Path) -> tuple[EncoderSettings, tuple[int, ...]]:
    """Return the encoder's settings and the stored layers; the counters are looked at too."""
    try:
        stored: dict[str, Any] = read_setting(connection, "encoder")
        # Indexes made before long texts could be chunked say nothing of them.
        long = LongText(stored.get("long", LongText.TRUNCATE))
        settings = EncoderSettings(
            **{**stored, "pooling": Pooling(stored["pooling"]), "long": long}
        )
        layers = tuple(map(operator.index, read_setting(connection, "layers")))
        for counter in (COMMITS, NEXT_ROW, NEXT_ORDINAL):
            operator.index(read_setting(connection, counter))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DamagedIndexError(
            f"the catalog of {path} has damaged settings: restore it from a backup"
        ) from error
    return settings, layers


def _check_counts(snapshot: Snapshot, path: Path) -> None:
    n_rows = snapshot.connection.scalar(select(func.count()).select_from(DOCUMENT))
    n_positions = sum(segment.n_documents for segment in snapshot.segments)
    if n_rows != n_positions:
        raise DamagedIndexError(
            f"the catalog of {path} has {n_rows} document versions, its segments have "
            f"{n_positions}: restore the catalog from a backup"
        )
