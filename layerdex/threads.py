"""A thread pool that a second Ctrl-C cannot break, and linear algebra in one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from math import ceil
from threading import Event, Lock
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_S = TypeVar("_S")
_T = TypeVar("_T")

_JOBS_PER_THREAD = 4
_limit_is_held = Lock()


class Threads(ThreadPoolExecutor):
    """A `ThreadPoolExecutor` that waits for its work on exit, and then for its threads.

    The base class only joins the threads. If that is interrupted, CPython 3.11 believes that a
    running thread has ended (`Thread.join` acquires the thread's own lock), never waits for it
    again, and aborts when the interpreter exits while C++ code runs in that thread.

    Work that takes long looks at ``is_ending`` from time to time, so that Ctrl-C need not wait.
    """

    def __init__(self, n_threads: int, name: str) -> None:
        super().__init__(n_threads, name)
        self.is_ending = Event()
        self._at_work: list[Future[Any]] = []

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Call a function in a thread."""
        future = super().submit(fn, *args, **kwargs)
        # Finished futures are dropped, with their results.
        self._at_work = [running for running in self._at_work if not running.done()] + [future]
        return future

    def __exit__(self, *_: object) -> None:
        """Cancel what has not started and wait for the rest."""
        self.is_ending.set()
        self.shutdown(wait=False, cancel_futures=True)
        # A cancelled future wakes nobody.
        wait([running for running in self._at_work if not running.cancelled()])
        self.shutdown()


def map_in_threads(
    function: Callable[[_S], _T], items: Sequence[_S], *, n_threads: int
) -> list[_T]:
    """Return the results for all items in their order, computed by at most ``n_threads``."""
    if n_threads == 1 or len(items) < 2:
        return [function(item) for item in items]
    # A few jobs for each thread: one for each item would take longer to hand out than some items.
    size = ceil(len(items) / (_JOBS_PER_THREAD * n_threads))
    jobs = [items[start : start + size] for start in range(0, len(items), size)]

    with Threads(min(n_threads, len(jobs)), "layerdex-map") as threads:

        def run(job: Sequence[_S]) -> list[_T]:
            return [function(item) for item in job if not threads.is_ending.is_set()]

        running = [threads.submit(run, job) for job in jobs]
        return [result for future in running for result in future.result()]


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Run what is inside with BLAS in one thread: for many small products, one after another.

    OpenBLAS splits each product, and its threads spin until the last is done. Where another process
    has one of the cores, every product waits for the scheduler. Logistic regressions on 2,000
    vectors of width 384 and 77 labels took 3.0 s with 2 threads on 2 free cores and 10.2 s on 2
    busy ones, and with one thread 1.3 s and 2.1 s. Large products and FAISS, measured in the same
    way, take as long on busy cores with either, and on free ones less with more threads.

    The limit is that of the process, and each use of threadpoolctl restores what it found, which
    would be another one's limit. So the first one in alone sets and restores it; whoever comes
    while it lasts computes under it, and after it with as many threads as before.
    """
    from threadpoolctl import threadpool_limits

    if not _limit_is_held.acquire(blocking=False):
        yield
        return
    try:
        with threadpool_limits(limits=1, user_api="blas"):
            yield
    finally:
        _limit_is_held.release()
