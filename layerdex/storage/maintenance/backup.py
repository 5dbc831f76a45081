"""Copying one commit of an index, while a writer may be at work."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy.exc import DatabaseError

from layerdex.errors import DamagedIndexError, IndexExistsError, StorageError
from layerdex.records import OnProgress, progress_of_shares
from layerdex.storage.artifacts import (
    ARTIFACT_KINDS,
    ArtifactKind,
    read_artifact_record,
    read_chunks,
)
from layerdex.storage.catalog.checks import catalog_faults
from layerdex.storage.catalog.engine import switch_to_wal, translate_errors, write_engine
from layerdex.storage.catalog.seal import renew_seal
from layerdex.storage.catalog.sqlite_connection import overwriting
from layerdex.storage.directory import CATALOG, SEGMENTS, check_length, check_outside, resolve
from layerdex.storage.files import (
    copy_access,
    create_file,
    errors_named,
    make_folder,
    name_start,
    sync_file,
    sync_folder,
    write_chunks,
    write_file,
)
from layerdex.storage.maintenance.live_segments import LiveSegment, drop_dead_versions
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.store import Store
from layerdex.storage.vectors.layer_file import check_size, open_layer
from layerdex.storage.vectors.layer_vectors import Segment

logger = logging.getLogger(__name__)

# Errors of SQLite that come from writing, so from the copy: the index is only read. Its shared
# memory is there already, while that of the copy is made when the copy is opened.
_WRITE_ERRORS = (
    "SQLITE_FULL",
    "SQLITE_CANTOPEN",
    "SQLITE_READONLY",
    "SQLITE_IOERR_WRITE",
    "SQLITE_IOERR_FSYNC",
    "SQLITE_IOERR_DIR_FSYNC",
    "SQLITE_IOERR_TRUNCATE",
    "SQLITE_IOERR_DELETE",
    "SQLITE_IOERR_SHM",
)


def back_up(store: Store, target: Path, *, on_progress: OnProgress | None = None) -> int:
    """Copy the newest commit to ``target``, which appears whole or not at all.

    Dead versions are left out, and what SQLite leaves of deleted values. Every layer file is
    checked against its checksum, so that no damage is backed up. Returns the number of documents.
    Raises `IndexExistsError` if ``target`` exists, `OptionError` for a target
    within an index, `DamagedIndexError` or `StorageError`.
    """
    target = resolve(target)
    with translate_errors(target):
        if target.exists():
            raise IndexExistsError(
                f"{target} already exists: choose a new directory for the backup"
            )
        check_outside(target)
        with unfinished_copy(store, target, store.path, on_progress) as (folder, n):
            folder.rename(target)
            sync_folder(folder.parent)
    return n


@contextmanager
def unfinished_copy(
    store: Store, target: Path, like: Path, on_progress: OnProgress | None
) -> Iterator[tuple[Path, int]]:
    """Yield a copy of the newest commit beside ``target``, and how many documents it has.

    It gets group and mode of the index ``like``. Whatever has the name of the copy at the end is
    removed. Raises OSError, `StorageError` or `DamagedIndexError`.
    """
    prefix = f".{name_start(target)}."
    for folder in (target, target.with_name(f"{prefix}12345678")):  # as `mkdtemp` ends it
        check_length(folder / CATALOG)
    make_folder(target.parent)
    try:
        folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=prefix))
    except OSError as error:
        raise StorageError(f"cannot write in {target.parent}: {error.strerror}") from error

    def copy(snapshot: Snapshot) -> int:
        # Within the question: its errors are said to be of the index that is read.
        with _errors_of_target(target, folder):
            return _copy(store, snapshot, folder, on_progress)

    try:
        n = store.query(copy)
        with _errors_of_target(target, folder):
            _copy_access(folder, like)
            yield folder, n
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if os.path.lexists(folder):
            logger.warning("%s is not needed any more and cannot be removed: remove it", folder)


@contextmanager
def _errors_of_target(target: Path, folder: Path) -> Iterator[None]:
    """Name the target in errors of writing to its unfinished copy, whose name says nothing.

    Others stay as they are, such as that of a segment that a compaction has removed.
    """
    try:
        yield
    except OSError as error:
        used = error.filename
        if not isinstance(used, str | Path) or not Path(used).is_relative_to(folder):
            raise
        raise StorageError(f"cannot write {target}: {error.strerror}") from error
    except (DatabaseError, sqlite3.Error) as error:
        original = error.orig if isinstance(error, DatabaseError) else error
        if not getattr(original, "sqlite_errorname", "").startswith(_WRITE_ERRORS):
            raise
        hint = "" if "full" in str(original) else " (is the disk full?)"
        raise StorageError(f"cannot write {target}: {original}{hint}") from error


def _copy_access(folder: Path, index: Path) -> None:
    """Give a copy the access that an index has, so that who works with the one can with the other.

    Its owner may write to it in any case: the index may be on a disk that is only read.
    """
    for entry in folder.rglob("*"):
        like = index / (SEGMENTS if entry.is_dir() else CATALOG)
        if like.exists():
            copy_access(entry, like, at_least=0o600)
    copy_access(folder, index, at_least=0o700)


def _copy(store: Store, snapshot: Snapshot, folder: Path, on_progress: OnProgress | None) -> int:
    # Left from the commit before, if a compaction has removed its segments meanwhile.
    shutil.rmtree(folder / SEGMENTS, ignore_errors=True)
    (folder / SEGMENTS).mkdir()
    files = [(segment, layer) for segment in snapshot.segments for layer in segment.files]
    live = {
        segment.name: LiveSegment(store, snapshot, segment)
        for segment in snapshot.segments
        if snapshot.has_dead(segment)
    }
    sizes = [segment.files[layer].size_bytes for segment, layer in files]
    told = progress_of_shares(on_progress, sizes, sum(sizes))
    for tell, (segment, layer) in zip(told, files, strict=True):
        if (copy := live.get(segment.name)) is not None:
            copy.copy_layer(layer, folder / SEGMENTS / copy.name)
        else:
            _copy_layer(store, segment, layer, folder / SEGMENTS / segment.name)
        if tell is not None:
            tell(1, 1)
    for entry in (folder / SEGMENTS).iterdir():
        sync_folder(entry)
    sync_folder(folder / SEGMENTS)
    for kind in ARTIFACT_KINDS:
        _copy_artifact(snapshot, kind, folder / kind.folder)
    _copy_catalog(snapshot, folder / CATALOG, list(live.values()))
    renew_seal(folder / CATALOG)
    sync_folder(folder)
    return snapshot.n_documents


def _copy_layer(store: Store, segment: Segment, layer: int, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    source, recorded = store.file_path(segment, layer), segment.files[layer]
    check_size(source, recorded.size_bytes)
    with errors_named(source), open_layer(source) as file:
        data = np.fromfile(file, dtype=np.uint8)
    if not recorded.matches(data):
        raise DamagedIndexError(f"{source} is damaged: run 'layerdex repair' on this index first")
    write_file(folder / source.name, data)


def _copy_artifact(snapshot: Snapshot, kind: ArtifactKind, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    records = kind.records(read_artifact_record(snapshot, kind))
    if not records:
        return
    folder.mkdir()
    for record in records:
        write_chunks(folder / record["file"], read_chunks(snapshot.path, kind, record))
    sync_folder(folder)


def _copy_catalog(snapshot: Snapshot, target: Path, live: list[LiveSegment]) -> None:
    """Copy the catalog as the snapshot's transaction sees it, unless it is damaged.

    ``live`` are copies of all segments that have dead versions, which are left out.
    """
    target.unlink(missing_ok=True)
    create_file(target)
    source: Any = snapshot.connection.connection.driver_connection
    with closing(overwriting(sqlite3.connect(target))) as copy:
        source.backup(copy)
    with write_engine(target, journal="DELETE").connect() as connection:
        if faults := catalog_faults(connection):  # such a copy must not be sealed
            raise DamagedIndexError(
                f"the catalog is damaged ({faults[0]}): restore it from an earlier backup"
            )
        connection.rollback()
        drop_dead_versions(connection, live)
    switch_to_wal(target)
    sync_file(target)
