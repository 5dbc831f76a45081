"""The pipeline: documents to windows, windows to vectors, each window one commit."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, fields

from layerdex.errors import RowError
from layerdex.indexer.corpus import RunIds
from layerdex.indexer.progress import RunProgress
from layerdex.indexer.sync import OnChange, Sync, collect
from layerdex.indexer.window import WindowChanges, new_version, sort_window
from layerdex.records import (
    Encoded,
    Encoder,
    OnError,
    Rejected,
    ReportingEncoder,
    SourceDocument,
)
from layerdex.storage.compaction import merge_small
from layerdex.storage.rows import Version, find_live, find_vanished
from layerdex.storage.store import Store
from layerdex.storage.writer import Writer

OnReject = Callable[[Rejected], None]

# A window also ends here, so that a run of very long texts stays within bounded memory.
_WINDOW_CHARACTERS = 8_000_000

# Windows cut short by that are merged on the way, as copying them all at the end would take long.
_WINDOWS_BEFORE_MERGING = 100


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


def build(
    store: Store,
    documents: Iterable[SourceDocument | Rejected],
    load_encoder: Callable[[], Encoder],
    *,
    on_error: OnError = OnError.ABORT,
    on_reject: OnReject | None = None,
    on_change: OnChange | None = None,
    progress: RunProgress | None = None,
    sync: bool = False,
    auto_compact: bool = True,
    at_end: Callable[[Writer], None] | None = None,
    lock_timeout_s: float = 10.0,
) -> BuildReport:
    """Add documents to an index, window by window; what is there unchanged is skipped.

    ``load_encoder`` is called at the first document that needs encoding, ``at_end`` when all is
    committed, before another may write. With ``sync``, once all
    documents have been read, those that were not among them are removed, in one commit. Raises
    `RowError` at the first bad row unless ``on_error`` is skip; windows committed before stay.
    """
    progress = RunProgress() if progress is None else progress
    total = BuildReport()
    with store.write(lock_timeout_s=lock_timeout_s) as writer, RunIds() as ids:
        ledger = Sync(ids)
        for n_windows, window in enumerate(_windows(documents, store.settings.window), 1):
            changes = sort_window(window, ids, writer.find)
            _judge(changes, ledger, on_error, on_reject)
            progress.begin(len(window))
            total += _commit(changes, writer, store.layers, load_encoder, progress)
            _tell(changes, on_change)
            progress.commit()
            if auto_compact and n_windows % _WINDOWS_BEFORE_MERGING == 0:
                merge_small(store, writer)
        if sync:
            with closing(writer.find_vanished(ids.unknown)) as pages:
                rows = collect(ledger.vanished(pages), on_change)
            if len(rows):
                writer.remove(rows)
            total.n_removed = len(rows)
        if auto_compact:
            merge_small(store, writer)
        if at_end is not None:
            at_end(writer)
    return total


def preview(
    store: Store,
    documents: Iterable[SourceDocument | Rejected],
    *,
    on_error: OnError = OnError.ABORT,
    on_reject: OnReject | None = None,
    on_change: OnChange | None = None,
    progress: RunProgress | None = None,
    sync: bool = False,
) -> BuildReport:
    """Say what `build` would do, and encode and change nothing; other writers are not kept out."""
    progress = RunProgress() if progress is None else progress
    total = BuildReport()

    def find(ids: Sequence[str]) -> dict[str, Version]:
        # A transaction a window: one over all would keep the log from being emptied meanwhile.
        return store.ask(lambda snapshot: find_live(snapshot.connection, ids))

    with RunIds() as ids:
        ledger = Sync(ids)
        for window in _windows(documents, store.settings.window):
            changes = sort_window(window, ids, find)
            _judge(changes, ledger, on_error, on_reject)
            progress.begin(len(window))
            total += _report(changes)
            _tell(changes, on_change)
            progress.commit()
        if sync:
            with closing(_find_vanished(store, ids)) as pages:
                total.n_removed = len(collect(ledger.vanished(pages), on_change))
    return total


def _find_vanished(store: Store, ids: RunIds) -> Generator[list[Version], None, None]:
    with store.read() as snapshot:
        yield from find_vanished(snapshot.connection, ids.unknown)


def _judge(
    changes: WindowChanges, ledger: Sync, on_error: OnError, on_reject: OnReject | None
) -> None:
    """Raise `RowError` for a bad row, or tell of each, where they are skipped."""
    for rejected in changes.rejected:
        if on_error is OnError.ABORT:
            raise RowError(str(rejected))
        if on_reject is not None:
            on_reject(rejected)
    ledger.look_at(changes.n_accepted, changes.rejected)


def _tell(changes: WindowChanges, on_change: OnChange | None) -> None:
    if on_change is not None:
        for change, identifier in changes:
            on_change(change, identifier)


def _windows(
    documents: Iterable[SourceDocument | Rejected], size: int
) -> Iterator[list[SourceDocument | Rejected]]:
    window: list[SourceDocument | Rejected] = []
    n_characters = 0
    for document in documents:
        window.append(document)
        n_characters += len(document.text) if isinstance(document, SourceDocument) else 0
        if len(window) == size or n_characters >= _WINDOW_CHARACTERS:
            yield window
            window, n_characters = [], 0
    if window:
        yield window


def _commit(
    changes: WindowChanges,
    writer: Writer,
    layers: tuple[int, ...],
    load_encoder: Callable[[], Encoder],
    progress: RunProgress,
) -> BuildReport:
    report = _report(changes)
    if changes.fresh:
        texts = [document.text for _, document, _, _ in changes.fresh]
        n_others = report.n_read - len(texts)
        encoded = _encode(load_encoder(), texts, layers, lambda n: progress.tell(n_others + n))
        report.n_encoded, report.n_truncated = len(texts), int(encoded.truncated.sum())
        facts = zip(changes.fresh, encoded.n_tokens, encoded.truncated, strict=True)
        versions = [
            new_version(*fresh, n_tokens=int(n_tokens), truncated=bool(truncated))
            for fresh, n_tokens, truncated in facts
        ]
        writer.commit(versions, encoded.vectors, changes.relabellings)
    elif changes.relabellings:
        writer.relabel(changes.relabellings)
    return report


def _report(changes: WindowChanges) -> BuildReport:
    n_replaced = sum(before is not None for *_, before in changes.fresh)
    return BuildReport(
        n_read=changes.n_accepted + len(changes.rejected),
        n_new=len(changes.fresh) - n_replaced,
        n_updated=n_replaced + len(changes.relabellings),
        n_unchanged=changes.n_unchanged,
        n_rejected=len(changes.rejected),
    )


def _encode(
    encoder: Encoder, texts: list[str], layers: tuple[int, ...], on_progress: Callable[[int], None]
) -> Encoded:
    if isinstance(encoder, ReportingEncoder):
        return encoder.encode(texts, layers, on_progress=on_progress)
    return encoder.encode(texts, layers)
