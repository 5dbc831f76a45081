"""Work in a child process whose memory and time are bounded, so that a crash is an outcome."""

from __future__ import annotations

import faulthandler
import multiprocessing
import resource
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

# A child is forked from a process that has imported all it needs, so it starts in no time.
CONTEXT = multiprocessing.get_context("forkserver")
PRELOAD = ["faiss", "pyarrow.parquet", "layerdex", "tests.storage.hostile", "tests.fuzz.children"]


@dataclass(frozen=True)
class Outcome:
    """How a child ended: ``result`` where it returned, else None; ``exit_code`` as of a process.

    ``grown_bytes`` is how much resident memory it took beyond what it began with.
    """

    exit_code: int | None
    result: Any
    grown_bytes: int


def run_limited(
    work: Callable[..., Any], *arguments: object, memory_bytes: int, timeout_s: float
) -> Outcome:
    """Run ``work`` in a child that may map so many bytes more than it begins with.

    It is killed when the time is over: ``exit_code`` is then -9.
    """
    process, receiver = start_limited(work, *arguments, memory_bytes=memory_bytes)
    if not receiver.poll(timeout_s):
        process.kill()
    return end_limited(process, receiver)


def start_limited(
    work: Callable[..., Any], *arguments: object, memory_bytes: int
) -> tuple[ForkServerProcess, Connection]:
    """Start such a child; the connection has something to read when it is done or dead."""
    CONTEXT.set_forkserver_preload(PRELOAD)
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_child, args=(sender, memory_bytes, work, *arguments))
    process.start()
    sender.close()
    return process, receiver


def end_limited(process: ForkServerProcess, receiver: Connection) -> Outcome:
    """Wait for a child's end and return what came of it."""
    try:
        result, grown_bytes = receiver.recv()
    except EOFError:  # it crashed, or was killed
        result, grown_bytes = None, 0
    process.join()
    receiver.close()
    return Outcome(process.exitcode, result, grown_bytes)


def _child(sender: Connection, memory_bytes: int, work: Callable[..., Any], *args: object) -> None:
    faulthandler.enable()
    n_pages, *_ = Path("/proc/self/statm").read_text(encoding="ascii").split()
    limit = int(n_pages) * resource.getpagesize() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    before = _peak_bytes()
    result = work(*args)
    sender.send((result, _peak_bytes() - before))


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
