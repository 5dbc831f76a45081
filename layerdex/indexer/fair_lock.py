"""One caller at a time at what several share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic

from layerdex.errors import OptionError

_PATIENCE_S = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    is_patient: bool
    since: float = field(default_factory=monotonic)


class FairLock:
    """A lock that is given in the order of asking, and that refuses who comes back from within.

    Patient callers let others go first, so that a question does not wait for a window that is
    encoded ahead; for two seconds, as questions may never end.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._owner: int | None = None
        self._queue: list[_Waiting] = []

    @contextmanager
    def take(self, *, patient: bool = False) -> Iterator[None]:
        """Wait for the turn; raises `OptionError` where this thread has it already."""
        here = threading.get_ident()
        if self._owner == here:
            raise OptionError("on_progress called the encoder whose progress it is told")
        try:
            self._wait(_Waiting(patient), here)
            yield
        finally:
            with self._changed:
                if self._owner == here:
                    self._owner = None
                self._changed.notify_all()

    def _wait(self, one: _Waiting, here: int) -> None:
        with self._changed:
            self._queue.append(one)
            try:
                self._changed.wait_for(lambda: self._owner is None and self._next() is one)
                self._owner = here
            finally:
                self._queue.remove(one)

    def _next(self) -> _Waiting:
        """Return who has waited longest: of those out of patience, of the impatient, or of all."""
        end = monotonic() - _PATIENCE_S
        overdue = [one for one in self._queue if one.is_patient and one.since < end]
        impatient = [one for one in self._queue if not one.is_patient]
        return (overdue or impatient or self._queue)[0]
