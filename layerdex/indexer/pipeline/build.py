"""A run: documents to windows, and windows through the pipeline, or a look at what it would do."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing

from layerdex.choices import OnError
from layerdex.indexer.pipeline.pipeline import (
    BuildReport,
    OnReject,
    Pipeline,
    RunCallbacks,
    report_of,
)
from layerdex.indexer.pipeline.prefetch import WindowPrefetcher
from layerdex.indexer.pipeline.run_ids import RunIds
from layerdex.indexer.pipeline.sync import OnChange, Sync, collect
from layerdex.indexer.pipeline.window import sort_window
from layerdex.indexer.progress import RunProgress
from layerdex.records import Encoder, Rejected, SourceDocument
from layerdex.storage.catalog.rows import Version, find_live, find_vanished
from layerdex.storage.maintenance.compaction import merge_small
from layerdex.storage.store import Store
from layerdex.storage.writer import Writer

# A window also ends here, so that a run of very long texts stays within bounded memory.
_WINDOW_CHARACTERS = 8_000_000

# Windows cut short by that are merged on the way, as copying them all at the end would take long.
_WINDOWS_BEFORE_MERGING = 100


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
    reads_ahead: bool = True,
    lock_timeout_s: float = 10.0,
) -> BuildReport:
    """Add documents to an index, window by window; what is there unchanged is skipped.

    ``load_encoder`` is called at the first document that needs encoding, ``at_end`` when all is
    committed, before another may write. Where the documents may be long in coming, they are not to
    be read ahead: each window is committed before the next document is asked for. With ``sync``,
    once all documents have been read, those that were not among them are removed, in one commit.
    Raises `RowError` at the first bad row unless ``on_error`` is skip; windows committed before
    stay.
    """
    progress = RunProgress() if progress is None else progress
    with (
        store.write(lock_timeout_s=lock_timeout_s) as writer,
        RunIds() as ids,
        WindowPrefetcher(load_encoder, store.layers) as encoding,
    ):
        listeners = RunCallbacks(on_error, on_reject, on_change, progress)
        pipeline = Pipeline(writer, ids, encoding, listeners, reads_ahead=reads_ahead)
        n_windows = 0
        try:
            for window in _windows(documents, store.settings.window):
                pipeline.commit_ready()  # also between windows
                if not window:
                    continue
                pipeline.take(window)
                n_windows += 1
                if auto_compact and n_windows % _WINDOWS_BEFORE_MERGING == 0:
                    merge_small(store, writer)
        except Exception:
            # The reader is at most two windows ahead of what is committed; what came before a
            # row that fails stays. An interruption does not wait for that.
            pipeline.commit_all()
            raise
        pipeline.commit_all()
        if sync:
            with closing(writer.find_vanished(ids.unknown)) as pages:
                rows = collect(pipeline.ledger.vanished(pages), on_change)
            if len(rows):
                writer.remove(rows)
            pipeline.report.n_removed = len(rows)
        if auto_compact:
            merge_small(store, writer)
        if at_end is not None:
            at_end(writer)
    return pipeline.report


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
    listeners = RunCallbacks(on_error, on_reject, on_change, progress)
    total = BuildReport()

    def find(ids: Sequence[str]) -> dict[str, Version]:
        # A transaction a window: one over all would keep the log from being emptied meanwhile.
        return store.query(lambda snapshot: find_live(snapshot.connection, ids))

    with RunIds() as ids:
        ledger = Sync(ids)
        for window in filter(None, _windows(documents, store.settings.window)):
            changes = sort_window(window, ids, find)
            listeners.refuse_bad_rows(changes)
            listeners.begin(changes, progress.n_bytes_read)
            ledger.look_at(changes.n_accepted, changes.rejected)
            total += report_of(changes)
            listeners.end(changes)
        if sync:
            with closing(_find_vanished(store, ids)) as pages:
                total.n_removed = len(collect(ledger.vanished(pages), on_change))
    return total


def _find_vanished(store: Store, ids: RunIds) -> Generator[list[Version], None, None]:
    with store.read() as snapshot:
        yield from find_vanished(snapshot.connection, ids.unknown)


def _windows(
    documents: Iterable[SourceDocument | Rejected], size: int
) -> Iterator[list[SourceDocument | Rejected]]:
    """Yield the documents in windows, and an empty one after each document that fills none."""
    window: list[SourceDocument | Rejected] = []
    n_characters = 0
    for document in documents:
        window.append(document)
        n_characters += len(document.text) if isinstance(document, SourceDocument) else 0
        if len(window) == size or n_characters >= _WINDOW_CHARACTERS:
            yield window
            window, n_characters = [], 0
        else:
            yield []
    if window:
        yield window
