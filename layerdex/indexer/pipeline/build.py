"""A run: documents to windows, and windows through the pipeline; or a dry run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial

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
from layerdex.indexer.pipeline.run_start import Recorder, RunNames, RunStart
from layerdex.indexer.pipeline.sync import (
    OnChange,
    Sync,
    Vanished,
    collect_vanished,
    read_sync_start,
)
from layerdex.indexer.pipeline.window import classify_window
from layerdex.indexer.progress import RunProgress
from layerdex.indexer.readers.changes import CHANGED
from layerdex.indexer.text.windows import WindowFill
from layerdex.records import Blank, Encoder, EncoderSettings, Rejected, SourceDocument
from layerdex.removals import RemovalLimit
from layerdex.storage.catalog.rows import Version, count_before, find_live, find_vanished, live_ids
from layerdex.storage.catalog.settings import SYNC_START
from layerdex.storage.maintenance.compaction import SmallMerges
from layerdex.storage.store import Store
from layerdex.storage.writer import Writer

_NOT_REMOVED = "new and changed documents are in, nothing was removed"

# Full windows then make a segment of just `TARGET_DOCUMENTS`, and are copied once.
_WINDOWS_BEFORE_MERGING = 64


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
    limit: RemovalLimit | None = None,
    auto_compact: bool = True,
    reads_ahead: bool = True,
    names: RunNames | None = None,
    lock_timeout_s: float = 10.0,
) -> BuildReport:
    """Add documents to an index, window by window; unchanged documents are skipped.

    ``load_encoder`` is called at the first document that needs encoding. Set ``reads_ahead`` to
    False for a source that may block: each window is then committed before the next document is
    requested. With ``sync``, documents of the index that were not in the sources are removed in one
    last commit. ``names`` are recorded with the first documents of an index. Raises
    `IndexMismatchError` before anything is written if ids come about in another way than those of
    the index, `RowError` at the first bad row unless ``on_error`` is skip, and `RemovalError` where
    more would be removed than ``limit`` allows; what came before stays
    committed.
    """
    progress = RunProgress() if progress is None else progress
    with (
        store.write(lock_timeout_s=lock_timeout_s) as writer,
        RunIds() as ids,
        WindowPrefetcher(load_encoder, store.layers) as prefetcher,
    ):
        callbacks = RunCallbacks(on_error, on_reject, on_change, progress)
        names = RunNames() if names is None else names
        start = RunStart(writer.live_ids, may_mix=names.mixes_ids)
        pipeline = Pipeline(writer, ids, prefetcher, callbacks, start, reads_ahead=reads_ahead)
        n_windows = 0
        merges = SmallMerges(store, writer)
        recorder = Recorder(writer, names)
        if sync:
            with writer.transaction() as connection:
                first_new = read_sync_start(connection)
            writer.set_with_next(SYNC_START, first_new)
        try:
            for window in _windows(documents, store.settings, on_error):
                pipeline.commit_ready()  # also between windows
                if not window:
                    continue
                recorder.note(window)
                pipeline.take(window)
                n_windows += 1
                if auto_compact and n_windows % _WINDOWS_BEFORE_MERGING == 0:
                    merges.merge()
        except Exception:
            # Windows before a row that fails are committed, at most two. An interruption does not
            # wait for them.
            pipeline.commit_all()
            raise
        pipeline.commit_all()
        if sync:
            writer.forget_next(SYNC_START)  # without a commit there is nothing to tell apart
        if pipeline.report.n_new + pipeline.report.n_updated + pipeline.report.n_unchanged:
            writer.set_deferred()
        if sync:
            limit = RemovalLimit() if limit is None else limit
            _remove_vanished(writer, pipeline, ids, limit, on_change, first_new=first_new)
        if auto_compact:
            merges.merge()
    return pipeline.report


def _remove_vanished(
    writer: Writer,
    pipeline: Pipeline,
    ids: RunIds,
    limit: RemovalLimit,
    on_change: OnChange | None,
    *,
    first_new: int,
) -> None:
    """Remove the documents that are in no source, and report how many; raises `RemovalError`."""
    report = pipeline.report

    def find(on_change: OnChange | None) -> Vanished:
        with closing(writer.find_vanished(ids.unseen)) as pages:
            return collect_vanished(pipeline.sources.vanished(pages), on_change, first_new)

    vanished = find(None)
    report.n_before = writer.count_before(first_new) + vanished.n_new
    if len(vanished.rows):
        limit.check(len(vanished.rows), report.n_before, verb="removed", outcome=_NOT_REMOVED)
        if on_change is not None:
            find(on_change)
        writer.set_with_next(SYNC_START, None)
        writer.remove(vanished.rows)
    elif writer.get(SYNC_START) is not None:
        writer.set(SYNC_START, None)
    report.n_removed = len(vanished.rows)


def preview(
    store: Store,
    documents: Iterable[SourceDocument | Rejected],
    *,
    on_error: OnError = OnError.ABORT,
    on_reject: OnReject | None = None,
    on_change: OnChange | None = None,
    progress: RunProgress | None = None,
    sync: bool = False,
    names: RunNames | None = None,
) -> BuildReport:
    """Report what `build` would do, without encoding, changes or a lock."""
    progress = RunProgress() if progress is None else progress
    callbacks = RunCallbacks(on_error, on_reject, on_change, progress)
    total = BuildReport()

    def find(ids: Sequence[str]) -> dict[str, Version]:
        # One transaction per window: a longer one would keep the write-ahead log from shrinking.
        return store.query(lambda snapshot: find_live(snapshot.connection, ids))

    with RunIds() as ids:
        sources = Sync(ids, outcome="nothing would be removed")
        start = RunStart(partial(_live_ids, store), may_mix=names is not None and names.mixes_ids)
        for window in filter(None, _windows(documents, store.settings, on_error)):
            changes = classify_window(window, ids, find)
            callbacks.refuse_bad_rows(changes)
            start.check(changes)
            callbacks.begin(changes, progress.n_bytes_read)
            sources.record(changes.n_accepted, changes.keeping)
            total += report_of(changes)
            callbacks.end(changes)
        if sync:
            first_new = store.query(lambda snapshot: read_sync_start(snapshot.connection))
            with closing(_find_vanished(store, ids)) as pages:
                vanished = collect_vanished(sources.vanished(pages), on_change, first_new)
            n_before = store.query(lambda snapshot: count_before(snapshot.connection, first_new))
            total.n_removed, total.n_before = len(vanished.rows), n_before + vanished.n_new
    return total


def _live_ids(store: Store) -> Generator[tuple[str, bytes]]:
    with store.read() as snapshot:
        yield from live_ids(snapshot.connection)


def _find_vanished(store: Store, ids: RunIds) -> Generator[list[Version], None, None]:
    with store.read() as snapshot:
        yield from find_vanished(snapshot.connection, ids.unseen)


def _windows(
    documents: Iterable[SourceDocument | Rejected], settings: EncoderSettings, on_error: OnError
) -> Iterator[list[SourceDocument | Rejected]]:
    """Yield windows, and an empty list after each document that does not complete one.

    A row that ends the run ends its window, as the next one may never come. One that says that its
    file has changed is a window of its own: the rows before it are sound.
    """
    window: list[SourceDocument | Rejected] = []
    fill = WindowFill(settings)
    for document in documents:
        if window and isinstance(document, Rejected) and document.reason == CHANGED:
            yield window
            window = []
            fill.clear()
        window.append(document)
        is_full = fill.add(None if isinstance(document, Rejected) else document.text)
        is_bad = isinstance(document, Rejected) and not isinstance(document, Blank)
        if is_full or (is_bad and on_error is OnError.ABORT):
            yield window
            window = []
            fill.clear()
        else:
            yield []
    if window:
        yield window
