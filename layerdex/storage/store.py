"""The index directory: created, opened, and read one committed state at a time.

my-index/
catalog.sqlite3
catalog.sqlite3.crc32
segments/<name>/layer-00.faiss …
writer.lock
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from layerdex.choices import StoredPrecision
from layerdex.errors import DamagedIndexError
from layerdex.records import EncoderSettings
from layerdex.storage.artifacts import ARTIFACT_KINDS
from layerdex.storage.catalog.changes import (
    COMMIT_MARK,
    COMMITS,
    IDENTITY,
    NEXT_ORDINAL,
    NEXT_ROW,
    put_setting,
)
from layerdex.storage.catalog.checks import check_rows, end_writing
from layerdex.storage.catalog.engine import (
    create_catalog,
    read_engine,
    translate_errors,
    unchanged_if_immutable,
    write_engine,
)
from layerdex.storage.catalog.revisions import check_schema
from layerdex.storage.catalog.seal import break_seal, check_seal, renew_seal
from layerdex.storage.catalog.settings import (
    BEST_LAYER,
    QUERY_TEMPLATE,
    check_counts,
    check_identity,
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
)
from layerdex.storage.files import make_folder, remove_tree
from layerdex.storage.queries import query_newest
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.vectors.codecs import codec_of
from layerdex.storage.vectors.faiss_library import load_faiss
from layerdex.storage.vectors.layer_file import LayerFile, check_size, layer_filename
from layerdex.storage.vectors.layer_vectors import Segment
from layerdex.storage.writer import Writer

T = TypeVar("T")


class Store:
    """An index directory, opened."""

    def __init__(self, path: Path) -> None:
        """Open the index at ``path``; an older schema is migrated first.

        Raises `IndexNotFoundError`, `SchemaError`, `DamagedIndexError` or `StorageError`.
        """
        path = path.absolute()  # whatever becomes of the working directory
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
            fixed = read_settings(connection, path)
        self._identity = fixed.identity
        self.settings, self.layers = fixed.encoder, fixed.layers
        self.precision, self.query_template = fixed.precision, fixed.query_template
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

        Raises `IndexExistsError` where there is something, also an index that another process
        made meanwhile.
        """

        def fill(connection: Connection) -> None:
            values = {
                IDENTITY: uuid.uuid4().hex,
                "encoder": asdict(settings),
                "layers": layers,
                "precision": precision.value,
                # None too: to find that a setting is absent, all others are read and checked,
                # and a damaged one must not keep an index from being opened to save its texts.
                QUERY_TEMPLATE: query_template,
                COMMIT_MARK: None,
                BEST_LAYER: None,
                **{kind.name: None for kind in ARTIFACT_KINDS},
                NEXT_ROW: 1,
                NEXT_ORDINAL: 1,
                COMMITS: 0,
            }
            for key, value in values.items():
                put_setting(connection, key, value)

        load_faiss()  # its absence should show before anything is made
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
        """Open the newest commit for reading; it stays the same until the context ends."""
        with (
            translate_errors(self._catalog),
            self._engine.connect() as connection,
            unchanged_if_immutable(connection, self._catalog),
        ):
            self._check_same(connection)
            commit = self._cache.commit(connection)
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
    def write(self, *, lock_timeout_s: float = 10.0, is_sealed: bool = True) -> Iterator[Writer]:
        """Become the one writer. Raises `LockedIndexError` when another stays longer.

        `DamagedIndexError` is raised where the seal is not that of the catalog, unless
        ``is_sealed`` is False: then every row is checked, and damage of one raises it.
        """
        with ExitStack() as stack:
            with translate_errors(self.path):
                stack.enter_context(locked(self.path, timeout_s=lock_timeout_s))
                check_segments_folder(self.path / SEGMENTS)
                make_folder(self.path / SEGMENTS)
                connection = stack.enter_context(write_engine(self._catalog).connect())
                self._check_same(connection)
                connection.rollback()
                if is_sealed:
                    was_sealed = check_seal(self._catalog)
                else:
                    check_rows(connection)
                    was_sealed = True
                break_seal(self._catalog)
                stack.callback(end_writing, connection, self._catalog, was_sealed=was_sealed)
                writer = Writer(
                    connection,
                    self.path / SEGMENTS,
                    layers=self.layers,
                    width=self.settings.width,
                    codec=self.codec,
                )
                writer.remove_leftovers()
            # What the caller does in between, such as reading a source, is none of our errors.
            yield writer

    def _check_same(self, connection: Connection) -> None:
        check_schema(connection)
        check_identity(connection, self._identity, self.path)

    def discard_if_unused(self) -> None:
        """Remove what `create` made, if nothing was ever committed; other files stay."""
        with translate_errors(self.path), locked(self.path, timeout_s=0):
            with self.read() as snapshot:
                if snapshot.setting(COMMITS) != 0:
                    return
            check_segments_folder(self.path / SEGMENTS)
            remove_tree(self.path / SEGMENTS)  # it was made empty and holds leftovers at most
            break_seal(self._catalog)
            for suffix in ("-wal", "-shm", ""):  # killed in between, it still is an index
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

    def check_catalog(self) -> None:
        """Check the catalog's seal and counts, for what needs no vectors.

        Raises `DamagedIndexError`.
        """
        with translate_errors(self._catalog):
            check_seal(self._catalog)
        with self.read() as snapshot:
            check_counts(snapshot.connection, snapshot.segments, self.path)

    def check_whole(self) -> None:
        """Check what is cheap to check: the catalog's seal, counts, and sizes of segment files.

        Raises `DamagedIndexError`.
        """

        def question(snapshot: Snapshot) -> None:
            for segment in snapshot.segments:
                for layer, file in segment.files.items():
                    check_size(self.file_path(segment, layer), file.size_bytes)

        self.check_catalog()
        self.query(question)
