"""What a forked process renews: a fork copies memory, but of all threads only the one that forks.

Locks stay as other threads held them, and whoever hands work to a pool waits forever. So an object
with a lock or with threads renews them in the child; see `renew_after_fork`.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

_TOKENIZERS = "TOKENIZERS_PARALLELISM"

# A bound method would keep its object alive.
_renewals: WeakKeyDictionary[Any, Callable[[Any], object]] = WeakKeyDictionary()


def renew_after_fork(owner: T, renew: Callable[[T], object]) -> None:
    """Call a method of ``owner`` in each process forked from this one, as long as it lives.

    It must be quick, as most children never use the object: start threads when they are needed.
    """
    _renewals[owner] = renew


def abandon(*objects: Any) -> None:
    """Never free ``objects``, not even when Python exits, as freeing would wait for lost threads.

    What frees an OpenVINO model joins its threads: a child would hang, or crash at its end.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(objects))


class ForkLock:
    """A reentrant lock that nobody holds in a forked process, whoever held it in the parent."""

    def __init__(self) -> None:
        self._renew()
        renew_after_fork(self, ForkLock._renew)

    def _renew(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


_forking = threading.local()


def _before_fork() -> None:
    """Keep the library tokenizers from printing that it disables its threads in the child."""
    _forking.is_set_here = _TOKENIZERS not in os.environ
    os.environ.setdefault(_TOKENIZERS, "false")


def _after_fork_in_parent() -> None:
    if _forking.is_set_here:
        os.environ.pop(_TOKENIZERS, None)


def _after_fork_in_child() -> None:
    os.environ[_TOKENIZERS] = "false"
    # GNU OpenMP waits for the lost threads of this thread's team; a team of one has no others.
    # (Threads that the child starts get teams of their own.)
    if (faiss := sys.modules.get("faiss")) is not None:
        faiss.omp_set_num_threads(1)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)
    for owner, renew in list(_renewals.items()):
        renew(owner)


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
