"""The pipeline: a window is read while one before it is encoded and one before that committed.

Windows are committed whole and in their order. Reading, the catalog and all callbacks stay in the
thread of the run; only encoding is elsewhere (`ahead`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from layerdex.choices import OnError
from layerdex.errors import ModelError, RowError
from layerdex.indexer.pipeline.prefetch import N_PREFETCHED, Encoding, WindowPrefetcher
from layerdex.indexer.pipeline.run_ids import RunIds
from layerdex.indexer.pipeline.sync import OnChange, Sync
from layerdex.indexer.pipeline.window import WindowChanges, new_version, sort_window
from layerdex.indexer.progress import RunProgress
from layerdex.records import Encoded, Rejected, SourceDocument
from layerdex.storage.writer import Writer

OnReject = Callable[[Rejected], None]

_MOST_TOKENS = 1 << 31


@dataclass(slots=True)
class BuildReport:
    """What became of the rows of a run: ``new + updated + unchanged + rejected == read``.

    ``n_encoded`` documents went through the encoder (an update of only label or metadata does
    not); ``n_truncated`` of these did not fit the maximum length. ``n_removed`` documents were in
    the index and not in the sources (only where that was asked for).
    """

    n_read: int = 0
    n_new: int = 0
    n_updated: int = 0
    n_unchanged: int = 0
    n_rejected: int = 0
    n_encoded: int = 0
    n_truncated: int = 0
    n_removed: int = 0

    def __add__(self, other: BuildReport) -> BuildReport:
        names = [one.name for one in fields(self)]
        return BuildReport(*(getattr(self, name) + getattr(other, name) for name in names))


@dataclass(frozen=True, slots=True)
class RunCallbacks:
    """Whom a run tells what, and what it does about bad rows."""

    on_error: OnError
    on_reject: OnReject | None
    on_change: OnChange | None
    progress: RunProgress

    def refuse_bad_rows(self, changes: WindowChanges) -> None:
        """Raise `RowError` for a window's first bad row, unless these are skipped."""
        if self.on_error is OnError.ABORT and changes.rejected:
            raise RowError(str(changes.rejected[0]))

    def begin(self, changes: WindowChanges, n_bytes_read: int) -> None:
        """Report a window's bad rows; the reader was at ``n_bytes_read`` when it had them."""
        for rejected in changes.rejected:
            if self.on_reject is not None:
                self.on_reject(rejected)
        self.progress.begin(changes.n_rows, n_bytes_read)

    def end(self, changes: WindowChanges) -> None:
        """Report that a window is done."""
        if self.on_change is not None:
            for change, identifier in changes:
                self.on_change(change, identifier)
        self.progress.commit()


@dataclass(frozen=True, slots=True)
class _Window:
    """A window on its way; without ``encoding`` where none of its documents needs it."""

    changes: WindowChanges
    encoding: Encoding | None
    n_bytes_read: int

    @property
    def is_ready(self) -> bool:
        return self.encoding is None or self.encoding.is_ready


class Pipeline:
    """Takes windows, and commits them in their order."""

    def __init__(
        self,
        writer: Writer,
        ids: RunIds,
        encoding: WindowPrefetcher,
        listeners: RunCallbacks,
        *,
        reads_ahead: bool,
    ) -> None:
        self.report = BuildReport()
        self.ledger = Sync(ids)
        self._writer = writer
        self._ids = ids
        self._encoding = encoding
        self._listeners = listeners
        self._reads_ahead = reads_ahead
        self._under_way: deque[_Window] = deque()

    def take(self, rows: Sequence[SourceDocument | Rejected]) -> None:
        """Sort a window and have it encoded; waits where there are too many under way.

        Where nothing may be read ahead, it waits until the window is committed.

        What the index has of its documents is looked up before earlier windows are committed.
        That is the same, as no id is in two windows of a run: `RunIds` rejects the second.
        Raises `RowError`.
        """
        changes = sort_window(rows, self._ids, self._writer.find)
        self._listeners.refuse_bad_rows(changes)
        while len(self._under_way) >= N_PREFETCHED:
            self._commit()
        texts = [document.text for _, document, _, _ in changes.fresh]
        encoding = self._encoding.start(texts) if texts else None
        self._under_way.append(_Window(changes, encoding, self._listeners.progress.n_bytes_read))
        if self._reads_ahead:
            self.commit_ready()
        else:
            self.commit_all()

    def commit_ready(self) -> None:
        """Commit the windows whose turn it is and that need not be waited for."""
        while self._under_way and self._under_way[0].is_ready:
            self._commit()

    def commit_all(self) -> None:
        """Commit all windows that were taken."""
        while self._under_way:
            self._commit()

    def _commit(self) -> None:
        window = self._under_way.popleft()
        try:
            self._finish(window)
        except BaseException:
            self._under_way.clear()  # none may be committed that came after what was not
            raise

    def _finish(self, window: _Window) -> None:
        changes = window.changes
        self._listeners.begin(changes, window.n_bytes_read)
        self.ledger.look_at(changes.n_accepted, changes.rejected)
        self.report += report_of(changes)
        if window.encoding is not None:
            self._write(changes, window.encoding)
        elif changes.field_updates:
            self._writer.update_fields(changes.field_updates)
        self._listeners.end(changes)

    def _write(self, changes: WindowChanges, encoding: Encoding) -> None:
        n_others = changes.n_rows - len(changes.fresh)
        encoded = encoding.result(lambda n: self._listeners.progress.report(n_others + n))
        check_encoded(encoded, len(changes.fresh))
        spec = zip(changes.fresh, encoded.n_tokens, encoded.truncated, strict=True)
        versions = [
            new_version(*fresh, n_tokens=int(n_tokens), truncated=bool(truncated))
            for fresh, n_tokens, truncated in spec
        ]
        self._writer.commit(versions, encoded.vectors, changes.field_updates)
        self.report.n_encoded += len(versions)
        self.report.n_truncated += int(encoded.truncated.sum())


def check_encoded(encoded: object, n: int) -> None:
    """Raise `ModelError` unless an encoder gave what there is to know of ``n`` texts.

    Its vectors are checked where they are stored.
    """
    if not isinstance(encoded, Encoded):
        raise ModelError(f"the encoder gave {type(encoded).__name__}, not Encoded")
    for name, kinds in (("vectors", "f"), ("n_tokens", "iu"), ("truncated", "b")):
        array = getattr(encoded, name)
        if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds:
            raise ModelError(f"the encoder gave {name} that are no array of the right type")
        if name != "vectors" and array.shape != (n,):
            raise ModelError(f"the encoder gave {name} of shape {array.shape}, not ({n},)")
    if n and not 0 <= encoded.n_tokens.min() <= encoded.n_tokens.max() < _MOST_TOKENS:
        raise ModelError("the encoder gave numbers of tokens that are no numbers of tokens")


def report_of(changes: WindowChanges) -> BuildReport:
    """Count what becomes of a window's rows, before any is encoded."""
    n_replaced = sum(before is not None for *_, before in changes.fresh)
    return BuildReport(
        n_read=changes.n_rows,
        n_new=len(changes.fresh) - n_replaced,
        n_updated=n_replaced + len(changes.field_updates),
        n_unchanged=changes.n_unchanged,
        n_rejected=len(changes.rejected),
    )
