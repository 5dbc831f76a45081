"""Writers and readers in processes of their own; every committed state can be told from others.

One commit gives all documents of one writer the same next number, as their text and label. So a
state that was never committed shows: numbers of one writer that differ, or vectors of another text.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from functools import partial
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np

from layerdex.indexer.pipeline.build import build
from layerdex.indexer.readers.sources import read_all
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.store import Store
from tests.encoders import ConcurrentWordEncoder, WordEncoder
from tests.storage.corpora import Row

N_DOCUMENTS = 8
"""Of each writer: one window, and so one commit."""


def rows_of(writer: int, number: int) -> list[Row]:
    """Return a writer's documents at its commit of this number."""
    return [
        {"id": f"w{writer}-{i}", "text": text_of(writer, number, i), "label": str(number)}
        for i in range(N_DOCUMENTS)
    ]


def text_of(writer: int, number: int, i: int) -> str:
    return f"writer{writer} number{number} document{i}"


def write(path: Path, writer: int, n_commits: int, told: Queue[Any]) -> None:
    """Commit n times, and compact after every third; tell ("wrote", writer) or what went wrong."""
    _tell_errors(partial(_write, path, writer, n_commits, told), told)


def _write(path: Path, writer: int, n_commits: int, told: Queue[Any]) -> None:
    from layerdex.storage.maintenance.compaction import compact

    store = Store(path)
    for number in range(1, n_commits + 1):
        build(store, read_all([rows_of(writer, number)]), ConcurrentWordEncoder, lock_timeout_s=120)
        if number % 3 == 0:
            with store.write(lock_timeout_s=120) as alone:
                compact(store, alone)
    told.put(("wrote", writer))


def read(path: Path, done: Event, told: Queue[Any]) -> None:
    """Read until ``done`` is set; tell ("read", how often, longest wait in s) or the error.

    A wait is for a lock or the disk; waiting for a core is left out where the system counts it.
    """
    _tell_errors(partial(_read, path, done, told), told)


def _read(path: Path, done: Event, told: Queue[Any]) -> None:
    store, longest_s, n_read = Store(path), 0.0, 0
    newest: dict[str, int] = {}
    while not done.is_set() or n_read < 2:
        start = _asleep_s()
        if n_read % 3 == 0:  # as a new process does, which looks at the seal and all sizes
            store = Store(path)
            store.check_whole()
        seen = store.query(check_snapshot)
        if n_read > 0:  # the first one waits for imports
            longest_s = max(longest_s, _asleep_s() - start)
        for writer, number in seen.items():
            assert number >= newest.get(writer, 0), "an older state after a newer one"
        newest.update(seen)
        n_read += 1
        time.sleep(0.05)  # more readers than cores: writers must get on as well
    told.put(("read", n_read, longest_s))


def _asleep_s() -> float:
    """Return a clock that stands while this thread runs, or could if a core were free."""
    try:
        ran, queued, _ = Path("/proc/thread-self/schedstat").read_text(encoding="ascii").split()
    except OSError:
        return time.monotonic()
    return time.monotonic() - (int(ran) + int(queued)) / 1e9


def check_snapshot(snapshot: Snapshot) -> dict[str, int]:
    """Check that this is one committed state, and return each writer's number in it."""
    record = snapshot.document_table()
    documents = snapshot.documents(record.rows.tolist())
    numbers: dict[str, set[int]] = {}
    for document in documents.values():
        writer = document.id[1 : document.id.index("-")]
        numbers.setdefault(writer, set()).add(int(document.label or 0))
    assert all(len(found) == 1 for found in numbers.values()), f"a partial state: {numbers}"
    assert len(documents) == N_DOCUMENTS * len(numbers)
    newest = {writer: found.pop() for writer, found in numbers.items()}
    texts = [documents[row].text for row in record.rows.tolist()]
    assert sorted(texts) == sorted(
        text_of(int(writer), number, i)
        for writer, number in newest.items()
        for i in range(N_DOCUMENTS)
    )
    if texts:
        expected = WordEncoder().encode(texts, (1,)).vectors[0]
        np.testing.assert_allclose(snapshot.layer(1).gather(record.rows), expected, atol=2e-3)
    return newest


def _tell_errors(work: Callable[[], None], told: Queue[Any]) -> None:
    try:
        work()
    except BaseException:
        told.put(("failed", traceback.format_exc()))
        raise
