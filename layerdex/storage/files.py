"""Files that last: written whole, flushed to the disk, then named."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from layerdex.errors import StorageError

_CHUNK_BYTES = 1 << 22


def write_file(path: Path, data: NDArray[np.uint8]) -> int:
    """Create ``path`` with ``data``, flush it to the disk, and return its CRC-32.

    Where that fails nothing stays of it: on a full disk others need the room. FAISS's own
    ``write_index`` is not used: on a full disk it returned normally and left a truncated file.
    Raises OSError.
    """
    view = np.ascontiguousarray(data).data.cast("B")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    try:
        start = 0
        while start < len(view):
            start += os.write(descriptor, view[start : start + _CHUNK_BYTES])
        os.fsync(descriptor)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise
    finally:
        os.close(descriptor)
    return zlib.crc32(view)


def open_own(path: Path) -> BinaryIO:
    """Open a file of an index for reading: a regular one, not reached through a link.

    A link could lead out of the index, and a named pipe would be waited for. Raises OSError: with
    ELOOP for a link, IsADirectoryError for a folder, with EINVAL for anything else.
    """
    if path.parent.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path.parent))
    # O_NONBLOCK matters to named pipes alone.
    file = open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")  # noqa: PTH123, SIM115
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):
        file.close()
        number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(number, os.strerror(number), str(path))
    return file


def checksum(file: BinaryIO) -> int:
    """Return the CRC-32 of what is left to read of a file. Raises OSError."""
    value = 0
    while chunk := file.read(_CHUNK_BYTES):
        value = zlib.crc32(chunk, value)
    return value


def checksum_of(descriptor: int) -> int:
    """Return the CRC-32 of a whole file without moving the place in it, which forks share."""
    value = at = 0
    while chunk := os.pread(descriptor, _CHUNK_BYTES, at):
        value, at = zlib.crc32(chunk, value), at + len(chunk)
    return value


def sync_file(path: Path) -> None:
    """Flush a file that another library wrote."""
    _sync(path, os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Flush a folder, so that the names in it survive a power loss."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, and flush each name; one that is there is left."""
    if not path.is_dir():
        make_folder(path.absolute().parent)
        path.mkdir(exist_ok=True)
        sync_folder(path.absolute().parent)


def remove_tree(path: Path) -> None:
    """Remove a folder and what is in it; a link is removed, never followed."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give the name to write to, so that ``path`` appears whole or not at all.

    Pipes and devices are written to directly. Raises `StorageError` where the operating system
    refuses.
    """
    # before resolving: what /dev/stdout is a link to has no name that can be opened
    is_direct = path.exists() and not path.is_file()
    target = path if is_direct else path.resolve()
    written = path if is_direct else target.with_name(f".{target.name}.{os.getpid()}.new")
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


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
