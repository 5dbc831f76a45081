"""Durable files: written whole, flushed to the disk, then renamed."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from layerdex.errors import StorageError

_CHUNK_BYTES = 1 << 22
# File systems allow 255, and 143 where names are encrypted (eCryptfs).
_MAX_START_BYTES = 100
_STDERR = 2


def write_file(path: Path, data: NDArray[np.uint8]) -> None:
    """Create ``path`` with ``data``, and flush it to the disk.

    On failure the file is removed, as other files need the room on a full disk. FAISS's own
    ``write_index`` is not used: on a full disk it returned normally and left a truncated file
    (faiss-cpu 1.15.1). Raises OSError.
    """
    view = np.ascontiguousarray(data).data.cast("B")
    starts = range(0, len(view), _CHUNK_BYTES)
    write_chunks(path, (view[start : start + _CHUNK_BYTES] for start in starts))


def write_chunks(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Create ``path`` as `write_file` does, from parts that need not be in memory together."""
    with new_file(path) as write:
        for chunk in chunks:
            write(chunk)


@contextmanager
def new_file(path: Path) -> Iterator[Callable[[bytes | memoryview], None]]:
    """Create ``path``, yield what appends to it, and flush it to the disk; see `write_file`."""
    descriptor = _above_standard(_create(path))

    def write(chunk: bytes | memoryview) -> None:
        left = memoryview(chunk)
        with errors_named(path):
            while left:
                left = left[os.write(descriptor, left) :]

    try:
        yield write
        with errors_named(path):
            os.fsync(descriptor)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise
    finally:
        os.close(descriptor)


def create_file(path: Path) -> None:
    """Create an empty file for SQLite, which would make one that only its owner may write.

    SQLite gives its log and its shared memory the same mode. Raises OSError.
    """
    os.close(_create(path))


def _create(path: Path) -> int:
    """Create a file with the mode that the umask gives, and return its descriptor."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)


def copy_access(path: Path, like: Path, *, at_least: int = 0) -> None:
    """Give a file or folder the owner, group and mode of another, as far as this user may.

    ``at_least`` are bits of the mode that it gets in any case. Raises OSError if ``like`` is gone.
    """
    status = like.stat()
    # Only root may give a file away; a container or a disk may not know the owner.
    for owner in (status.st_uid, -1):
        with suppress(OSError):
            os.chown(path, owner, status.st_gid)
            break
    with suppress(OSError):
        path.chmod(stat.S_IMODE(status.st_mode) | at_least)


@contextmanager
def errors_named(path: Path) -> Iterator[None]:
    """Name the file in errors of calls that know only its descriptor."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def _above_standard(descriptor: int) -> int:
    """Return a file's descriptor, moved away from those of the standard streams.

    It has the number of one in a process whose streams are closed, and what a library prints there
    would be written into the file.
    """
    if descriptor > _STDERR:
        return descriptor
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _STDERR + 1)
    finally:
        os.close(descriptor)


def open_own(path: Path) -> BinaryIO:
    """Open a file of an index for reading, if it is a regular file and not behind a link.

    A link could lead out of the index, and opening a named pipe would block. Raises OSError: with
    ELOOP for a link, IsADirectoryError for a folder, with EINVAL for any other file.
    """
    if path.parent.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path.parent))
    return open_regular(path)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading, as `open_own` does, in whatever folder it is."""
    # O_NONBLOCK matters for named pipes only.
    file = open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")  # noqa: PTH123, SIM115
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):
        file.close()
        number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(number, os.strerror(number), str(path))
    return file


def checksum(file: BinaryIO, value: int = 0) -> int:
    """Return the CRC-32 of the rest of a file, behind bytes with the CRC-32 ``value``.

    Raises OSError.
    """
    while chunk := file.read(_CHUNK_BYTES):
        value = zlib.crc32(chunk, value)
    return value


def chunks_of(descriptor: int) -> Iterator[bytes]:
    """Yield the contents of a whole file without moving its offset, which forks share."""
    at = 0
    while chunk := os.pread(descriptor, _CHUNK_BYTES, at):
        yield chunk
        at += len(chunk)


def sync_file(path: Path) -> None:
    """Flush a file that another library wrote."""
    _sync(path, os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Flush a folder, so that the names in it survive a power loss."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def make_folder(path: Path) -> None:
    """Create a folder and its parents, and flush each name; an existing folder is left alone."""
    if not path.is_dir():
        make_folder(path.absolute().parent)
        path.mkdir(exist_ok=True)
        sync_folder(path.absolute().parent)


def remove_tree(path: Path) -> None:
    """Remove a file or a folder with its contents; a link is removed, never followed."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary name to write to, which then replaces ``path``.

    So ``path`` appears whole or not at all. Pipes and devices are written to directly. Raises
    `StorageError` for errors of the operating system.
    """
    # Before resolving: the target of /dev/stdout has no name that can be opened.
    is_direct = path.exists() and not path.is_file()
    target = path if is_direct else path.resolve()
    unfinished = f".{name_start(target)}.{os.getpid()}.new"
    written = path if is_direct else target.with_name(unfinished)
    try:
        yield written
        if not is_direct:
            with written.open("rb") as file:
                os.fsync(file.fileno())
            written.replace(target)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if not is_direct:
            written.unlink(missing_ok=True)


def has_inode_left(folder: Path) -> bool:
    """Return whether a file can be created as far as the file system's table of inodes goes."""
    try:
        state = os.statvfs(folder)
    except OSError:
        return True
    return state.f_favail > 0 or state.f_files == 0  # such as btrfs, which has no table


def free_bytes(folder: Path) -> int:
    """Return how many bytes this user can still write to the disk of a folder. Raises OSError."""
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize


def name_start(path: Path) -> str:
    """Return a path's last name, cut so that the name of a file beside it can begin with it."""
    return os.fsdecode(os.fsencode(path.name)[:_MAX_START_BYTES])


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        with errors_named(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
