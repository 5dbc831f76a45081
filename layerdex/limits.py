"""Limits of the process that native libraries do not survive, checked before one is loaded.

OpenBLAS (in NumPy and FAISS), OpenVINO and torch end a process, crash it or print a page where they
get no memory or no thread.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from layerdex.errors import ResourceError


class Need(NamedTuple):
    """What a library needs beyond what the process has already, at its peak."""

    module: str
    fixed_mb: float
    per_cpu_mb: float
    threads_per_cpu: int


# Address space as measured (VmPeak, 1 and 2 CPUs, MiniLM): libraries start threads by the number of
# CPUs, each with a stack and a heap. An engine needs FAISS, too, which is loaded after it.
NUMPY = Need("numpy", 80, 41, 1)
FAISS = Need("faiss", 350, 10, 2)
OPENVINO = Need("openvino", 770, 82, 4)
TORCH = Need("torch", 1_270, 82, 4)
PYARROW = Need("pyarrow", 260, 8, 1)

_MB = 1_000_000
_WRITABLE = 0.75
"""Share of the address space that is private and writable, as RLIMIT_DATA counts it."""


def check_limits(need: Need, *, weights_bytes: int = 0) -> None:
    """Raise `ResourceError` if this process may not use what a library needs to be loaded.

    ``weights_bytes`` is the size of the model that it will load: twice that while it is loaded.
    """
    if need.module in sys.modules:
        return
    n_cpus = len(os.sched_getaffinity(0))
    needed_mb = need.fixed_mb + n_cpus * need.per_cpu_mb + 2 * weights_bytes / _MB
    what = need.module
    most_mapped, _ = resource.getrlimit(resource.RLIMIT_AS)
    most_data, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if most_mapped != resource.RLIM_INFINITY:
        _check_memory(what, most_mapped, "-v", column=0, needed_mb=needed_mb)
    elif most_data != resource.RLIM_INFINITY:
        _check_memory(what, most_data, "-d", column=5, needed_mb=needed_mb * _WRITABLE)
    else:  # each thread leaves a heap of 64 MB of address space to the next ones
        _check_threads(what, n_cpus * need.threads_per_cpu)


def _check_memory(what: str, most: int, option: str, *, column: int, needed_mb: float) -> None:
    left_mb = (most - _used_bytes(column)) / _MB
    if left_mb < needed_mb:
        raise ResourceError(
            f"{what} needs about {needed_mb:,.0f} MB of memory, and the limit of this process "
            f"(ulimit {option}) leaves {max(0, left_mb):,.0f} MB: raise the limit"
        )


def _used_bytes(column: int) -> int:
    """Return the address space in use, or in column 5 its data; 0 where Linux does not tell."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()
    except OSError:
        return 0
    return int(pages[column]) * resource.getpagesize()


def _check_threads(what: str, n_threads: int) -> None:
    """Start so many threads for a moment: limits are those of the user, a container, a machine."""
    with ExitStack() as waiting:
        for _ in range(n_threads):
            try:
                waiting.enter_context(_thread())
            except RuntimeError as error:
                raise ResourceError(
                    f"{what} needs {n_threads} threads, and this process may not start so many: "
                    "raise the limit of the user (ulimit -u) or of the container"
                ) from error


@contextmanager
def _thread() -> Iterator[None]:
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def to_resource_error(error: BaseException) -> ResourceError | None:
    """Return what an error of Python or a library means, if it is that a resource is missing."""
    match error:
        case MemoryError():
            return ResourceError("out of memory: this process cannot get more (ulimit -v, -d)")
        case RecursionError():
            return ResourceError("something is nested too deeply for Python's stack")
        case RuntimeError() if "can't start new thread" in str(error):
            return ResourceError(
                "no further thread can be started: raise the limit of the user (ulimit -u), of "
                "the container, or of memory (ulimit -v)"
            )
        case ImportError() if "map segment" in str(error) or "allocate memory" in str(error):
            return ResourceError(
                "out of memory while a library was loaded: raise the limit of this process "
                "(ulimit -v, -d)"
            )
    return None
