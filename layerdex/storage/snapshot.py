"""One committed state of an index, as a reader sees it for the length of a question."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Select, select

from layerdex.errors import DocumentNotFoundError, FilterError
from layerdex.records import Document, Rows
from layerdex.storage.catalog.date_fields import DateField
from layerdex.storage.catalog.documents import (
    ReadingCounts,
    count_readings,
    find_field_of,
    read_documents,
    read_metadata_types,
    read_truncated,
    read_unknown,
)
from layerdex.storage.catalog.field_names import Field, lookup_field
from layerdex.storage.catalog.field_texts import live_texts
from layerdex.storage.catalog.filters import FilterCompiler, Where, where_clauses
from layerdex.storage.catalog.labels import count_labels, has_single_label, read_labelled
from layerdex.storage.catalog.metadata import ValueType, encode_value
from layerdex.storage.catalog.no_match import describe_no_match
from layerdex.storage.catalog.row_digests import damage_error
from layerdex.storage.catalog.row_sets import matching_rows
from layerdex.storage.catalog.rows import (
    MAX_PARAMETERS,
    VERSION_COLUMNS,
    Version,
    check_live,
    chunks,
    fetch_versions,
    find_live,
    read_setting,
    read_versions,
    row_array,
)
from layerdex.storage.catalog.schema import DOCUMENT, LIVE
from layerdex.storage.catalog.settings import Commit, check_counts
from layerdex.storage.commit_cache import CommitCache
from layerdex.storage.vectors.codecs import Codec
from layerdex.storage.vectors.layer_file import LayerFile
from layerdex.storage.vectors.layer_vectors import LayerVectors, Segment, n_positions

logger = logging.getLogger(__name__)
Columns = TypeVarTuple("Columns")
Found = TypeVar("Found", bound=Sized)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DocumentTable:
    """The catalog's columns of n documents, without text and metadata; one entry per document.

    ``rows`` ascend. ``content_groups`` holds the same number for documents with the same text,
    and ``content_hashes`` a digest of the text that is the same in every index. ``unreadable`` is
    True where the tokenizer knew no token of a text: its vectors say nothing about it.
    """

    rows: Rows
    ids: list[str]
    labels: list[str | None]
    ordinals: NDArray[np.int64]
    n_characters: NDArray[np.int64]
    unreadable: NDArray[np.bool_]
    content_groups: NDArray[np.int64]
    content_hashes: list[bytes]

    def with_frequent_labels(self, n_at_least: int) -> DocumentTable:
        """Return the documents whose label occurs at least ``n_at_least`` times."""
        counts = Counter(self.labels)
        return self.take([i for i, label in enumerate(self.labels) if counts[label] >= n_at_least])

    def drop_repeats(self) -> DocumentTable:
        """Return the first document, by row, of each text."""
        _, first = np.unique(self.content_groups, return_index=True)
        return self.take(np.sort(first).tolist())

    def take(self, at: Sequence[int]) -> DocumentTable:
        """Return the documents at ascending positions."""
        return DocumentTable(
            rows=self.rows[at],
            ids=[self.ids[i] for i in at],
            labels=[self.labels[i] for i in at],
            ordinals=self.ordinals[at],
            n_characters=self.n_characters[at],
            unreadable=self.unreadable[at],
            content_groups=self.content_groups[at],
            content_hashes=[self.content_hashes[i] for i in at],
        )


class Snapshot:
    """Reads within one transaction; made by `Store.read`.

    A filter that matches no document is logged once as a warning, which says why, and the result is
    empty; where a question needs labelled documents, it is a `FilterError`.
    """

    def __init__(
        self,
        connection: Connection,
        path: Path,
        *,
        commit: Commit,
        cache: CommitCache,
        width: int,
        codec: Codec,
    ) -> None:
        self.connection = connection
        self.path = path
        self.mark = commit.mark
        self.segments: Sequence[Segment] = commit.segments
        # A damaged catalog may have lost segments, and not their dead versions.
        self.n_documents = max(0, n_positions(commit.segments) - len(commit.dead))
        self.dead = commit.dead
        self._cache = cache
        self._width = width
        self._codec = codec
        self._held: dict[tuple[str, int], LayerFile] = {}
        self._segment_rows: dict[str, Rows] = {}
        self._clauses: dict[Where, list[ColumnElement[bool]]] = {}
        self._is_told = False

    def setting(self, key: str) -> Any:
        """Return a setting, or None."""
        # As text: who changes what this returns must not change later answers.
        kept = self.derived(
            ("setting", key), lambda: json.dumps(read_setting(self.connection, key)), len
        )
        return json.loads(kept)

    def layer(self, layer: int) -> LayerVectors:
        """Return the vectors of all live documents at a stored layer."""
        return LayerVectors(
            self.segments,
            n_documents=self.n_documents,
            width=self._width,
            keeps_length=self._codec.keeps_length,
            dead=self.dead,
            rows_of=self.segment_rows,
            open_files=lambda segments: self._open(segments, layer),
        )

    def derived(self, key: Hashable, compute: Callable[[], T], size: Callable[[T], int]) -> T:
        """Return what ``compute`` returns, which all questions of the commit share for a key."""
        return self._cache.derived(self.mark, key, compute, size)

    def hold(self, layers: Iterable[int]) -> None:
        """Open all files of these layers, so that no compaction can remove one.

        Raises FileNotFoundError if a compaction already has.
        """
        for layer in layers:
            files = self._cache.files(self.segments, layer)
            for segment, file in zip(self.segments, files, strict=True):
                self._held[segment.name, layer] = file

    def rows(self, where: Where = ()) -> Rows:
        """Return the rows of the live documents that match every condition, ascending."""
        return self._told(self._rows(where), where)

    def segment_rows(self, segment: Segment) -> Rows:
        """Return the row at each position of a segment, dead versions included."""
        # Kept here too: a newer commit may empty the cache while threads read that may not ask SQL.
        if (rows := self._segment_rows.get(segment.name)) is None:
            rows = self._segment_rows[segment.name] = self._cache.rows(self.connection, segment)
        return rows

    def has_dead(self, segment: Segment) -> bool:
        """Return whether a segment has dead versions."""
        first, last = np.searchsorted(self.dead, [segment.first_row, segment.last_row + 1])
        return bool(first < last)

    def labelled_rows(self, where: Where = ()) -> Rows:
        """Return the rows of the matching live documents that have a label, ascending.

        Without conditions it reads them from the index on labels alone. Neither labels nor rows are
        checked against their digests: check those that end up in an answer.
        """
        labelled = self._kept_rows("labelled", self._read_labelled)
        if not where:
            return labelled
        rows = self._rows(where)
        rows = rows[np.isin(rows, labelled, assume_unique=True)]
        self._check_matches(len(rows), where)
        return rows

    def has_single_label(self) -> bool:
        """Return whether all live documents with a label have the same one, and some have one."""
        return has_single_label(self.connection)

    def document_table(self, where: Where = (), *, labelled: bool = False) -> DocumentTable:
        """Return the table of the matching live documents, or of those that have a label."""
        versions = self._versions(where)
        if labelled:  # only after the check: a lost label is damage, not an unlabelled document
            versions = [version for version in versions if version.label is not None]
            self._check_matches(len(versions), where)
            return _table(versions)
        return _table(self._told(versions, where))

    def table_of(self, rows: Rows) -> DocumentTable:
        """Return the table of the documents at ``rows``, ascending and live."""
        versions: list[Any] = []
        for chunk in chunks(rows.tolist(), MAX_PARAMETERS):
            query = select(*VERSION_COLUMNS).where(DOCUMENT.c.row.in_(chunk))
            ordered = query.order_by(DOCUMENT.c.row)
            versions += fetch_versions(self.connection, ordered, check_live)
        if [version.row for version in versions] != rows.tolist():
            raise damage_error("a document")
        return _table(versions)

    def find_field(self, name: str) -> Field | None:
        """Return the field that a name means, None if no document has it: see `lookup_field`."""
        return lookup_field(self.connection, name)

    def table_by(self, field: Field, where: Where = ()) -> DocumentTable:
        """Return the table of the matching documents that have a field, its value as the label."""
        if field.is_label:
            return self.document_table(where, labelled=True)
        table = _table(self._versions(where))
        self._check_matches(len(table.rows), where)
        if field.column is not None:
            return replace(table, labels=[*table.ids])
        labels: list[str | None] = []
        for chunk in chunks(table.rows.tolist(), MAX_PARAMETERS):
            for version in read_versions(self.connection, DOCUMENT.c.row.in_(chunk)):
                value = version.metadata.get(field.name)
                labels.append(None if value is None else encode_value(value)[1])
        return replace(table, labels=labels).take(
            [i for i, label in enumerate(labels) if label is not None]
        )

    def row_of(self, document_id: str) -> int:
        """Return the row of the live document with this id, or raise `DocumentNotFoundError`."""
        query = select(*VERSION_COLUMNS).where(LIVE, DOCUMENT.c.id == document_id)
        version = self.connection.execute(query).first()
        if version is None:
            raise DocumentNotFoundError(f"no document has the id {document_id!r}")
        check_live(version)
        if version.id != document_id:  # SQLite's index disagrees with the row
            raise damage_error(f"row {version.row}")
        row: int = version.row
        return row

    def versions(self, ids: Sequence[str]) -> dict[str, Version]:
        """Return the live documents among ``ids``, by id, with metadata and without text."""
        return find_live(self.connection, ids)

    def documents(self, rows: Iterable[int]) -> dict[int, Document]:
        """Return the documents at ``rows`` by row; raises `DamagedIndexError` for a lost one."""
        return read_documents(self.connection, rows)

    def in_input_order(self, where: Where = ()) -> Iterator[Document]:
        """Yield the matching live documents in input order."""
        for chunk in chunks(self.rows_in_input_order(where).tolist(), MAX_PARAMETERS):
            documents = self.documents(chunk)
            yield from (documents[row] for row in chunk)

    def rows_in_input_order(self, where: Where = ()) -> Rows:
        """Return the rows of the matching live documents in input order."""
        query = self._matching(select(DOCUMENT.c.row), where).order_by(DOCUMENT.c.ordinal)
        return self._told(row_array(self.connection.scalars(query)), where)

    def metadata_types(self) -> dict[str, set[ValueType]]:
        """Return the types that the values of each metadata field have in live documents."""
        return read_metadata_types(self.connection)

    def find_field_of(self, values: Sequence[str]) -> str | None:
        """Return the metadata field in which documents have the most of these values, or None."""
        return find_field_of(self.connection, values)

    def truncated(self) -> list[tuple[int, str, int, int]]:
        """Return row, id, number of characters and of encoded tokens of each truncated text."""
        return read_truncated(self.connection)

    def unknown(self) -> list[tuple[int, str, int, int, bool]]:
        """Return row, id, tokens, unknown ones and unreadability of each text with unknown ones."""
        return read_unknown(self.connection)

    def count_readings(self) -> ReadingCounts:
        """Count the live documents whose texts the encoder did not read whole."""
        return count_readings(self.connection)

    def count_labels(self) -> dict[str, int]:
        """Return the number of live documents per label, the most frequent label first."""
        return count_labels(self.connection)

    def values_of(self, name: str) -> set[str]:
        """Return the values of a field in live documents, each as it is as a label."""
        field = self.find_field(name)
        return set() if field is None else set(live_texts(self.connection, field))

    def _rows(self, where: Where) -> Rows:
        if not where:
            return self._kept_rows("live", self._read_live)
        return self._kept_rows(where, lambda: self._read_matching(where))

    def _kept_rows(self, key: Hashable, read: Callable[[], Rows]) -> Rows:
        """Return rows that are the same for all of a commit's questions, which share them."""

        def read_once() -> Rows:
            rows = read()
            rows.setflags(write=False)
            return rows

        return self._cache.derived(self.mark, key, read_once, lambda rows: rows.nbytes)

    def _read_live(self) -> Rows:
        # A forged catalog may claim segments of any size.
        check_counts(self.connection, self.segments, self.path)
        rows = np.concatenate([np.empty(0, np.int64), *map(self.segment_rows, self.segments)])
        return np.setdiff1d(rows, self.dead, assume_unique=True)

    def _read_labelled(self) -> Rows:
        live = self._rows(())
        labelled = read_labelled(self.connection, n_positions(self.segments))
        return live[np.isin(live, labelled, assume_unique=True)]

    def _read_matching(self, where: Where) -> Rows:
        compiler = FilterCompiler.of(self.connection, where, self._read_dates)
        return matching_rows(compiler, where, self._rows(()))

    def _read_dates(self, field: Field, form: str | None) -> DateField:
        return self._cache.derived(
            self.mark,
            (field.reference, form),
            lambda: DateField.read(self.connection, field, form),
            DateField.size_bytes,
        )

    def _open(self, segments: Sequence[Segment], layer: int) -> list[LayerFile]:
        held = {segment.name: self._held.get((segment.name, layer)) for segment in segments}
        others = [segment for segment in segments if held[segment.name] is None]
        opened = iter(self._cache.files(others, layer))
        return [held[segment.name] or next(opened) for segment in segments]

    def _matching(self, query: Select[*Columns], where: Where) -> Select[*Columns]:
        if where not in self._clauses:
            self._clauses[where] = where_clauses(self.connection, where, self._read_dates)
        return query.where(LIVE, *self._clauses[where])

    def _versions(self, where: Where) -> Sequence[Any]:
        query = self._matching(select(*VERSION_COLUMNS), where).order_by(DOCUMENT.c.row)
        return fetch_versions(self.connection, query, check_live)

    def _told(self, found: Found, where: Where) -> Found:
        """Return what was found, after a warning if it is nothing because of the filter."""
        if len(found) == 0 and not self._is_told and (reason := self._no_match(where)):
            logger.warning("%s", reason)
            self._is_told = True
        return found

    def _check_matches(self, n_found: int, where: Where) -> None:
        if n_found == 0 and (reason := self._no_match(where)):
            raise FilterError(reason)

    def _no_match(self, where: Where) -> str | None:
        return describe_no_match(self.connection, where) if self.n_documents > 0 else None


def _table(versions: Sequence[Any]) -> DocumentTable:
    groups: dict[bytes, int] = {}
    hashes = [version.content_hash for version in versions]
    return DocumentTable(
        rows=row_array(version.row for version in versions),
        ids=[version.id for version in versions],
        labels=[version.label for version in versions],
        ordinals=row_array(version.ordinal for version in versions),
        n_characters=row_array(version.n_characters for version in versions),
        unreadable=np.array([version.unreadable for version in versions], dtype=np.bool_),
        content_groups=row_array(groups.setdefault(digest, len(groups)) for digest in hashes),
        content_hashes=hashes,
    )
