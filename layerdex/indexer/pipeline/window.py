"""A window of rows, sorted into what has to be done with each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from layerdex.choices import Change
from layerdex.indexer.pipeline.run_ids import RunIds, content_hash
from layerdex.records import UNSET, Rejected, Scalar, SourceDocument
from layerdex.storage.catalog.changes import FieldUpdate, NewVersion
from layerdex.storage.catalog.rows import Version

Find = Callable[[Sequence[str]], dict[str, Version]]
"""Returns the live documents among ids."""


@dataclass(slots=True)
class WindowChanges:
    """A window sorted into what has to be done."""

    fresh: list[tuple[str, SourceDocument, bytes, Version | None]] = field(default_factory=list)
    field_updates: list[FieldUpdate] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    n_unchanged: int = 0

    @property
    def n_accepted(self) -> int:
        """The rows that are documents."""
        return len(self.fresh) + len(self.field_updates) + self.n_unchanged

    @property
    def n_rows(self) -> int:
        """The rows of the window, bad ones included."""
        return self.n_accepted + len(self.rejected)

    def __iter__(self) -> Iterator[tuple[Change, str]]:
        """Yield what becomes of each document that is new or changed, and its id."""
        for identifier, _, _, before in self.fresh:
            yield Change.NEW if before is None else Change.UPDATED, identifier
        for one in self.field_updates:
            yield Change.UPDATED, one.before.id


def sort_window(
    window: Sequence[SourceDocument | Rejected], ids: RunIds, find: Find
) -> WindowChanges:
    """Give a window's documents their ids, and compare each with what the index has of it."""
    changes = WindowChanges()
    documents = [one for one in window if isinstance(one, SourceDocument)]
    hashes = [content_hash(document.text) for document in documents]
    assigned = ids.assign(list(zip(documents, hashes, strict=True)))
    stored = find([one for one in assigned if isinstance(one, str)])
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
            changes.field_updates.append(change)
        else:
            changes.n_unchanged += 1
    return changes


def new_version(
    identifier: str,
    document: SourceDocument,
    digest: bytes,
    before: Version | None,
    *,
    n_tokens: int,
    truncated: bool,
) -> NewVersion:
    """Return the version to store of a document that was encoded."""
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


def _relabelling(document: SourceDocument, before: Version) -> FieldUpdate | None:
    label, metadata = _merge(document, before)
    # 1 == 1.0 == True in Python, but not in an export.
    is_same = [(k, type(v), v) for k, v in sorted(metadata.items())] == [
        (k, type(v), v) for k, v in sorted(before.metadata.items())
    ]
    if label == before.label and is_same:
        return None
    return FieldUpdate(before, label, metadata)


def _merge(
    document: SourceDocument, before: Version | None
) -> tuple[str | None, dict[str, Scalar]]:
    """Keep what was not given, and clear what was given as null."""
    old_label = None if before is None else before.label
    label = old_label if document.label is UNSET else document.label
    merged = {**({} if before is None else before.metadata), **document.metadata}
    return label, {name: value for name, value in merged.items() if value is not None}
