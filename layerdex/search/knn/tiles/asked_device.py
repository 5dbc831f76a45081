"""Which device a question asks for: known to the index, used where many vectors are compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layerdex.search.knn.tiles.device import Device

_asked: ContextVar[Callable[[], Device | None]] = ContextVar("device", default=lambda: None)


@contextmanager
def use_device(choose: Callable[[], Device | None]) -> Iterator[None]:
    """Compare many vectors on a device, chosen when one is needed first; None is the CPU."""
    token = _asked.set(choose)
    try:
        yield
    finally:
        _asked.reset(token)


def asked_device() -> Device | None:
    """Return the device that comparisons of many vectors shall use, if not the CPU."""
    return _asked.get()()
