"""A pool of threads whose end a second Ctrl-C cannot break."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Threads(ThreadPoolExecutor):
    """A `ThreadPoolExecutor` that waits for its work at the end, and then for its threads.

    The base class only joins the threads. Interrupted there, CPython 3.11 takes a thread for ended
    that is still at work (the lock that `Thread.join` asks for is the thread's own), never waits
    for it again, and aborts when it ends beneath C++ code of that thread.
    """

    def __init__(self, n_threads: int, name: str) -> None:
        super().__init__(n_threads, name)
        self._at_work: list[Future[Any]] = []

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Have a thread call a function."""
        future = super().submit(fn, *args, **kwargs)
        # What is done is let go, with its result.
        self._at_work = [one for one in self._at_work if not one.done()] + [future]
        return future

    def __exit__(self, *_: object) -> None:
        """Drop what has not begun, and wait for the rest; interrupted, leave it to Python's end."""
        self.shutdown(wait=False, cancel_futures=True)
        wait([one for one in self._at_work if not one.cancelled()])  # nothing wakes for those
        self.shutdown()
