"""Progress of a run: reported at each commit, and a few times a second in between."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from layerdex.records import OnProgress

_INTERVAL_S = 0.25

ReportFraction = Callable[[float], None]
"""Takes the completed fraction of some work, from 0 to 1."""


def report_texts(n_texts: int, on_progress: Callable[[int], None] | None) -> ReportFraction:
    """Return a function that passes fractions on as numbers of texts, at most 4 times a second.

    The numbers never fall. They are reported even where they have not grown, as ``on_progress`` is
    also the only place where a run can be stopped.
    """
    n_reported, reported_at = 0, monotonic()

    def report(fraction: float) -> None:
        nonlocal n_reported, reported_at
        n_done, now = min(int(fraction * n_texts), n_texts), monotonic()
        is_due = n_done >= n_reported and now - reported_at >= _INTERVAL_S
        if on_progress is not None and is_due:
            n_reported, reported_at = n_done, now
            on_progress(n_done)

    return report


def report_within(report: ReportFraction, start: float, stop: float) -> ReportFraction:
    """Return a function that takes the fraction of one step, from ``start`` to ``stop`` of all."""
    return lambda fraction: report(start + (stop - start) * fraction)


class RunProgress:
    """The rows of a run that are done, and the bytes of the source files that they take up."""

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
        self._n_rows = self._n_window_rows = 0
        self._n_bytes = self._n_bytes_after_window = 0
        self._n_bytes_read = self._n_bytes_total = 0

    def read(self, n_bytes: int, n_total: int) -> None:
        """Record the reader's position; it is reported when the rows before it are done."""
        self._n_bytes_read, self._n_bytes_total = n_bytes, n_total

    @property
    def n_bytes_read(self) -> int:
        """The reader's position."""
        return self._n_bytes_read

    def begin(self, n_rows: int, n_bytes_read: int) -> None:
        """Begin a window; ``n_bytes_read`` was the reader's position after its last row.

        The reader may be further by now.
        """
        self._n_window_rows, self._n_bytes_after_window = n_rows, n_bytes_read

    def report(self, n_rows: int) -> None:
        """Report that ``n_rows`` rows of the window are done."""
        if self._on_bytes is not None and self._n_bytes_total:
            n_window_bytes = self._n_bytes_after_window - self._n_bytes
            n_bytes = n_window_bytes * n_rows // self._n_window_rows
            self._on_bytes(self._n_bytes + n_bytes, self._n_bytes_total)
        if self._on_rows is not None:
            self._on_rows(self._n_rows + n_rows, self._n_total)

    def commit(self) -> None:
        """Report that all rows of the window are done."""
        self.report(self._n_window_rows)
        self._n_rows += self._n_window_rows
        self._n_bytes = self._n_bytes_after_window
