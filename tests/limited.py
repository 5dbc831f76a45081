"""Work in a child process whose memory and time are bounded, so that a crash is an outcome."""

from __future__ import annotations

import faulthandler
import multiprocessing
import resource
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
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
    CONTEXT.set_forkserver_preload(PRELOAD)
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_child, args=(sender, memory_bytes, work, *arguments))
    process.start()
    sender.close()
    found: tuple[Any, int] = (None, 0)
    try:
        if receiver.poll(timeout_s):
            found = receiver.recv()
    except EOFError:
        pass  # it crashed
    else:
        if found == (None, 0):
            process.kill()
    process.join()
    return Outcome(process.exitcode, *found)


def _child(sender: Connection, memory_bytes: int, work: Callable[..., Any], *args: object) -> None:
    faulthandler.enable()
    n_pages, *_ = Path("/proc/self/statm").read_text(encoding="ascii").split()
    limit = int(n_pages) * resource.getpagesize() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    before = _peak_bytes()
    result = work(*args)
    sender.send((result, max(1, _peak_bytes() - before)))


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
