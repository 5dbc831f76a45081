"""Reporting what Python does to files, by the functions of `os` that change what is on disk.

Writes by ``open(path, "w")`` are not reported, but those of `Path.write_bytes` are.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.storage.sqlite_calls import Listener


def listen(listener: Listener) -> None:
    """Report to ``listener`` all that Python does in this process from now on. Not undone."""
    reporting = _Reporting(listener)
    for name in ("open", "write", "pwrite", "fsync", "mkdir", "rename", "unlink", "rmdir"):
        setattr(os, name, getattr(reporting, name))
    os.replace, os.remove = os.rename, os.unlink
    write_bytes = Path.write_bytes

    def writing_bytes(path: Path, data: bytes) -> int:
        is_new = not path.exists()
        n = write_bytes(path, data)
        if is_new:
            listener.create(path)
        listener.truncate(path, 0)
        listener.write(path, 0, bytes(data))
        return n

    Path.write_bytes = writing_bytes  # type: ignore[method-assign,assignment]


class _Reporting:
    """The functions of `os` by their names, which call the real ones and report."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._open, self._fsync = os.open, os.fsync
        self._write, self._pwrite = os.write, os.pwrite
        self._mkdir, self._rename = os.mkdir, os.replace
        self._unlink, self._rmdir = os.unlink, os.rmdir

    def open(self, path: Any, flags: int, *rest: Any, **options: Any) -> int:
        is_new = flags & os.O_CREAT and not os.path.lexists(path)
        descriptor = self._open(path, flags, *rest, **options)
        if is_new:
            self._listener.create(_path(path))
        return descriptor

    def write(self, descriptor: int, data: Any) -> int:
        path = _opened(descriptor)
        offset = os.lseek(descriptor, 0, os.SEEK_CUR) if path.is_file() else 0
        n = self._write(descriptor, data)
        self._listener.write(path, offset, bytes(data[:n]))
        return n

    def pwrite(self, descriptor: int, data: Any, offset: int) -> int:
        n = self._pwrite(descriptor, data, offset)
        self._listener.write(_opened(descriptor), offset, bytes(data[:n]))
        return n

    def fsync(self, descriptor: int) -> None:
        self._fsync(descriptor)
        self._listener.flush(_opened(descriptor))

    def mkdir(self, path: Any, *rest: Any, **options: Any) -> None:
        self._mkdir(path, *rest, **options)
        self._listener.mkdir(_path(path))

    def rename(self, path: Any, target: Any) -> None:
        self._rename(path, target)
        self._listener.rename(_path(path), _path(target))

    def unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._unlink(path, dir_fd=dir_fd)
        self._listener.unlink(_path(path, dir_fd))

    def rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._rmdir(path, dir_fd=dir_fd)
        self._listener.unlink(_path(path, dir_fd))


def _path(path: Any, dir_fd: int | None = None) -> Path:
    relative = Path(os.fsdecode(path))
    return relative if dir_fd is None else _opened(dir_fd) / relative


def _opened(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()
