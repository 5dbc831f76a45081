from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info, threadpool_limits

from layerdex.search.evaluation.geometry import effective_rank
from layerdex.search.labels.head import _fit
from layerdex.threads import Threads, map_in_threads, single_threaded_blas

INTERRUPTED = """
import sys, time
from layerdex.search.evaluation.geometry import effective_rank
from layerdex.search.labels.head import _fit
from layerdex.threads import Threads

def work():
    print("working", flush=True)
    time.sleep(1.5)
    print("done", flush=True)

try:
    with Threads(1, "test") as threads:
        threads.submit(work)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_an_interrupted_end_still_waits_for_what_is_at_work() -> None:
    # An interrupted `Thread.join` would have Python end beneath the thread, before it is done.
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        time.sleep(0.2)
        os.kill(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=20)
    assert output.splitlines() == ["interrupted", "done"]
    assert process.returncode == 0


def test_the_end_waits_for_what_has_begun_and_drops_the_rest() -> None:
    done: list[int] = []
    is_begun = threading.Event()

    def work(number: int) -> None:
        is_begun.set()
        time.sleep(0.1)
        done.append(number)

    with Threads(1, "test") as threads:
        for number in range(5):
            threads.submit(work, number)
        is_begun.wait(20)

    assert done == [0]
    assert not [one for one in threading.enumerate() if one.name.startswith("test")]


def test_results_that_are_fetched_are_not_kept() -> None:
    with Threads(2, "test") as threads:
        for number in range(100):
            assert threads.submit(int, number).result() == number
        assert len(threads._at_work) <= 1


def blas_threads() -> set[int]:
    """Return the numbers of threads of the libraries of linear algebra that are loaded."""
    assert np.__version__  # which loads one of them
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


@pytest.fixture
def two_threads() -> Iterator[None]:
    with threadpool_limits(limits=2, user_api="blas"):
        if blas_threads() != {2}:
            pytest.skip("the libraries of linear algebra have one thread here")
        yield


def test_linear_algebra_has_one_thread_inside_and_as_many_as_before_outside(
    two_threads: None,
) -> None:
    with single_threaded_blas(), single_threaded_blas():
        assert blas_threads() == {1}
    assert blas_threads() == {2}


OVERLAPPING = """
import threading
import numpy, scipy.linalg
from threadpoolctl import threadpool_info
from layerdex.search.evaluation.geometry import effective_rank
from layerdex.search.labels.head import _fit
from layerdex.threads import single_threaded_blas

def blas():
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}

print(blas())
entered, may_leave = threading.Event(), threading.Event()

def work():
    with single_threaded_blas():
        entered.set()
        may_leave.wait(20)

thread = threading.Thread(target=work)
with single_threaded_blas():
    thread.start()
    entered.wait(20)
print(blas())
may_leave.set()
thread.join()
print(blas())
"""


def test_uses_that_overlap_in_threads_leave_the_process_as_it_was() -> None:
    # In a process of its own: threadpoolctl heeds but one thread at a time, here pytest's.
    outcome = subprocess.run(
        [sys.executable, "-c", OVERLAPPING],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "2"},
    )
    before, between, after = outcome.stdout.splitlines()
    if before != "{2}":
        pytest.skip("the libraries of linear algebra have one thread here")
    assert (between, after) == ("{2}", "{2}")


def test_eigenvalues_and_heads_are_computed_in_one_thread(
    two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[int]] = []

    def watched(compute: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            seen.append(blas_threads())
            return compute(*args, **kwargs)

        return wrapper

    monkeypatch.setattr(np.linalg, "eigvalsh", watched(np.linalg.eigvalsh))
    monkeypatch.setattr(LogisticRegression, "fit", watched(LogisticRegression.fit))
    vectors = np.eye(6, 3, dtype=np.float32) + np.float32(0.1)
    effective_rank(vectors)
    assert seen == [{1}]
    _fit(1.0, vectors, np.array([0, 1, 0, 1, 0, 1]))
    assert seen == [{1}, {1}]


@pytest.mark.parametrize("n_threads", [1, 2, 5])
@pytest.mark.parametrize("n", [0, 1, 2, 23])
def test_results_come_in_the_order_of_the_items(n: int, n_threads: int) -> None:
    assert map_in_threads(lambda item: item**2, range(n), n_threads=n_threads) == [
        item**2 for item in range(n)
    ]


def test_the_first_error_of_a_thread_is_raised() -> None:
    def fail(item: int) -> int:
        raise ValueError(f"at {item}")

    with pytest.raises(ValueError, match="at 0"):
        map_in_threads(fail, range(9), n_threads=3)
