"""Descriptors of catalogs, which stay open.

Closing any descriptor of a file releases all locks that this process has on it, those of SQLite's
readers included (https://www.sqlite.org/howtocorrupt.html, 2.2). Another process could then change
the catalog under them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from layerdex.forks import ForkLock


@dataclass(eq=False, slots=True)
class _Descriptor:
    number: int
    mode: int
    file: tuple[int, int]
    n_users: int = 0


_opened: list[_Descriptor] = []
_lock = ForkLock()


@contextmanager
def opened(catalog: Path, mode: int = os.O_RDONLY) -> Iterator[int]:
    """Yield a descriptor of the file that is at a path now. Raises OSError."""
    with _lock:
        found = _find_or_open(catalog, mode)
        found.n_users += 1
    try:
        yield found.number
    finally:
        with _lock:
            found.n_users -= 1


def _find_or_open(catalog: Path, mode: int) -> _Descriptor:
    while True:
        file = identity(catalog.stat())
        for old in _opened:
            if old.file == file and mode in (old.mode, os.O_RDONLY):
                return old
        _close_removed()
        number = os.open(catalog, mode | os.O_NOFOLLOW | os.O_NONBLOCK)
        # Kept whichever file that is by now, as closing it is what must not happen.
        _opened.append(_Descriptor(number, mode, identity(os.fstat(number))))


def _close_removed() -> None:
    for old in list(_opened):
        if old.n_users == 0 and os.fstat(old.number).st_nlink == 0:
            _opened.remove(old)
            os.close(old.number)


def identity(status: os.stat_result) -> tuple[int, int]:
    """Return what distinguishes a file from all others that exist: device and inode."""
    return status.st_dev, status.st_ino
