"""What has been computed from commits, such as the rows of a filter, within a number of bytes."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from layerdex.forks import ForkLock

T = TypeVar("T")

MOST_BYTES = 128_000_000
"""The rows of some 30 filters that keep half a million documents each."""


class DerivedCache:
    """Values by commit and key, shared by threads; those used least recently go first.

    What is computed twice at the same time by two threads is kept once. A value must not change.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._values: dict[tuple[Hashable, Hashable], tuple[Any, int]] = {}
        self._n_bytes = 0
        self._lock = ForkLock()

    def get(
        self, commit: Hashable, key: Hashable, compute: Callable[[], T], size: Callable[[T], int]
    ) -> T:
        """Return the value of a commit's key, computed unless it is kept; ``size`` is in bytes.

        A value that takes more than half of all bytes is not kept.
        """
        name = (commit, key)
        with self._lock:
            kept = self._values.pop(name, None)
            if kept is not None:
                self._values[name] = kept  # now the one used last
                value: T = kept[0]
                return value
        value = compute()  # outside the lock: it takes long
        n_bytes = size(value)
        if n_bytes > self._most_bytes / 2:
            return value
        with self._lock:
            self._drop(name)
            self._values[name] = (value, n_bytes)
            self._n_bytes += n_bytes
            while self._n_bytes > self._most_bytes:
                self._drop(next(iter(self._values)))
        return value

    def keep_only(self, commit: Hashable) -> None:
        """Drop the values of all other commits."""
        with self._lock:
            for name in [name for name in self._values if name[0] != commit]:
                self._drop(name)

    def _drop(self, name: tuple[Hashable, Hashable]) -> None:
        _, n_bytes = self._values.pop(name, (None, 0))
        self._n_bytes -= n_bytes
