"""What the first documents of a run decide: whether their ids fit, and what an index records."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field

from layerdex.errors import IndexMismatchError
from layerdex.indexer.pipeline.run_ids import is_derived
from layerdex.indexer.pipeline.window import WindowChanges
from layerdex.indexer.readers.fields import Fields
from layerdex.records import UNSET, Rejected, SourceDocument
from layerdex.storage.catalog.source_fields import (
    DATE_FORMATS,
    SOURCE_FIELDS,
    SourceFields,
    read_date_formats,
    read_source_fields,
)
from layerdex.storage.writer import Writer

LiveIds = Callable[[], Generator[tuple[str, bytes]]]
"""Returns the id of each live document, with the hash of its text."""


@dataclass(frozen=True, slots=True)
class RunNames:
    """What a run says of its sources: fields, new forms of dates, and whether ids may mix."""

    fields: Fields = field(default_factory=Fields)
    date_formats: Mapping[str, str] = field(default_factory=dict)
    mixes_ids: bool = False


class RunStart:
    """Checks the first documents of a run; see `check_ids`."""

    def __init__(self, live_ids: LiveIds, *, may_mix: bool) -> None:
        self._live_ids = live_ids
        self._is_done = may_mix

    def check(self, changes: WindowChanges) -> None:
        """Check a window, if it is the first with a document."""
        if not self._is_done and changes.n_accepted:
            check_ids(changes, self._live_ids)
            self._is_done = True


class Recorder:
    """Records the names of a run with its first commit, where the index has none."""

    def __init__(self, writer: Writer, names: RunNames) -> None:
        with writer.transaction() as connection:
            stored = read_source_fields(connection)
            date_formats = read_date_formats(connection)
        self._writer = writer
        self._fields = names.fields if stored is None else None
        if merged := changed_formats(date_formats, names.date_formats):
            writer.set_with_next(DATE_FORMATS, merged)

    def note(self, rows: Iterable[SourceDocument | Rejected]) -> None:
        """Take the names from the first rows of which one is a document."""
        if self._fields is None:
            return
        named = name_source_fields(self._fields, rows)
        if named is not None:
            self._writer.set_with_next(SOURCE_FIELDS, named.to_setting())
            self._fields = None


def changed_formats(stored: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str] | None:
    """Return all forms of dates if new ones change any, else None."""
    merged = {**stored, **new}
    return None if merged == stored else merged


def check_ids(changes: WindowChanges, live_ids: LiveIds) -> None:
    """Raise `IndexMismatchError` if no id of a window comes about as those of the index do.

    An id is made from the text, or given, if only in a rejected row. A window that has a document
    of the index fits it, and so does any in an empty index.
    """
    new = [text for text in changes.pending if text.before is None]
    if len(new) < changes.n_accepted:
        return
    kinds = {is_derived(text.id, text.content_hash) for text in new}
    if any(isinstance(rejected.id, str) for rejected in changes.rejected):
        kinds.add(False)  # the source has ids
    stored = None
    with closing(live_ids()) as documents:
        for stored, content_hash in documents:
            if is_derived(stored, content_hash) in kinds:
                return
    if stored is None:
        return
    if True in kinds:
        raise IndexMismatchError(
            "these documents have no ids and would get them from their texts, while those of the "
            f"index have ids of their own, such as {stored!r}: name the field of the ids with "
            "--id-field, or add --mix-ids to keep documents of both kinds"
        )
    raise IndexMismatchError(
        f"these documents have ids of their own, such as {new[0].id!r}, while those of the index "
        "were made from their texts, so that the same documents would be there twice: make a new "
        "index, or add --mix-ids to keep documents of both kinds"
    )


def name_source_fields(
    fields: Fields, rows: Iterable[SourceDocument | Rejected]
) -> SourceFields | None:
    """Return the names to record, by what the first rows have; None if none is a document."""
    documents = [row for row in rows if isinstance(row, SourceDocument)]
    if not documents:
        return None
    has_id = any(document.id is not None for document in documents)
    has_label = any(document.label is not UNSET for document in documents)
    return SourceFields(
        fields.text,
        fields.id_name if has_id else None,
        fields.label_name if has_label else None,
        None if fields.metadata is None else tuple(fields.metadata),
    )
