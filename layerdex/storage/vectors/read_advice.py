"""Telling the kernel how mapped bytes are about to be read, and asking whether they can be.

FAISS maps files for reading at random: cold, a file of 200 MB was then read page by page in 5 s,
and in 0.15 s as one that is read in order.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Python has no names for these. Linux has the first one since 5.14.
_MADV_POPULATE_READ = 22
_EHWPOISON = 133


@contextmanager
def read_in_order(data: NDArray[np.uint8]) -> Iterator[None]:
    """Have the kernel read ahead in ``data`` while the caller reads it from its start."""
    _advise(data, mmap.MADV_SEQUENTIAL)
    try:
        yield
    finally:
        _advise(data, mmap.MADV_RANDOM)


def will_read(data: NDArray[np.uint8]) -> None:
    """Have the kernel read a few pages at once, rather than each when it is needed."""
    _advise(data, mmap.MADV_WILLNEED)


def can_read(data: NDArray[np.uint8]) -> bool:
    """Read mapped bytes into memory, and return False if the kernel could not.

    Touching them would then end the process with SIGBUS: a sector of the disk cannot be read, or
    the file has become shorter. Kernels before 5.14 cannot tell, so for these it is always True.
    """
    return _advise(data, _MADV_POPULATE_READ) not in (errno.EFAULT, _EHWPOISON)


def _advise(data: NDArray[np.uint8], advice: int) -> int:
    """Return the number of the error, 0 without one.

    Advice changes no result, so it may fail, as it does where memory is not mapped from a file.
    """
    first = data.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE
    if _madvise()(first, data.ctypes.data + data.nbytes - first, advice) == 0:
        return 0
    return ctypes.get_errno()


@cache
def _madvise() -> Any:
    function = ctypes.CDLL(None, use_errno=True).madvise
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return function
