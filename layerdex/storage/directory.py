"""The index directory: its names, its writer lock, and where one can be created or replaced."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from layerdex.arguments import check_between
from layerdex.errors import (
    DamagedIndexError,
    IndexExistsError,
    LockedIndexError,
    OptionError,
    StorageError,
)
from layerdex.storage.place import Place

CATALOG = "catalog.sqlite3"
SEGMENTS = "segments"
HEADS = "heads"
TRANSFORMS = "transforms"
APPROXIMATE = "approximate"
LOCK = "writer.lock"
JOURNALS = ("", "-journal", "-wal", "-shm")
"""What the names of SQLite's files add to a catalog's name."""

_UNFINISHED = {LOCK, *(f"{CATALOG}.new{journal}" for journal in JOURNALS)}
_FILES = {
    *_UNFINISHED,
    *(f"{CATALOG}{journal}" for journal in JOURNALS),
    f"{CATALOG}.crc32",
    f"{CATALOG}.crc32.new",
}
# What an index has, and what a killed writer leaves in it, as paths within its directory.
_OWN = re.compile(
    rf"{'|'.join(map(re.escape, sorted(_FILES)))}"
    rf"|{SEGMENTS}(/[0-9a-f]{{16}}(\.new)?(/layer-[0-9]+\.(faiss|new))?)?"
    rf"|({HEADS}|{TRANSFORMS}|{APPROXIMATE})(/[0-9a-f]{{32}}\.safetensors)?"
    r"|(.*/)?\.nfs[0-9a-f]+"  # what NFS keeps of a removed file that is still open
)
# MAX_PATHNAME in SQLite's os_unix.c, less the name of its journal.
_MAX_PATH_BYTES = 512 - len("-journal")


@contextmanager
def locked(path: Path, *, timeout_s: float) -> Iterator[Place]:
    """Hold the writer lock of an index, and yield the place where that is.

    Raises `LockedIndexError` if another holds it for ``timeout_s``, and `DamagedIndexError` if a
    file of the index is a link (see `check_own`).
    """
    check_own(path)
    # FileLock takes -1 s for no timeout.
    timeout_s = check_between("lock_timeout_s", timeout_s, 0, math.inf)
    lock = FileLock(path / LOCK, timeout=timeout_s)
    while True:
        _acquire(lock, path, timeout_s)
        place = Place(path)
        try:
            if (descriptor := lock._context.lock_file_fd) is not None:
                place.hold(LOCK, descriptor)
            # Another directory may be here since the lock was opened.
            if place.is_same():
                yield place
                return
        finally:
            place.close()
            lock.release()


def _acquire(lock: BaseFileLock, path: Path, timeout_s: float) -> None:
    try:
        lock.acquire()
    except Timeout as error:
        owner = _owner(path / LOCK)
        who = "another process is" if owner != os.getpid() else "this process is already"
        which = f": process {owner}" if owner not in (None, os.getpid()) else ""
        raise LockedIndexError(
            f"{who} writing to {path}{which} (waited {timeout_s:g} s); try again later"
        ) from error


def _owner(lock: Path) -> int | None:
    """Return the id of the process that holds a lock, or None if the kernel does not say."""
    owners = _owners(lock, "FLOCK")
    return owners.pop() if len(owners) == 1 else None


def catalog_owner(catalog: Path) -> int | None:
    """Return the id of the one process that has an exclusive lock of SQLite, or None.

    It is this process only if no other one has such a lock.
    """
    files = (catalog, catalog.with_name(f"{catalog.name}-shm"))
    owners = set[int]().union(*(_owners(file, "POSIX") for file in files))
    owners = owners - {os.getpid()} or owners
    return owners.pop() if len(owners) == 1 else None


def _owners(file: Path, kind: str) -> set[int]:
    """Return the ids of the processes that hold an exclusive lock on a file, as the kernel says."""
    try:
        locks = Path("/proc/locks").read_text(encoding="ascii")
        status = file.stat()
    except OSError:
        return set()
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    owners: dict[str, set[int]] = {}
    for line in locks.splitlines():
        # "1: FLOCK  ADVISORY  WRITE 4711 fd:01:1234567 0 EOF"; a waiter has "->" after the number.
        _, *rest = line.split()
        if rest[0] == kind and rest[2] == "WRITE" and rest[3].isdigit():
            its_device, inode = rest[4].rsplit(":", 1)
            if inode == str(status.st_ino):
                owners.setdefault(its_device, set()).add(int(rest[3]))
    # btrfs and overlays name another device here than `stat` does.
    return owners.get(device, next(iter(owners.values())) if len(owners) == 1 else set())


def is_index(path: Path) -> bool:
    """Return whether a directory holds an index, whole or not."""
    return (path / CATALOG).exists()


def check_creatable(path: Path) -> None:
    """Raise an error unless an index can be created at ``path``.

    Raises `IndexExistsError`, `StorageError`, or `OptionError` for a path inside an index.
    """
    check_length(path / f"{CATALOG}.new")
    check_outside(path)
    if not path.exists():
        return
    if not path.is_dir():
        raise StorageError(f"{path} is a file, not a directory for an index")
    if is_index(path):
        raise IndexExistsError(f"{path} already holds an index")
    foreign = [entry.name for entry in path.iterdir() if not _is_unfinished(entry)]
    if foreign:
        raise IndexExistsError(
            f"{path} is not an index and not empty (it holds {foreign[0]!r}): "
            "choose another directory"
        )


def check_replaceable(path: Path) -> None:
    """Raise an error unless what is at ``path``, if anything, can be removed for another index.

    Raises `IndexExistsError` for anything but an index, also within its directory, `OptionError`
    for a path inside another index, and OSError.
    """
    if not is_index(path):
        check_creatable(path)
        return
    check_outside(path)
    if (foreign := next(_find_foreign(path), None)) is not None:
        raise IndexExistsError(f"{path} also holds {foreign!r}: move it away first")


def check_outside(path: Path) -> None:
    """Raise `OptionError` for a path inside an index, which is copied and replaced as a whole."""
    for parent in resolve(path).parents:
        # Other programs may also call a file so.
        if is_index(parent) and (parent / SEGMENTS).is_dir():
            raise OptionError(f"{path} is inside the index {parent}: choose another directory")


def resolve(path: Path) -> Path:
    """Return the directory that a path leads to: the user's own links are followed, once.

    Raises `StorageError` for a relative path in a working directory that was removed.
    """
    try:
        return Path(os.path.realpath(path))  # `Path.resolve` raises RuntimeError for circles
    except OSError as error:
        raise StorageError(
            "the current directory is not there any more: change to another one"
        ) from error


def check_length(catalog: Path) -> None:
    """Raise `StorageError` if SQLite cannot open a catalog as its path is too long."""
    n_bytes = len(os.fsencode(os.path.realpath(catalog)))
    if n_bytes > _MAX_PATH_BYTES:
        raise StorageError(
            f"the path {catalog} has {n_bytes} bytes, and SQLite opens none of more than "
            f"{_MAX_PATH_BYTES}: choose a shorter one"
        )


def check_own(path: Path) -> None:
    """Raise `DamagedIndexError` if the catalog or the lock is a link, a pipe or a device.

    SQLite follows links: through ``catalog.sqlite3-wal`` or ``-shm`` of a forged index even a
    reader would overwrite another file. Raises OSError.
    """
    with os.scandir(path) as entries:
        for entry in entries:
            is_file = entry.name.startswith(CATALOG) or entry.name == LOCK
            if is_file and not entry.is_file(follow_symlinks=False):
                what = "a symbolic link" if entry.is_symlink() else "not a regular file"
                raise DamagedIndexError(f"{entry.path} is {what}: Layerdex does not open it")


def check_segments_folder(folder: Path) -> None:
    """Raise `DamagedIndexError` if the folder of segments is a link or a file."""
    # A missing folder is created again, for `repair` to fill.
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise DamagedIndexError(f"{folder} is not a folder: Layerdex does not open it")


def _find_foreign(folder: Path, within: str = "") -> Iterator[str]:
    """Yield the paths within an index directory that are not its own."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            name = within + entry.name
            if _OWN.fullmatch(name) is None:
                yield name
            elif entry.is_dir(follow_symlinks=False):
                yield from _find_foreign(Path(entry.path), f"{name}/")


def _is_unfinished(entry: Path) -> bool:
    """Return whether an interrupted creation left this entry."""
    if entry.name == SEGMENTS:
        return entry.is_dir() and not any(entry.iterdir())
    return entry.name in _UNFINISHED
