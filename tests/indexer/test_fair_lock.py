from __future__ import annotations

import threading
import time

import pytest

from layerdex.errors import OptionError
from layerdex.indexer import fair_lock
from layerdex.indexer.fair_lock import FairLock

TIMEOUT_S = 20.0


def in_a_thread(
    lock: FairLock, holders: list[str], name: str, *, background: bool
) -> threading.Thread:
    def run() -> None:
        with lock.hold(background=background):
            holders.append(name)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def wait_for_callers(lock: FairLock, n_waiting: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while len(lock._waiters) < n_waiting:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_background_requests_yield_to_others() -> None:
    lock, holders = FairLock(), list[str]()
    with lock.hold():
        threads = [in_a_thread(lock, holders, "window", background=True)]
        wait_for_callers(lock, 1)
        for number in range(3):
            threads.append(in_a_thread(lock, holders, "question", background=False))
            wait_for_callers(lock, number + 2)
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert holders == ["question"] * 3 + ["window"]


def test_yielding_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_lock, "_MAX_YIELD_S", 0.05)
    lock, is_held = FairLock(), threading.Event()

    def query() -> None:
        while not is_held.is_set():
            with lock.hold():
                time.sleep(0.01)

    threads = [threading.Thread(target=query) for _ in range(3)]
    for thread in threads:
        thread.start()
    with lock.hold(background=True):
        is_held.set()
    for thread in threads:
        thread.join(TIMEOUT_S)
        assert not thread.is_alive()


def test_reentry_is_refused_and_the_lock_stays_held() -> None:
    lock, holders = FairLock(), list[str]()
    with lock.hold():
        with pytest.raises(OptionError, match="on_progress"), lock.hold():
            pass
        other = in_a_thread(lock, holders, "other", background=False)
        wait_for_callers(lock, 1)
        assert holders == []
    other.join(TIMEOUT_S)
    assert holders == ["other"]


def test_an_error_releases_the_lock() -> None:
    lock = FairLock()
    with pytest.raises(ValueError, match="no"), lock.hold():
        raise ValueError("no")
    with lock.hold(background=True):
        pass
