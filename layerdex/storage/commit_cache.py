"""What an open index caches between questions: the commit, mapped layer files, rows, filters."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from layerdex.forks import ForkLock
from layerdex.limits import Pool
from layerdex.records import Rows
from layerdex.storage.catalog.segments import segment_rows
from layerdex.storage.catalog.settings import Commit, CommitMark, read_commit
from layerdex.storage.derived import DerivedCache
from layerdex.storage.vectors.layer_file import LayerFile
from layerdex.storage.vectors.layer_vectors import Segment
from layerdex.threads import map_in_threads

T = TypeVar("T")

_MIN_BYTES_FOR_THREADS = 8_000_000
"""To be read for checksums: one thread takes some ms."""

# The kernel allows a process some 65,000 maps.
_MAX_MAPPED = 16_384


class CommitCache:
    """The cache of one open index, shared by its threads, which may be at different commits."""

    def __init__(
        self,
        open_file: Callable[[Segment, int], LayerFile],
        file_path: Callable[[Segment, int], Path],
    ) -> None:
        self._open_file = open_file
        self._file_path = file_path
        self._commit: Commit | None = None
        self._files: dict[tuple[str, int], LayerFile] = {}
        self._rows: dict[str, Rows] = {}
        self._derived = DerivedCache()
        self._lock = ForkLock()

    def commit(self, connection: Connection, mark: CommitMark) -> Commit:
        """Return the commit that a transaction sees, from the cache if it is still the newest."""
        commit = self._commit
        if commit is None or commit.mark != mark:
            # Outside the lock, so that other threads can go on with the commit that they see.
            commit = read_commit(connection, mark)
            with self._lock:
                self._commit = commit
                self._drop_stale(commit)
            self._derived.keep_only(commit.mark)
        return commit

    def rows(self, connection: Connection, segment: Segment) -> Rows:
        """Return the row at each position of a segment; a segment never changes."""
        if segment.is_contiguous:
            return segment_rows(connection, segment)
        rows = self._rows.get(segment.name)
        if rows is None:
            rows = self._rows[segment.name] = segment_rows(connection, segment)
        return rows

    def derived(
        self, mark: CommitMark, key: Hashable, compute: Callable[[], T], size: Callable[[T], int]
    ) -> T:
        """Return what ``compute`` returns at a commit, from the cache if it is kept there."""
        return self._derived.get(mark, key, compute, size)

    def file(self, segment: Segment, layer: int) -> LayerFile:
        """Return a layer's file, which is checked and mapped on its first use."""
        key = (segment.name, layer)
        with self._lock:
            file = self._files.get(key)
        if file is not None:
            return file
        # Outside the lock: it is read in part, and an older one whole.
        file = self._open_file(segment, layer)
        with self._lock:
            while len(self._files) >= _MAX_MAPPED:
                self._files.pop(next(iter(self._files)))
            # Another thread may be at a newer commit, and have dropped it there.
            segments = [segment] if self._commit is None else self._commit.segments
            newest = next((each for each in segments if each.name == segment.name), None)
            if self._is_current(newest, layer, file):
                return self._files.setdefault(key, file)
        return file

    def _is_current(self, segment: Segment | None, layer: int, file: LayerFile) -> bool:
        """Return whether a file is that of a segment of the newest commit, None if it has none."""
        if segment is None:
            return False
        return file.is_current(self._file_path(segment, layer), segment.files.get(layer))

    def files(self, segments: Sequence[Segment], layer: int) -> list[LayerFile]:
        """Return a layer's file of each segment; several threads check those that are new."""
        with self._lock:
            opened = [self._files.get((segment.name, layer)) for segment in segments]
        new = [segment for segment, file in zip(segments, opened, strict=True) if file is None]
        files_of_new = [segment.files[layer] for segment in new if layer in segment.files]
        n_bytes = sum(file.n_bytes_when_opened for file in files_of_new)
        n_threads = Pool.BLAS.size() if n_bytes >= _MIN_BYTES_FOR_THREADS else 1
        files = iter(map_in_threads(partial(self.file, layer=layer), new, n_threads=n_threads))
        return [next(files) if file is None else file for file in opened]

    def _drop_stale(self, commit: Commit) -> None:
        by_name = {segment.name: segment for segment in commit.segments}

        self._files = {
            (name, layer): file
            for (name, layer), file in self._files.items()
            if self._is_current(by_name.get(name), layer, file)
        }
        self._rows = {name: rows for name, rows in self._rows.items() if name in by_name}
