"""One writer at a time, beside any number of readers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from layerdex import Index, LabelTask
from layerdex.errors import LockedIndexError
from layerdex.storage import directory
from layerdex.storage.store import Store
from tests.encoders import WordEncoder
from tests.results import first
from tests.storage.corpora import ids_of, reopen, rows

_HOLD = """
import sys, filelock
with filelock.FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def _held_elsewhere(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Let another process hold the lock, until its standard input is closed."""
    lock = str(folder / "writer.lock")
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        process.stdin.close()


def test_second_writer_gives_up_after_its_time_and_changes_nothing(index: Index) -> None:
    index.add(rows(3))
    evaluation = index.evaluate(LabelTask(k=1))
    with _held_elsewhere(index._open.store.path) as owner:
        start = time.monotonic()
        pid = f": process {owner.pid}" if Path("/proc/locks").exists() else ""
        with pytest.raises(LockedIndexError, match=rf"another process.*{pid} \(waited 0.3 s"):
            index.add(rows(1, start=3), lock_timeout_s=0.3)
        assert time.monotonic() - start > 0.25
        for write in (index.compact, lambda **o: index.delete("d0", **o)):
            with pytest.raises(LockedIndexError):
                write(lock_timeout_s=0)
        with pytest.raises(LockedIndexError):
            index.save_best(evaluation, lock_timeout_s=0)
        with pytest.raises(LockedIndexError):
            index.repair([], lock_timeout_s=0)
        assert ids_of(reopen(index)) == ["d0", "d1", "d2"]
        assert first(index.search("text number1 of 1", k=1))[0].id == "d1"
    assert index.add(rows(1, start=3)).n_new == 1


def test_of_locks_with_one_inode_that_on_its_device_names_the_owner(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = index.path / "writer.lock"
    status = lock.stat()
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    line = "{}: FLOCK  ADVISORY  WRITE {} {}:{} 0 EOF\n".format
    elsewhere, here = (line(1, 11, "77:77", status.st_ino), line(2, 22, device, status.st_ino))
    for locks, expected in (
        (elsewhere + here, 22),
        (elsewhere, 11),
        (line(1, 11, device, 1), None),
    ):
        monkeypatch.setattr(Path, "read_text", lambda *_, locks=locks, **__: locks)
        assert directory._owner(lock) == expected


_FORKING_WRITER = """
import os, sys, time
from layerdex import Index
from tests.encoders import WordEncoder

def on_progress(done, total):
    child = os.fork()
    if child:
        print(child, flush=True)
    time.sleep(600)

index = Index.open(sys.argv[1], encoder=WordEncoder())
index.add([{"id": "one", "text": "one text"}], on_progress=on_progress)
"""


def test_a_child_of_a_killed_writer_does_not_keep_the_lock(index: Index) -> None:
    command = [sys.executable, "-c", _FORKING_WRITER, str(index.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        child = int(writer.stdout.readline())
        with pytest.raises(LockedIndexError):
            index.add(rows(1), lock_timeout_s=0)
        writer.kill()
        writer.wait()
        try:
            os.kill(child, 0)  # it is alive
            assert index.add(rows(1), lock_timeout_s=0).n_new == 1
        finally:
            os.kill(child, signal.SIGKILL)
    assert index.verify() == []


def test_second_writer_waits_for_the_first(index: Index) -> None:
    with _held_elsewhere(index._open.store.path) as owner:
        assert owner.stdin is not None
        timer = threading.Timer(0.4, owner.stdin.close)
        timer.start()
        start = time.monotonic()
        assert index.add(rows(3), lock_timeout_s=30).n_new == 3
        assert time.monotonic() - start > 0.3
        timer.join()


def test_two_writers_in_one_process_take_turns(index: Index) -> None:
    def add(start: int) -> None:
        reopen(index).add(rows(24, start=start), lock_timeout_s=60)

    threads = [threading.Thread(target=add, args=(start,)) for start in (0, 24, 48)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ids_of(index)) == sorted(f"d{i}" for i in range(72))
    assert index.verify() == []


def test_creating_where_another_creates_is_refused(tmp_path: Path, encoder: WordEncoder) -> None:
    with _held_elsewhere(tmp_path), pytest.raises(LockedIndexError):
        Store.create(tmp_path, encoder.settings, (0,), lock_timeout_s=0.2)
    assert len(Index.create(tmp_path, model=encoder)) == 0


def test_writer_within_a_writer_is_refused_and_not_a_deadlock(index: Index) -> None:
    index.add(rows(3))

    def nested(*_: object) -> None:
        with pytest.raises(LockedIndexError):
            index.delete("d0", lock_timeout_s=0)

    index.add(rows(1, start=3), on_progress=nested)
    assert ids_of(index) == ["d0", "d1", "d2", "d3"]
