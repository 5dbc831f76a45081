"""Copying one commit of an index, while a writer may be at work."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from layerdex.errors import DamagedIndexError, IndexExistsError, OptionError
from layerdex.records import OnProgress
from layerdex.storage.artifacts import (
    ARTIFACT_KINDS,
    ArtifactKind,
    read_artifact_file,
    read_artifact_record,
)
from layerdex.storage.catalog.checks import catalog_faults
from layerdex.storage.catalog.engine import switch_to_wal, translate_errors, write_engine
from layerdex.storage.catalog.seal import renew_seal
from layerdex.storage.catalog.sqlite_connection import overwriting
from layerdex.storage.directory import CATALOG, SEGMENTS, check_length
from layerdex.storage.files import make_folder, name_start, sync_file, sync_folder, write_file
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.store import Store
from layerdex.storage.vectors.layer_file import check_size, open_layer
from layerdex.storage.vectors.layer_vectors import Segment


def back_up(store: Store, target: Path, *, on_progress: OnProgress | None = None) -> int:
    """Copy the newest commit to ``target``, which appears whole or not at all.

    Every layer file is checked against its checksum, so that no damage is backed up. Returns the
    number of documents. Raises `IndexExistsError` if ``target`` exists, `OptionError` for a target
    within the index, `DamagedIndexError` or `StorageError`.
    """
    with translate_errors(target):
        if target.exists():
            raise IndexExistsError(
                f"{target} already exists: choose a new directory for the backup"
            )
        if target.resolve().is_relative_to(store.path.resolve()):
            raise OptionError(f"{target} is inside the index: choose another directory")
        with unfinished_copy(store, target, on_progress) as (folder, n):
            folder.rename(target)
            sync_folder(folder.parent)
    return n


@contextmanager
def unfinished_copy(
    store: Store, target: Path, on_progress: OnProgress | None
) -> Iterator[tuple[Path, int]]:
    """Yield a copy of the newest commit beside ``target``, and how many documents it has.

    Whatever has the name of the copy at the end is removed. Raises OSError or `DamagedIndexError`.
    """
    prefix = f".{name_start(target)}."
    for folder in (target, target.with_name(f"{prefix}12345678")):  # as `mkdtemp` ends it
        check_length(folder / CATALOG)
    parent = target.absolute().parent
    make_folder(parent)
    folder = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
    try:
        n = store.query(lambda snapshot: _copy(store, snapshot, folder, on_progress))
        folder.chmod(store.path.stat().st_mode & 0o777)
        yield folder, n
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy(store: Store, snapshot: Snapshot, folder: Path, on_progress: OnProgress | None) -> int:
    # Left from the commit before, if a compaction has removed its segments meanwhile.
    shutil.rmtree(folder / SEGMENTS, ignore_errors=True)
    (folder / SEGMENTS).mkdir()
    files = [(segment, layer) for segment in snapshot.segments for layer in segment.files]
    for done, (segment, layer) in enumerate(files, 1):
        _copy_layer(store, segment, layer, folder / SEGMENTS / segment.name)
        if on_progress is not None:
            on_progress(done, len(files))
    for segment in snapshot.segments:
        sync_folder(folder / SEGMENTS / segment.name)
    sync_folder(folder / SEGMENTS)
    for kind in ARTIFACT_KINDS:
        _copy_artifact(snapshot, kind, folder / kind.folder)
    _copy_catalog(snapshot, folder / CATALOG)
    renew_seal(folder / CATALOG)
    sync_folder(folder)
    return snapshot.n_documents


def _copy_layer(store: Store, segment: Segment, layer: int, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    source, recorded = store.file_path(segment, layer), segment.files[layer]
    check_size(source, recorded.size_bytes)
    with open_layer(source) as file:
        crc32 = write_file(folder / source.name, np.fromfile(file, dtype=np.uint8))
    if crc32 != recorded.crc32:
        raise DamagedIndexError(f"{source} is damaged: run 'layerdex repair' on this index first")


def _copy_artifact(snapshot: Snapshot, kind: ArtifactKind, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    record = read_artifact_record(snapshot, kind)
    if record is None:
        return
    data = read_artifact_file(snapshot.path, kind, record)
    folder.mkdir()
    write_file(folder / record["file"], np.frombuffer(data, dtype=np.uint8))
    sync_folder(folder)


def _copy_catalog(snapshot: Snapshot, target: Path) -> None:
    """Copy the catalog as the snapshot's transaction sees it, unless it is damaged."""
    target.unlink(missing_ok=True)
    source: Any = snapshot.connection.connection.driver_connection
    with closing(overwriting(sqlite3.connect(target))) as copy:
        source.backup(copy)
    _check_catalog(target)
    switch_to_wal(target)
    sync_file(target)


def _check_catalog(path: Path) -> None:
    """Raise `DamagedIndexError` for a copy that must not be sealed."""
    with translate_errors(path), write_engine(path, journal="DELETE").connect() as connection:
        if faults := catalog_faults(connection):
            raise DamagedIndexError(
                f"the catalog is damaged ({faults[0]}): restore it from an earlier backup"
            )
