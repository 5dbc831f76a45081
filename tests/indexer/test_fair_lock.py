from __future__ import annotations

import threading
import time

import pytest

from layerdex.errors import OptionError
from layerdex.indexer import fair_lock as turns
from layerdex.indexer.fair_lock import FairLock

PATIENCE_S = 20.0


def in_a_thread(turn: FairLock, taken: list[str], name: str, *, patient: bool) -> threading.Thread:
    def run() -> None:
        with turn.take(patient=patient):
            taken.append(name)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def wait_for_callers(turn: FairLock, n_waiting: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while len(turn._queue) < n_waiting:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_patient_callers_let_others_go_first() -> None:
    turn, taken = FairLock(), list[str]()
    with turn.take():
        threads = [in_a_thread(turn, taken, "window", patient=True)]
        wait_for_callers(turn, 1)
        for number in range(3):
            threads.append(in_a_thread(turn, taken, "question", patient=False))
            wait_for_callers(turn, number + 2)
    for thread in threads:
        thread.join(PATIENCE_S)
    assert taken == ["question"] * 3 + ["window"]


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_PATIENCE_S", 0.05)
    turn, is_taken = FairLock(), threading.Event()

    def query() -> None:
        while not is_taken.is_set():
            with turn.take():
                time.sleep(0.01)

    threads = [threading.Thread(target=query) for _ in range(3)]
    for thread in threads:
        thread.start()
    with turn.take(patient=True):
        is_taken.set()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_coming_back_from_within_is_refused_and_leaves_the_turn_taken() -> None:
    turn, taken = FairLock(), list[str]()
    with turn.take():
        with pytest.raises(OptionError, match="whose progress"), turn.take():
            pass
        other = in_a_thread(turn, taken, "other", patient=False)
        wait_for_callers(turn, 1)
        assert taken == []
    other.join(PATIENCE_S)
    assert taken == ["other"]


def test_an_error_gives_the_turn_back() -> None:
    turn = FairLock()
    with pytest.raises(ValueError, match="no"), turn.take():
        raise ValueError("no")
    with turn.take(patient=True):
        pass
