"""Limits of the process that native libraries do not survive, checked before one is loaded.

OpenBLAS (in NumPy and FAISS), OpenVINO and torch end a process, crash it or print a page where they
get no memory or no thread.
"""

from __future__ import annotations

import math
import os
import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from layerdex.errors import ResourceError


class Pool(Enum):
    """Threads that a library starts, with the variables that bound them."""

    BLAS = "OPENBLAS_NUM_THREADS GOTO_NUM_THREADS OMP_NUM_THREADS"
    OMP = "OMP_NUM_THREADS"
    CPU = ""

    def size(self) -> int:
        """Return the number of threads, with the one that calls the library."""
        n_cpus = len(os.sched_getaffinity(0))
        for name in self.value.split():
            first = os.environ.get(name, "").partition(",")[0].strip()
            if first.isdecimal() and int(first) > 0:
                return min(int(first), n_cpus) if self is Pool.BLAS else int(first)
        return n_cpus


class Need(NamedTuple):
    """What a library needs beyond what the process has already, at its peak."""

    module: str
    fixed_mb: float
    per_thread_mb: float
    pools: tuple[Pool, ...]

    def memory_mb(self) -> float:
        """Return the address space, which grows with the threads."""
        return self.fixed_mb + self.per_thread_mb * sum(pool.size() for pool in self.pools)

    def n_threads(self) -> int:
        """Return the number of threads that are started."""
        return sum(pool.size() - (pool is not Pool.CPU) for pool in self.pools)


# Address space as measured (VmPeak, 1 and 2 CPUs, MiniLM): each thread has a stack and a heap. An
# engine needs FAISS, too, which is loaded after it, and the threads of the tokenizer.
_FAISS = (Pool.BLAS, Pool.OMP)
NUMPY = Need("numpy", 80, 41, (Pool.BLAS,))
FAISS = Need("faiss", 350, 5, _FAISS)
OPENVINO = Need("openvino", 770, 21, (*_FAISS, Pool.CPU, Pool.CPU))
TORCH = Need("torch", 1_270, 21, (*_FAISS, Pool.OMP, Pool.CPU))
CONVERSION = Need("torch", 1_900, 21, TORCH.pools)  # and OpenVINO after it
PYARROW = Need("pyarrow", 260, 8, (Pool.OMP,))

_MB = 1_000_000
_CGROUPS = Path("/sys/fs/cgroup")
_FEW_THREADS = 4_096
_TRIED_THREAD_MB = 73
"""A stack of 8 MB, and a heap of 64 MB of address space, which stays for later threads."""
_WRITABLE = 0.75
"""Share of the address space that is private and writable, as RLIMIT_DATA counts it."""


def check_limits(need: Need, *, weights_bytes: int = 0) -> None:
    """Raise `ResourceError` if this process may not use what a library needs to be loaded.

    ``weights_bytes`` is the size of the model that it will load: twice that while it is loaded.
    """
    if need.module in sys.modules:
        return
    what, n_threads = need.module, need.n_threads()
    needed_mb = need.memory_mb() + 2 * weights_bytes / _MB
    left_mb = min(
        _check_memory(what, resource.RLIMIT_AS, "-v", column=0, needed_mb=needed_mb),
        _check_memory(what, resource.RLIMIT_DATA, "-d", column=5, needed_mb=needed_mb * _WRITABLE),
    )
    # What the trial takes is not given back to what is loaded after it.
    if left_mb - needed_mb >= n_threads * _TRIED_THREAD_MB and _may_lack_threads():
        _check_threads(what, n_threads)


def _check_memory(what: str, limit: int, option: str, *, column: int, needed_mb: float) -> float:
    """Return how much is left, without an end where there is no limit."""
    most, _ = resource.getrlimit(limit)
    if most == resource.RLIM_INFINITY:
        return math.inf
    left_mb = (most - _used_bytes(column)) / _MB
    if left_mb < needed_mb:
        raise ResourceError(
            f"{what} needs about {needed_mb:,.0f} MB of memory, and the limit of this process "
            f"(ulimit {option}) leaves {max(0, left_mb):,.0f} MB: raise the limit"
        )
    return left_mb


def _used_bytes(column: int) -> int:
    """Return the address space in use, or in column 5 its data; 0 where Linux does not tell."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()
    except OSError:
        return 0
    return int(pages[column]) * resource.getpagesize()


def _may_lack_threads() -> bool:
    """Return whether a limit on threads is near, as trying them takes 3 ms for each CPU."""
    most, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    return (most != resource.RLIM_INFINITY and most < _FEW_THREADS) or _has_few_pids(_CGROUPS)


def _has_few_pids(cgroups: Path) -> bool:
    """Return whether a cgroup of this process, or one above it, may not start many threads."""
    try:
        entries = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    for _, kinds, path in (entry.split(":", 2) for entry in entries):
        if kinds not in ("", "pids"):
            continue
        root = cgroups / kinds
        # In a container the path may be that of the host, and its own cgroup the root.
        own = root / path.lstrip("/")
        folders = [own, *own.parents]
        if any(_left_pids(folder) < _FEW_THREADS for folder in folders if folder >= root):
            return True
    return False


def _left_pids(cgroup: Path) -> float:
    try:
        most, used = ((cgroup / f"pids.{what}").read_text() for what in ("max", "current"))
        return int(most) - int(used)
    except (OSError, ValueError):  # "max" is no number
        return math.inf


def _check_threads(what: str, n_threads: int) -> None:
    """Start so many threads for a moment: limits are those of the user, a container, a machine."""
    with ExitStack() as waiting:
        for _ in range(n_threads):
            try:
                waiting.enter_context(_thread())
            except RuntimeError as error:
                plural = "s" * (n_threads != 1)
                raise ResourceError(
                    f"{what} needs {n_threads} more thread{plural}, and this process may not start "
                    "so many: raise the limit of the user (ulimit -u) or of the container"
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
        case _ if _lacks_thread(error):
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


def _lacks_thread(error: BaseException) -> bool:
    """Return whether Python, or a library in Rust, got no thread."""
    if isinstance(error, RuntimeError):
        return "can't start new thread" in str(error)
    is_panic = type(error).__name__ == "PanicException"
    return is_panic and ("ThreadPoolBuildError" in str(error) or "WouldBlock" in str(error))
