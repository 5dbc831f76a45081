"""Writers and readers in processes of their own, with data that shows uncommitted states.

One commit gives all documents of a writer the same next number, as their text and label. In a state
that was never committed, numbers of one writer differ, or vectors are of another text.
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
"""Per writer: one window, and so one commit."""


def rows_of(writer: int, number: int) -> list[Row]:
    """Return a writer's documents at its commit of this number."""
    return [
        {"id": f"w{writer}-{i}", "text": text_of(writer, number, i), "label": str(number)}
        for i in range(N_DOCUMENTS)
    ]


def text_of(writer: int, number: int, i: int) -> str:
    return f"writer{writer} number{number} document{i}"


def write(path: Path, writer: int, n_commits: int, reports: Queue[Any]) -> None:
    """Commit n times, and compact after every third; report ("wrote", writer) or the error."""
    _report_errors(partial(_write, path, writer, n_commits, reports), reports)


def _write(path: Path, writer: int, n_commits: int, reports: Queue[Any]) -> None:
    from layerdex.storage.maintenance.compaction import compact

    store = Store(path)
    for number in range(1, n_commits + 1):
        build(store, read_all([rows_of(writer, number)]), ConcurrentWordEncoder, lock_timeout_s=120)
        if number % 3 == 0:
            with store.write(lock_timeout_s=120) as alone:
                compact(store, alone)
    reports.put(("wrote", writer))


def read(path: Path, done: Event, reports: Queue[Any]) -> None:
    """Read until ``done`` is set; report ("read", number of reads, longest wait in s) or the error.

    A wait is for a lock or the disk; waiting for a core is left out where the system counts it.
    """
    _report_errors(partial(_read, path, done, reports), reports)


def _read(path: Path, done: Event, reports: Queue[Any]) -> None:
    store, longest_s, n_read = Store(path), 0.0, 0
    newest: dict[str, int] = {}
    while not done.is_set() or n_read < 2:
        start = _asleep_s()
        if n_read % 3 == 0:  # as a new process does, which checks the seal and all sizes
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
    reports.put(("read", n_read, longest_s))


def _asleep_s() -> float:
    """Return a clock that stops while this thread runs, or is ready to run."""
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
    assert all(len(values) == 1 for values in numbers.values()), f"a partial state: {numbers}"
    assert len(documents) == N_DOCUMENTS * len(numbers)
    newest = {writer: number for writer, (number,) in numbers.items()}
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


def _report_errors(work: Callable[[], None], reports: Queue[Any]) -> None:
    try:
        work()
    except BaseException:
        reports.put(("failed", traceback.format_exc()))
        raise
