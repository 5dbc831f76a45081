"""Descriptors of catalogs, which stay open.

Closing any descriptor of a file releases all locks that this process has on it, those of SQLite's
readers included (https://www.sqlite.org/howtocorrupt.html, 2.2). Another process could then change
the catalog under them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from layerdex.forks import ForkLock

# By device, inode and mode.
_opened: dict[tuple[int, int, int], int] = {}
_lock = ForkLock()


@contextmanager
def opened(catalog: Path, mode: int = os.O_RDONLY) -> Iterator[int]:
    """Yield a descriptor of the file that is at a path now. Raises OSError."""
    with _lock:
        while (key := (*identity(catalog.stat()), mode)) not in _opened:
            for old, descriptor in list(_opened.items()):
                if os.fstat(descriptor).st_nlink == 0:  # the catalog was removed
                    os.close(_opened.pop(old))
            descriptor = os.open(catalog, mode | os.O_NOFOLLOW | os.O_NONBLOCK)
            _opened.setdefault((*identity(os.fstat(descriptor)), mode), descriptor)
        yield _opened[key]


def identity(status: os.stat_result) -> tuple[int, int]:
    """Return what distinguishes a file from all others that exist: device and inode."""
    return status.st_dev, status.st_ino
