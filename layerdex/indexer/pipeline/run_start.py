"""What the first documents of a run decide: whether their ids fit, and what an index records."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from layerdex.errors import IndexMismatchError
from layerdex.indexer.pipeline.run_ids import is_derived
from layerdex.indexer.pipeline.window import WindowChanges
from layerdex.indexer.readers.common_names import DEFAULT_TEXT_NAME
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
            self._stored = read_source_fields(connection)
            date_formats = read_date_formats(connection)
        self._writer = writer
        self._names = names
        self._is_first = self._stored is None or not writer.count()
        self._is_done = False
        if merged := changed_formats(date_formats, names.date_formats):
            writer.set_with_next(DATE_FORMATS, merged)

    def note(self, rows: Iterable[SourceDocument | Rejected]) -> None:
        """Take the names from the first rows of which one is a document."""
        documents = [row for row in rows if isinstance(row, SourceDocument)]
        if self._is_done or not documents:
            return
        self._is_done = True
        named = asked = name_asked(self._names.fields)
        if self._is_first:
            named = name_found(self._names.fields, documents)
        elif self._names.mixes_ids:
            named = replace(asked, id=None)  # later sources of these documents have no ids
        merged = merge_names(self._stored, named, is_first=self._is_first)
        if merged != self._stored:
            self._writer.set_with_next(SOURCE_FIELDS, merged.to_setting())


def changed_formats(stored: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str] | None:
    """Return all forms of dates if new ones change any, else None."""
    # The newest last, as the last of two names of one field holds.
    merged = {**{name: form for name, form in stored.items() if name not in new}, **new}
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


def name_asked(fields: Fields) -> SourceFields:
    """Return the names that a run was given, without those that the index has stored."""
    asked = {part for part, _ in fields.required_names if not fields.whose_name(part)}
    return SourceFields(
        fields.text,
        fields.id_name if "id" in asked else None,
        fields.label_name if "label" in asked else None,
        None if fields.metadata is None else tuple(fields.metadata),
    )


def name_found(fields: Fields, documents: Sequence[SourceDocument]) -> SourceFields:
    """Return the names that a run was given, and the plain ones that its first documents have."""
    asked = name_asked(fields)
    has_id = any(document.id is not None for document in documents)
    has_label = any(document.label is not UNSET for document in documents)
    return replace(
        asked,
        id=asked.id or (fields.id_name if has_id else None),
        label=asked.label or (fields.label_name if has_label else None),
    )


def merge_names(
    stored: SourceFields | None, named: SourceFields, *, is_first: bool
) -> SourceFields:
    """Return the names to store: those that are stored come before those of a run.

    Text and metadata always have a value, which only the first documents of an index can change:
    the plain name, and all other fields.
    """
    if stored is None:
        return named
    merged = replace(stored, id=stored.id or named.id, label=stored.label or named.label)
    if not is_first:
        return merged
    return replace(
        merged,
        text=named.text if stored.text == DEFAULT_TEXT_NAME else stored.text,
        metadata=named.metadata if stored.metadata is None else stored.metadata,
    )
