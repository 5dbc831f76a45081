"""Reporting what SQLite does to its files, through its virtual file system (VFS).

The default VFS (https://www.sqlite.org/vfs.html) is changed in place for the whole process: files
are opened by the real one and then get a copy of its methods in which writing, truncating and
flushing also report. The flush of a folder (after a journal is created or deleted) is seen as the
system call ``openDirectory``, which SQLite uses for nothing else. Writes to the memory map
(``-shm``) are not seen: SQLite creates it again after a crash.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

_OK = 0
_Call = ctypes.c_void_p


class Listener(Protocol):
    """Receives reports of what was done; paths are absolute."""

    def create(self, path: Path) -> None: ...
    def write(self, path: Path, offset: int, data: bytes) -> None: ...
    def truncate(self, path: Path, size: int) -> None: ...
    def flush(self, path: Path) -> None: ...
    def unlink(self, path: Path) -> None: ...
    def mkdir(self, path: Path) -> None: ...
    def rename(self, path: Path, target: Path) -> None: ...


class _Methods(ctypes.Structure):
    _fields_ = [
        ("iVersion", ctypes.c_int),
        *((name, _Call) for name in ("xClose", "xRead", "xWrite", "xTruncate", "xSync")),
        *((f"other{i}", _Call) for i in range(13)),
    ]


class _File(ctypes.Structure):
    _fields_ = [("methods", ctypes.POINTER(_Methods))]


class _Vfs(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int) for name in ("iVersion", "szOsFile", "mxPathname")),
        *((name, _Call) for name in ("pNext", "zName", "pAppData", "xOpen", "xDelete")),
        *((f"other{i}", _Call) for i in range(7)),
        ("xSleep", _Call),
        *((f"other{i}", _Call) for i in range(8, 11)),
        *((name, _Call) for name in ("xSetSystemCall", "xGetSystemCall", "xNextSystemCall")),
    ]


_int, _int64, _address = ctypes.c_int, ctypes.c_int64, ctypes.c_void_p
_OPEN = ctypes.CFUNCTYPE(_int, _address, _address, ctypes.POINTER(_File), _int, _address)
_DELETE = ctypes.CFUNCTYPE(_int, _address, _address, _int)
_WRITE = ctypes.CFUNCTYPE(_int, _address, _address, _int, _int64)
_TRUNCATE = ctypes.CFUNCTYPE(_int, _address, _int64)
_SYNC = ctypes.CFUNCTYPE(_int, _address, _int)
_SET = ctypes.CFUNCTYPE(_int, _address, ctypes.c_char_p, _address)
_GET = ctypes.CFUNCTYPE(_address, _address, ctypes.c_char_p)
_OPEN_DIRECTORY = ctypes.CFUNCTYPE(_int, ctypes.c_char_p, _address)
_SLEEP = ctypes.CFUNCTYPE(_int, _address, _int)
# System calls that change files or locks. SQLite reads `errno` after them.
_CHANGES = {
    b"fcntl": ctypes.CFUNCTYPE(_int, _int, _int, _address, use_errno=True),
    b"ftruncate": ctypes.CFUNCTYPE(_int, _int, _int64, use_errno=True),
    b"pwrite64": ctypes.CFUNCTYPE(
        ctypes.c_ssize_t, _int, _address, ctypes.c_size_t, _int64, use_errno=True
    ),
    b"unlink": ctypes.CFUNCTYPE(_int, ctypes.c_char_p, use_errno=True),
}

# Objects that SQLite has pointers to must not be freed.
_referenced: list[Any] = []
_paths: dict[int, Path] = {}


def library() -> ctypes.CDLL | None:
    """Return the SQLite that `sqlite3` uses, or None where it hides its functions."""
    try:
        found = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
        return found if hasattr(found, "sqlite3_vfs_find") else None
    except OSError:
        return None


def listen(listener: Listener) -> None:
    """Report to ``listener`` all that SQLite does in this process from now on. Not undone."""
    vfs = _find_vfs()
    _watch_open(vfs.contents, listener)
    _watch_delete(vfs.contents, listener)
    _watch_folders(vfs, listener)


@contextmanager
def sleepless() -> Iterator[None]:
    """Have SQLite wait for locks without sleeping, for a while: it counts its sleeps, not time."""
    vfs = _find_vfs()
    real = vfs.contents.xSleep
    vfs.contents.xSleep = _hold(_SLEEP(lambda _, duration_us: duration_us))
    try:
        yield
    finally:
        vfs.contents.xSleep = real


def watch_locked(step: Callable[[str], None]) -> None:
    """Call ``step`` before each change that SQLite makes while it has an exclusive lock.

    It is given the system call, and the files and first bytes of the locks. Not undone.
    """
    vfs, locks = _find_vfs(), dict[tuple[str, int], int]()
    for name, kind in _CHANGES.items():
        if address := _GET(vfs.contents.xGetSystemCall)(vfs, name):
            call = _hold(kind(_stepping(name.decode(), kind(address), locks, step)))
            code = _SET(vfs.contents.xSetSystemCall)(vfs, name, call)
            if code != _OK:
                raise RuntimeError(f"SQLite refused a system call of ours: {code}")


def _stepping(
    name: str, real: Any, locks: dict[tuple[str, int], int], step: Callable[[str], None]
) -> Callable[..., int]:
    def call(*arguments: Any) -> int:
        if locks:
            step(f"{name} with {sorted(locks)}")
        code = int(real(*arguments))
        if name == "fcntl" and code == 0 and arguments[1] == fcntl.F_SETLK:
            _note_lock(locks, *arguments)
        return code

    return call


def _note_lock(locks: dict[tuple[str, int], int], file: int, _: int, lock: int) -> None:
    """Note what a call has locked exclusively or released: a ``struct flock`` of Linux."""
    kind = ctypes.c_short.from_address(lock).value
    start, n_bytes = (ctypes.c_int64 * 2).from_address(lock + 8)
    path = Path(f"/proc/self/fd/{file}").readlink().name
    for key in [key for key in locks if key[0] == path and start <= key[1]]:
        if n_bytes == 0 or key[1] < start + n_bytes:
            del locks[key]
    if kind == fcntl.F_WRLCK:
        locks[path, start] = n_bytes


def _find_vfs() -> Any:
    sqlite = library()
    if sqlite is None:
        raise RuntimeError("this Python's SQLite hides its VFS")
    find: Any = sqlite.sqlite3_vfs_find
    find.restype = ctypes.POINTER(_Vfs)
    return find(None)


def _watch_open(vfs: _Vfs, listener: Listener) -> None:
    really_open = _OPEN(vfs.xOpen)

    def x_open(this: int, name: int | None, file: Any, flags: int, out: int) -> int:
        # The name goes on as an address: SQLite keeps a URI's parameters behind its end.
        path = None if name is None else Path(os.fsdecode(ctypes.string_at(name)))
        is_new = path is not None and not path.exists()
        code = int(really_open(this, name, file, flags, out))
        if code == _OK and path is not None:
            if is_new:
                listener.create(path)
            _paths[ctypes.addressof(file.contents)] = path
            file.contents.methods = ctypes.pointer(_watched(file.contents.methods[0], listener))
        return code

    vfs.xOpen = _hold(_OPEN(x_open))


def _watched(real: _Methods, listener: Listener) -> _Methods:
    """Return methods that call ``real`` and report."""
    write, truncate, sync = _WRITE(real.xWrite), _TRUNCATE(real.xTruncate), _SYNC(real.xSync)

    def x_write(file: int, data: int, n: int, offset: int) -> int:
        return _report(
            write(file, data, n, offset),
            lambda: listener.write(_paths[file], offset, ctypes.string_at(data, n)),
        )

    def x_truncate(file: int, size: int) -> int:
        return _report(truncate(file, size), lambda: listener.truncate(_paths[file], size))

    def x_sync(file: int, flags: int) -> int:
        # `sync` also flushes the folder, after the file: so the file is reported before.
        listener.flush(_paths[file])
        return int(sync(file, flags))

    watched = _Methods.from_buffer_copy(real)
    watched.xWrite = _hold(_WRITE(x_write))
    watched.xTruncate = _hold(_TRUNCATE(x_truncate))
    watched.xSync = _hold(_SYNC(x_sync))
    _referenced.append(watched)
    return watched


def _watch_delete(vfs: _Vfs, listener: Listener) -> None:
    really_delete = _DELETE(vfs.xDelete)

    def x_delete(this: int, name: int, sync_folder: int) -> int:
        path = Path(os.fsdecode(ctypes.string_at(name)))
        if path.exists():
            listener.unlink(path)  # before the flush of the folder, which is within
        return int(really_delete(this, name, sync_folder))

    vfs.xDelete = _hold(_DELETE(x_delete))


def _watch_folders(vfs: Any, listener: Listener) -> None:
    name = b"openDirectory"
    really_open = _OPEN_DIRECTORY(_GET(vfs.contents.xGetSystemCall)(vfs, name))

    def open_directory(path: bytes, descriptor: int) -> int:
        code = int(really_open(path, descriptor))
        return _report(code, lambda: listener.flush(Path(os.fsdecode(path)).parent))

    code = _SET(vfs.contents.xSetSystemCall)(vfs, name, _hold(_OPEN_DIRECTORY(open_directory)))
    if code != _OK:
        raise RuntimeError(f"SQLite refused a system call of ours: {code}")


def _report(code: int, report: Callable[[], None]) -> int:
    if code == _OK:
        report()
    return code


def _hold(function: Any) -> int | None:
    _referenced.append(function)
    return ctypes.cast(function, ctypes.c_void_p).value
