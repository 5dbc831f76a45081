"""Processes that stop themselves (SIGSTOP) at chosen moments, until the test has looked around."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from layerdex import Index
from layerdex.indexer.pipeline.build import build
from layerdex.indexer.readers.sources import read_all
from layerdex.storage.store import Store
from tests.encoders import WordEncoder
from tests.storage import sqlite_calls
from tests.storage.corpora import rows
from tests.storage.scenes import CONTEXT
from tests.storage.steps import watched

Stop = Callable[[str], None]
"""Stops this process, at a moment that has this name."""


@dataclass
class Stopping:
    """A process, and the moments at which it stops: it stands still while one is looked at."""

    process: Any
    pid: int
    moments: Iterator[str]


@contextmanager
def stopping(work: Callable[[Path, Stop], None], path: Path) -> Iterator[Stopping]:
    """Run ``work`` beside the test; it stops where it calls what it is given. End it at the end."""
    here, there = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_run, args=(work, path, there))
    process.start()
    there.close()
    pid = process.pid
    assert pid is not None
    try:
        yield Stopping(process, pid, _moments(pid, here))
        process.join()
    finally:
        if process.is_alive():
            os.kill(pid, signal.SIGKILL)  # which ends a stopped process, too
        process.join()
        here.close()


def _run(work: Callable[[Path, Stop], None], path: Path, there: Connection) -> None:
    def stop(name: str) -> None:
        there.send(name)
        os.kill(os.getpid(), signal.SIGSTOP)

    work(path, stop)


def _moments(pid: int, here: Connection) -> Iterator[str]:
    while True:
        try:
            name = here.recv()
        except EOFError:
            return
        wait_until_stopped(pid)
        yield name
        os.kill(pid, signal.SIGCONT)


def wait_until_stopped(pid: int) -> None:
    """Return when a process stands still."""
    stat = Path(f"/proc/{pid}/stat")
    while stat.read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.001)


STATES = [
    [f"d{i}" for i in range(9)],
    [f"d{i}" for i in range(12)],
    [f"d{i}" for i in range(12) if i != 9],
    [f"d{i}" for i in range(12) if i not in (9, 10)],
]
"""The ids that are committed before, between and after the changes of `changes`."""


def changes(path: Path) -> dict[str, Callable[[], object]]:
    """Return changes of an index of nine rows: the same documents are there after compacting."""
    index = Index.open(path, encoder=WordEncoder())
    return {
        # Not `Index.add`, which imports torch to compare fingerprints.
        "add": lambda: build(index._open.store, read_all([rows(3, start=9)]), WordEncoder),
        "delete": lambda: index.delete("d9"),
        "compact": index.compact,
        "purge": lambda: index.delete("d10", purge=True),
    }


def write_by_steps(path: Path, stop: Stop) -> None:
    """Stop with the writer's lock: once before each kind of step that a change consists of."""
    for name, change in changes(path).items():
        stop_once = _once(stop)

        def step(kind: str, name: str = name, stop_once: Stop = stop_once) -> None:
            if _is_writing(path):
                stop_once(f"{name}: {kind}")

        with watched(step):
            change()


def _is_writing(path: Path) -> bool:
    with (path / "writer.lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def write_with_locks(path: Path, stop: Stop) -> None:
    """Stop in each way in which SQLite changes something while it has an exclusive lock."""
    sqlite_calls.watch_locked(_once(stop))
    for change in changes(path).values():
        change()


def read_with_locks(path: Path, stop: Stop) -> None:
    """Read, and stop as `write_with_locks` does."""
    sqlite_calls.watch_locked(_once(stop))
    Store(path).query(lambda snapshot: snapshot.rows())


def hold(path: Path, stop: Stop, *, name: str, start: int, n_bytes: int) -> None:
    """Stop with an exclusive lock of one's own on bytes of a file of SQLite."""
    with (path / "catalog.sqlite3").open("r+b") as catalog, (path / name).open("a+b") as file:
        if name != "catalog.sqlite3":  # who uses the shared memory shares the catalog
            fcntl.lockf(catalog, fcntl.LOCK_SH, 510, 0x40000002)
        fcntl.lockf(file, fcntl.LOCK_EX, n_bytes, start)
        stop("held")


def _once(stop: Stop) -> Stop:
    """Return a function that stops once for each name."""
    names = set[str]()

    def stop_once(name: str) -> None:
        if name not in names:
            names.add(name)
            stop(name)

    return stop_once
