"""What lies in an index directory, who may write to it, and where one can be made."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from layerdex.arguments import check_between
from layerdex.errors import DamagedIndexError, IndexExistsError, LockedIndexError, StorageError

CATALOG = "catalog.sqlite3"
SEGMENTS = "segments"
LOCK = "writer.lock"


@contextmanager
def locked(path: Path, *, timeout_s: float) -> Iterator[None]:
    """Hold the writer lock of an index; `LockedIndexError` when another holds it longer.

    `DamagedIndexError` is raised where a link lies in the place of a file (see `check_own`).
    """
    check_own(path)
    # To FileLock, -1 s is for ever.
    timeout_s = check_between("lock_timeout_s", timeout_s, 0, math.inf)
    lock = FileLock(path / LOCK, timeout=timeout_s)
    try:
        lock.acquire()
    except Timeout as error:
        owner = _owner(path / LOCK)
        who = "another process is" if owner != os.getpid() else "this process is already"
        number = f": process {owner}" if owner not in (None, os.getpid()) else ""
        raise LockedIndexError(
            f"{who} writing to {path}{number} (waited {timeout_s:g} s); try again later"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _owner(lock: Path) -> int | None:
    """Return the process that holds a lock, where the kernel tells (Linux)."""
    try:
        held = Path("/proc/locks").read_text(encoding="ascii")
        inode = str(lock.stat().st_ino)
    except OSError:
        return None
    for line in held.splitlines():
        # "1: FLOCK  ADVISORY  WRITE 4711 fd:01:1234567 0 EOF"; a waiter has "->" after the number.
        _, *rest = line.split()
        if rest[0] == "FLOCK" and rest[4].rsplit(":", 1)[-1] == inode and rest[3].isdigit():
            return int(rest[3])
    return None


def check_creatable(path: Path) -> None:
    """Raise `IndexExistsError` or `StorageError` unless an index can be made at ``path``."""
    if not path.exists():
        return
    if not path.is_dir():
        raise StorageError(f"{path} is a file, not a directory for an index")
    if (path / CATALOG).exists():
        raise IndexExistsError(f"{path} already holds an index")
    foreign = [entry.name for entry in path.iterdir() if not _is_unfinished(entry)]
    if foreign:
        raise IndexExistsError(
            f"{path} is not an index and not empty (it holds {foreign[0]!r}): "
            "choose another directory"
        )


def check_own(path: Path) -> None:
    """Raise `DamagedIndexError` where a name that is Layerdex's own is a link, pipe or device.

    SQLite follows links: an index from elsewhere whose ``catalog.sqlite3-wal`` or ``-shm`` is one
    would have another file written over, by a reader even. Raises OSError.
    """
    with os.scandir(path) as entries:
        for entry in entries:
            is_file = entry.name.startswith(CATALOG) or entry.name == LOCK
            if is_file and not entry.is_file(follow_symlinks=False):
                what = "a link" if entry.is_symlink() else "not a file"
                raise DamagedIndexError(f"{entry.path} is {what}: nothing is read or written there")


def check_segments_folder(folder: Path) -> None:
    """Raise `DamagedIndexError` where the segments' folder is a link or a file."""
    # A folder that is gone is made anew, for `repair` to fill.
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise DamagedIndexError(f"{folder} is not a folder: nothing is read or written through it")


def _is_unfinished(entry: Path) -> bool:
    """Say whether an interrupted creation left this, which is not in the way."""
    if entry.name == SEGMENTS:
        return entry.is_dir() and not any(entry.iterdir())
    return entry.name == LOCK or entry.name.startswith(CATALOG + ".new")
