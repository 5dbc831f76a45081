"""The pipeline: a window is read while its predecessor is encoded and the one before committed.

Windows are committed whole and in order. Reading, catalog access and all callbacks stay in the
thread of the run; only encoding runs in other threads (`prefetch`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from layerdex.choices import OnError
from layerdex.errors import ModelError, RowError
from layerdex.indexer.pipeline.prefetch import N_PREFETCHED, Encoding, WindowPrefetcher
from layerdex.indexer.pipeline.run_ids import RunIds
from layerdex.indexer.pipeline.run_start import RunStart
from layerdex.indexer.pipeline.sync import OnChange, Sync
from layerdex.indexer.pipeline.window import PendingText, WindowChanges, classify_window
from layerdex.indexer.progress import RunProgress
from layerdex.records import Encoded, Rejected, SourceDocument
from layerdex.storage.catalog.changes import NewVersion
from layerdex.storage.writer import Writer

OnReject = Callable[[Rejected], None]

_MAX_TOKENS = 1 << 31
# The fields of `Encoded`, with the kinds of NumPy type that each may have.
_ARRAYS = {"vectors": "f", "n_tokens": "iu", "truncated": "b", "n_unknown": "iu", "unreadable": "b"}
_OPTIONAL = ("n_unknown", "unreadable")


@dataclass(slots=True)
class BuildReport:
    """The outcome of a run, in rows.

    ``new + updated + unchanged + blank + repeated + rejected == read``, where blank rows have no
    text and were skipped, and repeated ones are identical to an earlier row with the same id.
    ``n_encoded`` documents were encoded (an update of only label or metadata needs no encoding);
    ``n_truncated`` of these exceed the maximum length, ``n_unknown`` have unknown tokens and
    ``n_unreadable`` no others. ``n_removed`` documents were removed by ``sync``, as they were not
    in the sources; ``n_before`` were there before it, or would go too, and bound how many may.
    """

    n_read: int = 0
    n_new: int = 0
    n_updated: int = 0
    n_unchanged: int = 0
    n_blank: int = 0
    n_repeated: int = 0
    n_rejected: int = 0
    n_encoded: int = 0
    n_truncated: int = 0
    n_unknown: int = 0
    n_unreadable: int = 0
    n_removed: int = 0
    n_before: int = field(default=0, compare=False, repr=False)

    def __add__(self, other: BuildReport) -> BuildReport:
        names = [one.name for one in fields(self)]
        return BuildReport(*(getattr(self, name) + getattr(other, name) for name in names))


@dataclass(frozen=True, slots=True)
class RunCallbacks:
    """The callbacks of a run, and how it treats bad rows."""

    on_error: OnError
    on_reject: OnReject | None
    on_change: OnChange | None
    progress: RunProgress

    def refuse_bad_rows(self, changes: WindowChanges) -> None:
        """Raise `RowError` for a window's first bad row, unless bad rows are skipped."""
        if self.on_error is OnError.ABORT and changes.rejected:
            raise RowError(str(changes.rejected[0]))

    def begin(self, changes: WindowChanges, n_bytes_read: int) -> None:
        """Report a window's bad rows; ``n_bytes_read`` was the reader's position after it."""
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
    """A window in the pipeline; ``encoding`` is None if nothing has to be encoded."""

    changes: WindowChanges
    encoding: Encoding | None
    n_bytes_read: int

    @property
    def is_ready(self) -> bool:
        return self.encoding is None or self.encoding.is_ready


