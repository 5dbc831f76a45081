"""Processes that stand still, clocks that jump, flushes that take long, files that may not grow."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from layerdex import Index
from layerdex.errors import LockedIndexError, StorageError
from tests.encoders import WordEncoder
from tests.results import first
from tests.storage.corpora import ids_of, reopen, rows
from tests.storage.scenes import CONTEXT
from tests.storage.stopping import STATES, stopping, wait_until_stopped, write_by_steps

ROOT = Path(__file__).parents[2]

WRITER = """
import itertools, sys
from layerdex import Index
from tests.encoders import WordEncoder

index = Index.open(sys.argv[1], encoder=WordEncoder())
for n in itertools.count():
    index.add([{"id": f"w{n}-{i}", "text": f"word {n} {i}"} for i in range(3)])
    index.delete(f"w{n}-0")
    if n % 4 == 3:
        index.compact()
    print(n, flush=True)
"""

# One question in one transaction, which stands still in between.
READER = """
import sys
from layerdex import Index
from tests.encoders import WordEncoder

index = Index.open(sys.argv[1], encoder=WordEncoder())
with index._open.store.read() as snapshot:
    print("in a transaction", flush=True)
    sys.stdin.readline()
    documents = snapshot.documents(snapshot.row_of(f"d{i}") for i in range(9))
    print(sorted(document.text for document in documents.values()))
print(len(index), flush=True)
"""


@contextmanager
def running(script: str, *words: object) -> Iterator[subprocess.Popen[str]]:
    """Run a script beside the test, and end it."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-c", script, *map(str, words)]
    with subprocess.Popen(command, text=True, cwd=ROOT, **pipes) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGSTOP)
    wait_until_stopped(process.pid)


def test_a_stopped_writer_is_named_readers_go_on_and_it_loses_nothing(index: Index) -> None:
    index.add(rows(9))
    moments: set[str] = set()
    seen: list[list[str]] = []
    with stopping(write_by_steps, index.path) as writer:
        refusal = rf"another process is writing to .*: process {writer.pid} \(waited 0 s\)"
        for moment in writer.moments:
            with pytest.raises(LockedIndexError, match=refusal):
                index.delete("d1", lock_timeout_s=0)
            reader = reopen(index)
            assert first(reader.search("text number7 of 2", k=1))[0].id == "d7"
            moments.add(moment)
            seen += [ids] if (ids := ids_of(reader)) not in seen else []
    assert writer.process.exitcode == 0
    # Before the segment's files, among them, and before, in and after the transaction.
    assert moments >= {
        *("add: COMMIT", "add: write", "add: rename", "add: INSERT document", "add: replace"),
        *("delete: UPDATE document", "delete: replace", "compact: DELETE segment"),
        *("compact: rmtree", "purge: rename", "purge: unlink", "purge: replace"),
    }
    assert seen == STATES
    assert ids_of(reopen(index)) == STATES[-1]
    assert reopen(index).verify() == []
    assert LockedIndexError.exit_code == 75


def test_a_reader_that_stands_still_during_a_compaction_sees_its_own_commit(index: Index) -> None:
    index.add(rows(9))
    with running(READER, index.path) as reader:
        assert line_of(reader) == "in a transaction"
        stop(reader)
        index.delete("d1", "d2")
        index.compact()
        index.add(rows(3, start=20))
        reader.send_signal(signal.SIGCONT)
        assert reader.stdin is not None
        print(file=reader.stdin, flush=True)
        assert line_of(reader) == str(sorted(str(row["text"]) for row in rows(9)))
        assert line_of(reader) == "10"
    index.add(rows(1, start=30))
    assert index.verify() == []


