"""Whether a file was written to while it was read, so that rows may be missing or torn."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from layerdex.indexer.readers.rows import Reading
from layerdex.indexer.readers.streams import source_name
from layerdex.records import Origin, Rejected

CHANGED = "it was written to while it was read, so rows may be missing: read it again"


class FileState(NamedTuple):
    """What tells a file from another one, and from itself after a write."""

    device: int
    inode: int
    n_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, file: Path | int) -> FileState:
        """Return the state of a path or a descriptor; raises `OSError`."""
        status = os.stat(file)  # noqa: PTH116 - a Path has none of a descriptor
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    def is_changed(self, later: FileState) -> bool:
        """Return whether the same file was written to; one that replaces it leaves it whole."""
        return self != later and self[:2] == later[:2]


def watch(path: Path, readings: Iterator[Reading]) -> Iterator[Reading]:
    """Pass the readings of a file on, and end with a `Rejected` if it changed meanwhile."""
    before = _state(path)
    yield from readings
    after = _state(path)
    if before is not None and after is not None and before.is_changed(after):
        yield Rejected(Origin(source_name(path)), CHANGED)


def _state(path: Path) -> FileState | None:
    try:
        return FileState.of(path)
    except OSError:  # reported where the file is read, and it may be removed once it is open
        return None