class Pipeline:
    """Encodes windows and commits them in order."""

    def __init__(
        self,
        writer: Writer,
        ids: RunIds,
        prefetcher: WindowPrefetcher,
        callbacks: RunCallbacks,
        start: RunStart,
        *,
        reads_ahead: bool,
    ) -> None:
        self.report = BuildReport()
        self.sources = Sync(ids)
        self._writer = writer
        self._ids = ids
        self._prefetcher = prefetcher
        self._callbacks = callbacks
        self._start = start
        self._reads_ahead = reads_ahead
        self._windows: deque[_Window] = deque()

    def take(self, rows: Sequence[SourceDocument | Rejected]) -> None:
        """Start encoding a window; first wait for earlier windows if there are too many.

        Without ``reads_ahead`` it also waits until this window is committed. The stored versions
        of its documents are looked up before earlier windows are committed, which gives the same
        result, as `RunIds` rejects an id that was in an earlier window. Raises `RowError`.
        """
        changes = classify_window(rows, self._ids, self._writer.find)
        self._callbacks.refuse_bad_rows(changes)
        self._start.check(changes)
        while len(self._windows) >= N_PREFETCHED:
            self._commit()
        texts = [text.document.text for text in changes.pending]
        encoding = self._prefetcher.start(texts) if texts else None
        self._windows.append(_Window(changes, encoding, self._callbacks.progress.n_bytes_read))
        if self._reads_ahead:
            self.commit_ready()
        else:
            self.commit_all()

    def commit_ready(self) -> None:
        """Commit the windows that are encoded, up to the first that is not."""
        while self._windows and self._windows[0].is_ready:
            self._commit()

    def commit_all(self) -> None:
        """Wait for all windows and commit them."""
        while self._windows:
            self._commit()

    def _commit(self) -> None:
        window = self._windows.popleft()
        try:
            self._finish(window)
        except BaseException:
            self._windows.clear()  # no window may be committed after one that failed
            raise

    def _finish(self, window: _Window) -> None:
        changes = window.changes
        self._callbacks.begin(changes, window.n_bytes_read)
        self.sources.record(changes.n_accepted, changes.keeping)
        self.report += report_of(changes)
        if window.encoding is not None:
            self._write(changes, window.encoding)
        elif changes.field_updates:
            self._writer.update_fields(changes.field_updates)
        self._callbacks.end(changes)

    def _write(self, changes: WindowChanges, encoding: Encoding) -> None:
        n_others = changes.n_rows - len(changes.pending)
        encoded = encoding.result(lambda n: self._callbacks.progress.report(n_others + n))
        check_encoded(encoded, len(changes.pending))
        versions = _versions(changes.pending, encoded)
        self._writer.commit(versions, encoded.vectors, changes.field_updates)
        self.report.n_encoded += len(versions)
        self.report.n_truncated += int(encoded.truncated.sum())
        self.report.n_unknown += sum(bool(version.n_unknown) for version in versions)
        self.report.n_unreadable += sum(version.unreadable for version in versions)


def _versions(pending: Sequence[PendingText], encoded: Encoded) -> list[NewVersion]:
    """Return the versions to store of texts and their encoding."""
    n = len(pending)
    n_unknown = [None] * n if encoded.n_unknown is None else encoded.n_unknown.tolist()
    unreadable = [False] * n if encoded.unreadable is None else encoded.unreadable.tolist()
    counts = zip(
        encoded.n_tokens.tolist(), encoded.truncated.tolist(), n_unknown, unreadable, strict=True
    )
    return [
        text.to_version(
            n_tokens=n_tokens, truncated=truncated, n_unknown=n_unknown, unreadable=unreadable
        )
        for text, (n_tokens, truncated, n_unknown, unreadable) in zip(pending, counts, strict=True)
    ]


def check_encoded(encoded: object, n: int) -> None:
    """Raise `ModelError` for an encoder's result that is not a valid `Encoded` of ``n`` texts.

    The values of the vectors are checked when they are stored.
    """
    if not isinstance(encoded, Encoded):
        raise ModelError(f"the encoder returned {type(encoded).__name__}, not Encoded")
    if (encoded.n_unknown is None) != (encoded.unreadable is None):
        raise ModelError("the encoder returned only one of n_unknown and unreadable")
    for name, kinds in _ARRAYS.items():
        array = getattr(encoded, name)
        if array is None and name in _OPTIONAL:
            continue
        if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds:
            raise ModelError(f"the encoder returned {name} that are not an array of the right type")
        if name != "vectors" and array.shape != (n,):
            raise ModelError(f"the encoder returned {name} of shape {array.shape}, not ({n},)")
    for name in ("n_tokens", "n_unknown"):
        counts = getattr(encoded, name)
        if n and counts is not None and not 0 <= counts.min() <= counts.max() < _MAX_TOKENS:
            raise ModelError(
                f"the encoder returned {name} that are not all from 0 to {_MAX_TOKENS - 1}"
            )
    if encoded.n_unknown is not None and np.any(encoded.unreadable & (encoded.n_unknown == 0)):
        raise ModelError("the encoder returned unreadable texts without unknown tokens")


def report_of(changes: WindowChanges) -> BuildReport:
    """Count a window's rows by outcome, before any is encoded."""
    n_replaced = sum(text.before is not None for text in changes.pending)
    return BuildReport(
        n_read=changes.n_rows,
        n_new=len(changes.pending) - n_replaced,
        n_updated=n_replaced + len(changes.field_updates),
        n_unchanged=changes.n_unchanged,
        n_blank=len(changes.blank),
        n_repeated=changes.n_repeated,
        n_rejected=len(changes.rejected),
    )
