"""A thread pool that a second Ctrl-C cannot break."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Threads(ThreadPoolExecutor):
    """A `ThreadPoolExecutor` that waits for its work on exit, and then for its threads.

    The base class only joins the threads. If that is interrupted, CPython 3.11 believes that a
    running thread has ended (`Thread.join` acquires the thread's own lock), never waits for it
    again, and aborts when the interpreter exits while C++ code runs in that thread.
    """

    def __init__(self, n_threads: int, name: str) -> None:
        super().__init__(n_threads, name)
        self._at_work: list[Future[Any]] = []

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Call a function in a thread."""
        future = super().submit(fn, *args, **kwargs)
        # Finished futures are dropped, with their results.
        self._at_work = [running for running in self._at_work if not running.done()] + [future]
        return future

    def __exit__(self, *_: object) -> None:
        """Cancel what has not started and wait for the rest."""
        self.shutdown(wait=False, cancel_futures=True)
        # A cancelled future wakes nobody.
        wait([running for running in self._at_work if not running.cancelled()])
        self.shutdown()
