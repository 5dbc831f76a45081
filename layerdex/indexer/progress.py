"""How far a run is: told at each commit, and a few times a second between them."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from layerdex.records import OnProgress

_INTERVAL_S = 0.25

ReportShare = Callable[[float], None]
"""Takes the share of some work that is done, from 0 to 1."""


def report_texts(n_texts: int, on_progress: Callable[[int], None] | None) -> ReportShare:
    """Return what passes shares on as numbers of texts, never falling, a few times a second.

    A number is told again where no further text is done: who is told may want to stop.
    """
    told, told_at = 0, monotonic()

    def tell(share: float) -> None:
        nonlocal told, told_at
        done, now = min(int(share * n_texts), n_texts), monotonic()
        if on_progress is not None and done >= told and now - told_at >= _INTERVAL_S:
            told, told_at = done, now
            on_progress(done)

    return tell


def part(tell: ReportShare, start: float, stop: float) -> ReportShare:
    """Return what takes shares of a part of the work, which lies between two shares of all."""
    return lambda share: tell(start + (stop - start) * share)


class RunProgress:
    """The rows of a run that are done, and the bytes of files that they take up."""

    def __init__(
        self,
        on_rows: OnProgress | None = None,
        *,
        n_total: int | None = None,
        on_bytes: Callable[[int, int], None] | None = None,
    ) -> None:
        self._on_rows = on_rows
        self._n_total = n_total
        self._on_bytes = on_bytes
        self._n_rows = self._n_of_window = 0
        self._n_bytes = self._n_bytes_of_window = 0
        self._n_bytes_read = self._n_bytes_total = 0

    def read(self, n_bytes: int, n_total: int) -> None:
        """Note how far the reader is; it is told when the rows it read are done."""
        self._n_bytes_read, self._n_bytes_total = n_bytes, n_total

    @property
    def n_bytes_read(self) -> int:
        """How far the reader is."""
        return self._n_bytes_read

    def begin(self, n_rows: int, n_bytes_read: int) -> None:
        """Begin with a window; the reader was at ``n_bytes_read`` when it had its rows.

        It may be further on by now.
        """
        self._n_of_window, self._n_bytes_of_window = n_rows, n_bytes_read

    def tell(self, n_rows: int) -> None:
        """Say that so many rows of the window are done."""
        if self._on_bytes is not None and self._n_bytes_total:
            n_bytes = (self._n_bytes_of_window - self._n_bytes) * n_rows // self._n_of_window
            self._on_bytes(self._n_bytes + n_bytes, self._n_bytes_total)
        if self._on_rows is not None:
            self._on_rows(self._n_rows + n_rows, self._n_total)

    def commit(self) -> None:
        """Say that all rows of the window are done."""
        self.tell(self._n_of_window)
        self._n_rows += self._n_of_window
        self._n_bytes = self._n_bytes_of_window
