"""Documents of an index: added, read, exported and deleted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from layerdex.arguments import check_callbacks, check_count, format_value, to_path
from layerdex.choices import Change, ExportFormat, Format, MetadataLayout, OnBlank, OnError
from layerdex.errors import OptionError
from layerdex.index.open_index import OpenIndex
from layerdex.index.source_options import check_date_formats, resolve_fields
from layerdex.index.stored_transforms import warn_if_stale
from layerdex.index.vectors import export_vectors
from layerdex.layers import LayerSelection
from layerdex.predicates import Predicate
from layerdex.records import (
    Document,
    OnProgress,
    Rejected,
    Source,
    Truncated,
    Unknown,
)
from layerdex.removals import RemovalLimit
from layerdex.storage.catalog.rows import find_live
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.writer import check_found

if TYPE_CHECKING:
    from layerdex.indexer.pipeline.pipeline import BuildReport
    from layerdex.indexer.readers.dialect import Dialect
    from layerdex.indexer.readers.fields import Fields
    from layerdex.storage.store import Store
    from layerdex.storage.writer import Writer

logger = logging.getLogger(__name__)


def add(
    index: OpenIndex,
    sources: Sequence[Source],
    *,
    text: str | None,
    id: str | None,
    label: str | None,
    metadata: Iterable[str] | None,
    date_formats: Mapping[str, str] | None,
    mix_ids: bool,
    fields: Fields | None,
    format: Format | str,
    dialect: Dialect | None,
    on_error: OnError,
    on_blank: OnBlank | None,
    on_reject: Callable[[Rejected], None] | None,
    on_change: Callable[[Change, str], None] | None,
    on_progress: OnProgress | None,
    on_bytes: Callable[[int, int], None] | None,
    n_total: int | None,
    sync: bool,
    limit: RemovalLimit,
    dry_run: bool,
    auto_compact: bool,
    lock_timeout_s: float,
) -> BuildReport:
    """Add documents, or preview that; see `Index.add`."""
    from layerdex.indexer.pipeline.build import build, preview
    from layerdex.indexer.pipeline.run_start import RunNames
    from layerdex.indexer.progress import RunProgress
    from layerdex.indexer.readers.blank_texts import settle_blanks
    from layerdex.indexer.readers.sources import may_block, read_all

    check_callbacks(
        on_reject=on_reject, on_change=on_change, on_progress=on_progress, on_bytes=on_bytes
    )
    if n_total is not None:
        check_count("n_total", n_total, least=0)
    if fields is None:
        fields = resolve_fields(
            index.store,
            text=text,
            id=id,
            label=label,
            metadata=metadata,
            may_derive_ids=mix_ids,
        )
    elif any(name is not None for name in (text, id, label, metadata)):
        raise OptionError("give text, id, label and metadata, or all of them as fields")
    progress = RunProgress(on_progress, n_total=n_total, on_bytes=on_bytes)
    rows = read_all(sources, format=format, fields=fields, dialect=dialect, on_bytes=progress.read)
    rows = settle_blanks(rows, on_blank)
    options: dict[str, Any] = {
        "on_error": on_error,
        "on_reject": on_reject,
        "on_change": on_change,
        "progress": progress,
        "sync": sync,
        "names": RunNames(fields, check_date_formats(date_formats), mix_ids),
    }
    if dry_run:
        return preview(index.store, rows, **options)
    report = build(
        index.store,
        rows,
        lambda: index.encoder,
        **options,
        limit=limit,
        auto_compact=auto_compact,
        reads_ahead=not any(map(may_block, sources)),
        lock_timeout_s=lock_timeout_s,
    )
    warn_if_stale(index.store)
    return report


def get(index: OpenIndex, ids: Sequence[str]) -> list[Document]:
    """Return documents by id, in the order asked; raises `DocumentNotFoundError`."""
    _check_ids(ids)

    def question(snapshot: Snapshot) -> list[Document]:
        rows = [snapshot.row_of(document_id) for document_id in ids]
        documents = snapshot.documents(rows)
        return [documents[row] for row in rows]

    return index.store.query(question)


def iterate(index: OpenIndex, where: tuple[Predicate, ...]) -> Iterator[Document]:
    """Yield the matching documents in input order, all from one commit."""
    with index.store.read() as snapshot:
        yield from snapshot.in_input_order(where)


def export(
    index: OpenIndex,
    target: str | Path | BinaryIO,
    *,
    format: ExportFormat,
    where: tuple[Predicate, ...],
    layers: LayerSelection | None,
    metadata: MetadataLayout | None,
    on_progress: OnProgress | None,
) -> int:
    """Write the matching documents in input order; see `Index.export`."""
    from layerdex.indexer.writers.documents import resolve_export_format, write_export
    from layerdex.storage.files import atomic_write
    from layerdex.storage.maintenance.export import read_batches

    check_callbacks(on_progress=on_progress)
    path = None if hasattr(target, "write") else to_path(target, what="an export goes to a path")
    resolved_format = resolve_export_format(path, format)
    if resolved_format is ExportFormat.NPY:
        if metadata is not None:
            raise OptionError("npy holds no metadata: leave out metadata, or write .parquet, .csv")
        if path is None:
            raise OptionError("npy needs a path: the ids of its documents go beside it")
        return export_vectors(index, path, where=where, layers=layers, on_progress=on_progress)
    resolved = () if layers is None else index.resolve_layers(layers)
    batches = read_batches(index.store, where=where, layers=resolved)
    write = partial(
        write_export,
        batches=batches,
        format=resolved_format,
        layers=resolved,
        metadata=metadata,
        width=index.store.settings.width,
        precision=index.store.precision,
        on_progress=on_progress,
    )
    with closing(batches):
        if path is None:
            return write(cast(BinaryIO, target))
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            return write(file)


def delete(
    index: OpenIndex,
    ids: Sequence[str],
    *,
    where: tuple[Predicate, ...],
    limit: RemovalLimit | None,
    missing_ok: bool,
    purge: bool,
    dry_run: bool,
    lock_timeout_s: float,
    on_progress: OnProgress | None,
) -> int:
    """Delete documents and return how many; see `Index.delete`."""
    _check_ids(ids)
    check_callbacks(on_progress=on_progress)
    if where and ids:
        raise OptionError("give ids or where, not both: which documents is not clear")
    if not (where or ids or purge):
        return 0
    if dry_run:
        return len(find_ids(index, ids, where=where, missing_ok=missing_ok))
    with index.store.write(lock_timeout_s=lock_timeout_s) as writer:
        if where:  # under the lock, so that nothing changes in between
            ids = find_ids(index, ids, where=where, missing_ok=missing_ok)
        n_deleted = writer.delete(ids, limit=limit, missing_ok=missing_ok)
        if purge:
            _purge(index.store, writer, timeout_s=lock_timeout_s, on_progress=on_progress)
    warn_if_stale(index.store)
    return n_deleted


def find_ids(
    index: OpenIndex, ids: Sequence[str], *, where: tuple[Predicate, ...], missing_ok: bool
) -> list[str]:
    """Return the ids of the documents that a deletion would delete, each once."""

    def question(snapshot: Snapshot) -> list[str]:
        if where:
            return snapshot.document_table(where).ids
        live = find_live(snapshot.connection, ids)
        if not missing_ok:
            check_found(ids, live)
        return [id_ for id_ in dict.fromkeys(ids) if id_ in live]

    return index.store.query(question)


def _purge(
    store: Store, writer: Writer, *, timeout_s: float, on_progress: OnProgress | None
) -> None:
    """Purge dead versions, after a warning of what artifacts may still hold of them."""
    from layerdex.storage.maintenance.purge import purge
    from layerdex.storage.maintenance.traces import find_traces

    for trace in store.query(find_traces):  # before they are gone, and before an error
        logger.warning("%s", trace)
    purge(store, writer, timeout_s=timeout_s, on_progress=on_progress)


def _check_ids(ids: Sequence[object]) -> None:
    for document_id in ids:
        if not isinstance(document_id, str):
            raise OptionError(
                f"an id is a string, not {format_value(document_id)}; "
                "give several as separate arguments: *ids"
            )


def read_truncated(snapshot: Snapshot) -> list[Truncated]:
    """Return the documents whose text was cut; see `Index.truncated`."""
    found = snapshot.truncated()
    stored = snapshot.documents(columns[0] for columns in found)
    return [Truncated(*columns[1:], stored[columns[0]].text) for columns in found]


def read_unknown(snapshot: Snapshot) -> list[Unknown]:
    """Return the documents with unknown tokens; see `Index.unknown`."""
    found = snapshot.unknown()
    stored = snapshot.documents(columns[0] for columns in found)
    return [Unknown(*columns[1:], stored[columns[0]].text) for columns in found]
