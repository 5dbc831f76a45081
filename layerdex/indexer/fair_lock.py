"""A lock for a model that several threads share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic

from layerdex.errors import ModelError, OptionError
from layerdex.forks import renew_after_fork

_MAX_YIELD_S = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    is_background: bool
    since: float = field(default_factory=monotonic)


class FairLock:
    """A lock that is granted in the order of requests, and that refuses to be reentered.

    Background requests yield to others, so that a query does not wait behind a prefetched window;
    after two seconds they no longer do, as queries may never stop coming.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._owner: int | None = None
        self._waiters: list[_Waiter] = []
        self._was_held_at_fork = False
        renew_after_fork(self, FairLock._renew)

    def _renew(self) -> None:
        # The locks within the model's libraries stay as the parent's threads held them.
        self._was_held_at_fork |= self._owner is not None
        self._changed = threading.Condition()
        self._owner = None
        self._waiters = []

    @contextmanager
    def hold(self, *, background: bool = False) -> Iterator[None]:
        """Hold the lock in the context.

        Raises `OptionError` if this thread holds it already, and `ModelError` in a process that was
        forked while it was held.
        """
        if self._was_held_at_fork:
            raise ModelError(
                "the model was in use when this process was forked, so it cannot run here: fork "
                "while nothing is encoded, or start processes with 'spawn'"
            )
        thread = threading.get_ident()
        if self._owner == thread:
            raise OptionError("on_progress must not call the encoder that reports to it")
        try:
            self._wait(_Waiter(background), thread)
            yield
        finally:
            with self._changed:
                if self._owner == thread:
                    self._owner = None
                self._changed.notify_all()

    def _wait(self, waiter: _Waiter, thread: int) -> None:
        with self._changed:
            self._waiters.append(waiter)
            try:
                self._changed.wait_for(lambda: self._owner is None and self._next() is waiter)
                self._owner = thread
            finally:
                self._waiters.remove(waiter)

    def _next(self) -> _Waiter:
        """Return the oldest overdue background waiter, else foreground waiter, else any."""
        limit = monotonic() - _MAX_YIELD_S
        background = [waiter for waiter in self._waiters if waiter.is_background]
        overdue = [waiter for waiter in background if waiter.since < limit]
        foreground = [waiter for waiter in self._waiters if not waiter.is_background]
        return (overdue or foreground or self._waiters)[0]
