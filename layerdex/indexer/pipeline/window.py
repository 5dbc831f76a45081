"""A window of rows, classified by what has to be done with each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from layerdex.choices import Change
from layerdex.indexer.pipeline.run_ids import RunIds, content_hash
from layerdex.records import UNSET, Blank, Rejected, Scalar, SourceDocument
from layerdex.storage.catalog.changes import FieldUpdate, NewVersion
from layerdex.storage.catalog.rows import Version

Find = Callable[[Sequence[str]], dict[str, Version]]
"""Returns the live documents with the given ids, by id."""


@dataclass(frozen=True, slots=True)
class PendingText:
    """A document whose text must be encoded; ``before`` is the version that it replaces."""

    id: str
    document: SourceDocument
    content_hash: bytes
    before: Version | None

    def to_version(
        self, *, n_tokens: int, truncated: bool, n_unknown: int | None, unreadable: bool
    ) -> NewVersion:
        """Return the version to store, once the text is encoded."""
        label, metadata = _merge(self.document, self.before)
        return NewVersion(
            id=self.id,
            text=self.document.text,
            label=label,
            metadata=metadata,
            content_hash=self.content_hash,
            n_tokens=n_tokens,
            truncated=truncated,
            n_unknown=n_unknown,
            unreadable=unreadable,
            replaces=self.before,
        )


@dataclass(slots=True)
class WindowChanges:
    """The rows of a window, by what has to be done with them."""

    pending: list[PendingText] = field(default_factory=list)
    field_updates: list[FieldUpdate] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    blank: list[Blank] = field(default_factory=list)
    n_unchanged: int = 0
    n_repeated: int = 0

    @property
    def n_accepted(self) -> int:
        """The number of rows that are documents."""
        return len(self.pending) + len(self.field_updates) + self.n_unchanged

    @property
    def n_rows(self) -> int:
        """The number of all rows."""
        return self.n_accepted + len(self.blank) + self.n_repeated + len(self.rejected)

    @property
    def keeping(self) -> list[Rejected]:
        """The rows that change no document, but keep the one that they stand for."""
        return [*self.rejected, *self.blank]

    def __iter__(self) -> Iterator[tuple[Change, str]]:
        """Yield the change and the id of each document that is new or updated."""
        for text in self.pending:
            yield Change.NEW if text.before is None else Change.UPDATED, text.id
        for update in self.field_updates:
            yield Change.UPDATED, update.before.id


def classify_window(
    window: Sequence[SourceDocument | Rejected], ids: RunIds, find: Find
) -> WindowChanges:
    """Assign ids to a window's documents, and compare each with its version in the index."""
    changes = WindowChanges()
    documents = [row for row in window if isinstance(row, SourceDocument)]
    hashes = [content_hash(document.text) for document in documents]
    assigned = ids.assign(list(zip(documents, hashes, strict=True)))
    stored = find([identifier for identifier in assigned if isinstance(identifier, str)])
    hashed_ids = zip(hashes, assigned, strict=True)
    for document in window:
        if isinstance(document, Blank):
            changes.blank.append(document)
            continue
        if isinstance(document, Rejected):
            changes.rejected.append(document)
            continue
        digest, identifier = next(hashed_ids)
        if identifier is None:
            changes.n_repeated += 1
            continue
        if isinstance(identifier, Rejected):
            changes.rejected.append(identifier)
            continue
        before = stored.get(identifier)
        if before is None or before.content_hash != digest:
            changes.pending.append(PendingText(identifier, document, digest, before))
        elif (change := _field_update(document, before)) is not None:
            changes.field_updates.append(change)
        else:
            changes.n_unchanged += 1
    return changes


def _field_update(document: SourceDocument, before: Version) -> FieldUpdate | None:
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
    """Return label and metadata: absent fields keep their values, null clears them."""
    old_label = None if before is None else before.label
    label = old_label if document.label is UNSET else document.label
    merged = {**({} if before is None else before.metadata), **document.metadata}
    return label, {name: value for name, value in merged.items() if value is not None}
