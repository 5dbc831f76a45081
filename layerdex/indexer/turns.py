"""One caller at a time at what several share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from layerdex.errors import OptionError


class Turns:
    """A lock that others wait for, and that refuses a caller who comes back from within."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._is_taken = False

    @contextmanager
    def take(self) -> Iterator[None]:
        """Wait for the turn; raises `OptionError` where this thread has it already."""
        with self._lock:
            if self._is_taken:  # the lock lets its own thread in again
                raise OptionError("on_progress called the encoder whose progress it is told")
            self._is_taken = True
            try:
                yield
            finally:
                self._is_taken = False
