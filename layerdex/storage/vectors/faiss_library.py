"""The one place that imports FAISS."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from layerdex.errors import MissingPackageError
from layerdex.limits import FAISS, check_limits


def load_faiss() -> Any:
    """Import FAISS, and limit the arrays that it deserializes to the size of the memory.

    Raises `MissingPackageError`, which names both builds, if neither is installed, and
    `ResourceError`.
    """
    check_limits(FAISS)
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            "FAISS is not installed: pip install 'layerdex[cpu]' or, for NVIDIA GPUs, "
            "'layerdex[gpu]' (never both: they overwrite each other)"
        ) from error
    # FAISS's default is 1 TiB (1.15; older versions have no limit). The limit applies to the whole
    # process, so it must leave room for indexes of the caller.
    if hasattr(faiss, "set_deserialization_vector_byte_limit"):
        limit = min(faiss.get_deserialization_vector_byte_limit(), _memory_bytes())
        faiss.set_deserialization_vector_byte_limit(limit)
    return faiss


@contextmanager
def one_omp_thread() -> Iterator[None]:
    """Have FAISS use the calling thread alone for what this thread calls inside.

    OpenMP's number of threads is each thread's own. A second thread that has nothing to do in a
    scan of one query spins until its end, on a core that others need.
    """
    faiss = load_faiss()
    n_threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(n_threads)


@cache
def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
