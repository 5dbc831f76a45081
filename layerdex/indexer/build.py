"""The pipeline: documents to windows, windows to vectors, each window one commit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields

from layerdex.errors import RowError
from layerdex.indexer.corpus import RunIds, content_hash
from layerdex.indexer.progress import RunProgress
from layerdex.records import (
    UNSET,
    Encoded,
    Encoder,
    OnError,
    Rejected,
    ReportingEncoder,
    Scalar,
    SourceDocument,
)
from layerdex.storage.changes import NewVersion, Relabelling
from layerdex.storage.rows import Version
from layerdex.storage.store import Store
from layerdex.storage.writer import Writer

OnReject = Callable[[Rejected], None]

# A window also ends here, so that a run of very long texts stays within bounded memory.
_WINDOW_CHARACTERS = 8_000_000


@dataclass(slots=True)
class BuildReport:
    """What became of the rows of a run: ``new + updated + unchanged + rejected == read``.

    ``n_encoded`` documents went through the encoder (an update of only label or metadata does
    not); ``n_truncated`` of these did not fit the maximum length.
    """

    n_read: int = 0
    n_new: int = 0
    n_updated: int = 0
    n_unchanged: int = 0
    n_rejected: int = 0
    n_encoded: int = 0
    n_truncated: int = 0

    def __add__(self, other: BuildReport) -> BuildReport:
        names = [one.name for one in fields(self)]
        return BuildReport(*(getattr(self, name) + getattr(other, name) for name in names))


@dataclass(slots=True)
class _Changes:
    """A window sorted into what has to be done."""

    fresh: list[tuple[str, SourceDocument, bytes, Version | None]] = field(default_factory=list)
    relabellings: list[Relabelling] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    n_unchanged: int = 0


def build(
    store: Store,
    documents: Iterable[SourceDocument | Rejected],
    load_encoder: Callable[[], Encoder],
    *,
    on_error: OnError = OnError.ABORT,
    on_reject: OnReject | None = None,
    progress: RunProgress | None = None,
    lock_timeout_s: float = 10.0,
) -> BuildReport:
    """Add documents to an index, window by window; what is there unchanged is skipped.

    ``load_encoder`` is called at the first document that needs encoding. Raises `RowError` at
    the first bad row unless ``on_error`` is skip; windows committed before stay.
    """
    progress = RunProgress() if progress is None else progress
    total = BuildReport()
    with store.write(lock_timeout_s=lock_timeout_s) as writer, RunIds() as ids:
        for window in _windows(documents, store.settings.window):
            changes = _sort_window(window, ids, writer)
            for rejected in changes.rejected:
                if on_error is OnError.ABORT:
                    raise RowError(str(rejected))
                if on_reject is not None:
                    on_reject(rejected)
            progress.begin(len(window))
            total += _commit(
                changes, writer, store.layers, load_encoder, progress, n_read=len(window)
            )
            progress.commit()
    return total


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


def _sort_window(
    window: Sequence[SourceDocument | Rejected], ids: RunIds, writer: Writer
) -> _Changes:
    changes = _Changes()
    documents = [one for one in window if isinstance(one, SourceDocument)]
    hashes = [content_hash(document.text) for document in documents]
    assigned = ids.assign(list(zip(documents, hashes, strict=True)))
    stored = writer.find([one for one in assigned if isinstance(one, str)])
    given = zip(hashes, assigned, strict=True)
    for document in window:
        if isinstance(document, Rejected):
            changes.rejected.append(document)
            continue
        digest, identifier = next(given)
        if isinstance(identifier, Rejected):
            changes.rejected.append(identifier)
            continue
        before = stored.get(identifier)
        if before is None or before.content_hash != digest:
            changes.fresh.append((identifier, document, digest, before))
        elif (change := _relabelling(document, before)) is not None:
            changes.relabellings.append(change)
        else:
            changes.n_unchanged += 1
    return changes


def _commit(
    changes: _Changes,
    writer: Writer,
    layers: tuple[int, ...],
    load_encoder: Callable[[], Encoder],
    progress: RunProgress,
    *,
    n_read: int,
) -> BuildReport:
    n_truncated = 0
    if changes.fresh:
        texts = [document.text for _, document, _, _ in changes.fresh]
        n_others = n_read - len(texts)
        encoded = _encode(load_encoder(), texts, layers, lambda n: progress.tell(n_others + n))
        n_truncated = int(encoded.truncated.sum())
        facts = zip(changes.fresh, encoded.n_tokens, encoded.truncated, strict=True)
        versions = [
            _version(*fresh, n_tokens=int(n_tokens), truncated=bool(truncated))
            for fresh, n_tokens, truncated in facts
        ]
        writer.commit(versions, encoded.vectors, changes.relabellings)
    elif changes.relabellings:
        writer.relabel(changes.relabellings)
    n_replaced = sum(before is not None for *_, before in changes.fresh)
    return BuildReport(
        n_read=n_read,
        n_new=len(changes.fresh) - n_replaced,
        n_updated=n_replaced + len(changes.relabellings),
        n_unchanged=changes.n_unchanged,
        n_rejected=len(changes.rejected),
        n_encoded=len(changes.fresh),
        n_truncated=n_truncated,
    )


def _encode(
    encoder: Encoder, texts: list[str], layers: tuple[int, ...], on_progress: Callable[[int], None]
) -> Encoded:
    if isinstance(encoder, ReportingEncoder):
        return encoder.encode(texts, layers, on_progress=on_progress)
    return encoder.encode(texts, layers)


def _version(
    identifier: str,
    document: SourceDocument,
    digest: bytes,
    before: Version | None,
    *,
    n_tokens: int,
    truncated: bool,
) -> NewVersion:
    label, metadata = _merge(document, before)
    return NewVersion(
        id=identifier,
        text=document.text,
        label=label,
        metadata=metadata,
        content_hash=digest,
        n_tokens=n_tokens,
        truncated=truncated,
        replaces=before,
    )


def _relabelling(document: SourceDocument, before: Version) -> Relabelling | None:
    label, metadata = _merge(document, before)
    # 1 == 1.0 == True in Python, but not in an export.
    is_same = [(k, type(v), v) for k, v in sorted(metadata.items())] == [
        (k, type(v), v) for k, v in sorted(before.metadata.items())
    ]
    if label == before.label and is_same:
        return None
    return Relabelling(before, label, metadata)


def _merge(
    document: SourceDocument, before: Version | None
) -> tuple[str | None, dict[str, Scalar]]:
    """Keep what was not given, and clear what was given as null."""
    old_label = None if before is None else before.label
    label = old_label if document.label is UNSET else document.label
    merged = {**({} if before is None else before.metadata), **document.metadata}
    return label, {name: value for name, value in merged.items() if value is not None}
