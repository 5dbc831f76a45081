"""What an open index keeps between questions: a commit, mapped layer files, rows with gaps."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection

from layerdex.records import Rows
from layerdex.storage.changes import COMMITS
from layerdex.storage.rows import read_setting, row_array, segment_rows
from layerdex.storage.segment import LayerFile
from layerdex.storage.state import Commit, read_commit
from layerdex.storage.vectors import Segment

# The kernel allows a process some 65,000 maps.
_MAX_MAPPED = 16_384


class Known:
    """Shared by the threads that ask one index, which may be at different commits."""

    def __init__(
        self,
        open_file: Callable[[Segment, int], LayerFile],
        file_path: Callable[[Segment, int], Path],
    ) -> None:
        self._open_file = open_file
        self._file_path = file_path
        self._commit = Commit(-1, [], row_array([]))
        self._files: dict[tuple[str, int], LayerFile] = {}
        self._rows: dict[str, Rows] = {}
        self._lock = threading.Lock()

    def commit(self, connection: Connection) -> Commit:
        """Return the commit that a transaction sees, read only where it is another one."""
        number: int = read_setting(connection, COMMITS)
        with self._lock:
            commit = self._commit
            if number != commit.number:
                commit = self._commit = read_commit(connection, number)
                self._forget_what_is_gone(commit)
        return commit

    def rows(self, connection: Connection, segment: Segment) -> Rows:
        """Return the row at each position of a segment, which never changes."""
        if segment.is_contiguous:
            return segment_rows(connection, segment)
        rows = self._rows.get(segment.name)
        if rows is None:
            rows = self._rows[segment.name] = segment_rows(connection, segment)
        return rows

    def file(self, segment: Segment, layer: int) -> LayerFile:
        """Return a layer's file, checked and mapped when it is first asked for."""
        key = (segment.name, layer)
        with self._lock:
            file = self._files.get(key)
            if file is None:
                while len(self._files) >= _MAX_MAPPED:
                    self._files.pop(next(iter(self._files)))
                file = self._files[key] = self._open_file(segment, layer)
        return file

    def _forget_what_is_gone(self, commit: Commit) -> None:
        by_name = {segment.name: segment for segment in commit.segments}
        self._files = {
            (name, layer): file
            for (name, layer), file in self._files.items()
            if name in by_name and file.is_current(self._file_path(by_name[name], layer))
        }
        self._rows = {name: rows for name, rows in self._rows.items() if name in by_name}