def test_all_processes_that_sleep_and_wake_together_go_on(index: Index) -> None:
    index.add(rows(9))
    with running(WRITER, index.path) as writer, running(READER, index.path) as reader:
        assert line_of(reader) == "in a transaction"
        line_of(writer)
        for process in (writer, reader):
            stop(process)
        time.sleep(1.5)
        for process in (reader, writer):
            process.send_signal(signal.SIGCONT)
        n = int(line_of(writer))
        assert int(line_of(writer)) == n + 1
        assert reader.stdin is not None
        print(file=reader.stdin, flush=True)
        assert line_of(reader) == str(sorted(str(row["text"]) for row in rows(9)))
    assert reopen(index).verify() == []


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_a_clock_that_jumps_changes_no_wait_and_no_answer(
    index: Index, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    index.add(rows(9))
    real = time.time
    n_calls = 0

    def jumping() -> float:
        nonlocal n_calls
        n_calls += 1
        return real() + jump * n_calls

    monkeypatch.setattr(time, "time", jumping)
    monkeypatch.setattr(time, "time_ns", lambda: int(jumping() * 1e9))
    with index._open.store.write():
        start = time.monotonic()
        with pytest.raises(LockedIndexError):
            reopen(index).delete("d1", lock_timeout_s=0.3)
        assert 0.25 < time.monotonic() - start < 10
    for at in (0, 2**31 + 5, real() + jump):  # 1970, beyond 32 bits, and a day off
        for file in [index.path, *index.path.rglob("*")]:
            os.utime(file, (at, at))
        assert first(reopen(index).search("text number7 of 2", k=1))[0].id == "d7"
        assert first(index.search("text number7 of 2", k=1))[0].id == "d7"
        assert index.add(rows(9)).n_unchanged == 9
    index.compact()
    assert reopen(index).verify() == []


def test_readers_do_not_wait_for_a_slow_flush(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add(rows(9))
    sync, flushing, go_on = os.fsync, threading.Event(), threading.Event()

    def slow(descriptor: int) -> None:
        flushing.set()
        go_on.wait(60)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    writer = threading.Thread(target=lambda: reopen(index).add(rows(9, start=9)))
    writer.start()
    assert flushing.wait(60)
    for reader in (index, reopen(index)):
        assert len(reader) == 9
        assert first(reader.search("text number7 of 2", k=1))[0].id == "d7"
    go_on.set()
    writer.join()
    assert len(index) == 18


SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static void wait_at(void) {
    const char *file = getenv("SLOW_FLUSHES");
    FILE *log = fopen(file, "a");
    if (log) { fputc('.', log); fclose(log); }
    usleep(150000);
}
int fsync(int fd) { wait_at(); return ((int (*)(int)) dlsym(RTLD_NEXT, "fsync"))(fd); }
int fdatasync(int fd) { wait_at(); return ((int (*)(int)) dlsym(RTLD_NEXT, "fdatasync"))(fd); }
"""


def test_readers_go_on_beside_a_writer_on_a_slow_disk(index: Index, tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    source, library, flushes = (tmp_path / name for name in ("slow.c", "slow.so", "flushes"))
    source.write_text(SHIM)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    index.add(rows(9))
    environment = {**os.environ, "LD_PRELOAD": str(library), "SLOW_FLUSHES": str(flushes)}
    command = [sys.executable, "-c", WRITER, str(index.path)]
    waits: list[float] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    ) as writer:
        assert writer.stdout is not None
        done = int(writer.stdout.readline())
        start = time.monotonic()
        while time.monotonic() - start < 60 and (flushes.stat().st_size <= 10 or len(waits) <= 3):
            before = time.monotonic()
            assert first(reopen(index).search("text number7 of 2", k=1))[0].id == "d7"
            waits.append(time.monotonic() - before)
        writer.kill()
    assert flushes.stat().st_size > 10
    assert len(waits) > 3
    assert {f"w{n}-1" for n in range(done + 1)} <= set(ids_of(reopen(index)))
    assert reopen(index).verify() == []


def add_limited(path: Path, n_bytes: int, message: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.RLIM_INFINITY))
    index = Index.open(path, encoder=WordEncoder())
    try:
        index.add({"id": f"n{i}", "text": f"word{i} " * 2_000} for i in range(40))
    except StorageError as error:
        message.write_text(str(error)[:n_bytes])


@pytest.mark.parametrize("n_bytes", [500, 60_000, 200_000])
def test_a_limit_of_file_sizes_is_one_error_and_no_loss(
    index: Index, n_bytes: int, tmp_path: Path
) -> None:
    index.add(rows(9))
    message = tmp_path / "message"
    process = CONTEXT.Process(target=add_limited, args=(index.path, n_bytes, message))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert message.read_text()
    assert "\n" not in message.read_text()
    assert set(ids_of(reopen(index))) >= {f"d{i}" for i in range(9)}
    assert len(reopen(index)) % 8 == 1  # whole windows
    assert reopen(index).verify() == []
    index.add({"id": f"n{i}", "text": f"word{i} " * 2_000} for i in range(40))
    assert len(reopen(index)) == 49
    assert reopen(index).verify() == []


def test_questions_within_asyncio(index: Index) -> None:
    index.add(rows(40))

    async def ask(at: int) -> str:
        loop = asyncio.get_running_loop()
        text = f"text number{at} of {at % 5}"
        results = await loop.run_in_executor(None, lambda: index.search(text, k=1))
        return first(results)[0].id

    async def main() -> list[str]:
        direct = first(index.search("text number7 of 2", k=1))[0].id  # in the running loop itself
        added = asyncio.create_task(asyncio.to_thread(index.add, rows(24, start=100)))
        cancelled = [asyncio.create_task(ask(at)) for at in range(20)]
        await asyncio.sleep(0)
        for task in cancelled[::2]:
            task.cancel()
        await asyncio.gather(*cancelled, return_exceptions=True)
        answers = await asyncio.gather(*(ask(at) for at in range(40)))
        assert (await added).n_new == 24
        return [direct, *answers]

    assert asyncio.run(main()) == ["d7", *(f"d{at}" for at in range(40))]
    assert len(index) == 64
    assert index.verify() == []
