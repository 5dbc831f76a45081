"""One committed state of an index, as a reader sees it for the length of a question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, TypeVarTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Select, func, select

from layerdex.errors import DocumentNotFoundError
from layerdex.records import Condition, Document, Rows
from layerdex.storage.catalog.filters import where_clauses
from layerdex.storage.catalog.metadata import Kind, encode_value
from layerdex.storage.catalog.row_digests import damaged
from layerdex.storage.catalog.rows import (
    CHUNK,
    VERSION_COLUMNS,
    check_live,
    chunks,
    fetch_versions,
    read_live,
    read_setting,
    read_versions,
    row_array,
)
from layerdex.storage.catalog.schema import DOCUMENT, DOCUMENT_TEXT, LIVE, METADATUM, TRUNCATED
from layerdex.storage.vectors.codecs import Codec
from layerdex.storage.vectors.layer_file import LayerFile
from layerdex.storage.vectors.layer_vectors import LayerVectors, Segment

Columns = TypeVarTuple("Columns")

Where = tuple[Condition, ...]

CommitMark = tuple[int, str | None]
"""A commit's number and random token; indexes that nothing was committed to have no token."""


@dataclass(frozen=True, slots=True)
class DocumentTable:
    """What the catalog knows of n documents, short of text and metadata; one entry each.

    ``rows`` ascend; ``content_groups`` holds the same number for documents with the same text,
    and ``content_hashes`` a digest of it that is the same in every index.
    """

    rows: Rows
    ids: list[str]
    labels: list[str | None]
    ordinals: NDArray[np.int64]
    n_characters: NDArray[np.int64]
    content_groups: NDArray[np.int64]
    content_hashes: list[bytes]

    def with_frequent_labels(self, n_at_least: int) -> DocumentTable:
        """Return the record of documents whose label at least this many of them have."""
        counts = Counter(self.labels)
        return self.take([i for i, one in enumerate(self.labels) if counts[one] >= n_at_least])

    def drop_repeats(self) -> DocumentTable:
        """Return the record of the first document, by row, of each text."""
        _, first = np.unique(self.content_groups, return_index=True)
        return self.take(np.sort(first).tolist())

    def take(self, at: Sequence[int]) -> DocumentTable:
        """Return the record of the documents at ascending places."""
        return DocumentTable(
            rows=self.rows[at],
            ids=[self.ids[i] for i in at],
            labels=[self.labels[i] for i in at],
            ordinals=self.ordinals[at],
            n_characters=self.n_characters[at],
            content_groups=self.content_groups[at],
            content_hashes=[self.content_hashes[i] for i in at],
        )


class Snapshot:
    """Reads within one transaction; made by `Store.read`."""

    def __init__(
        self,
        connection: Connection,
        *,
        mark: CommitMark,
        segments: Sequence[Segment],
        dead: Rows,
        width: int,
        codec: Codec,
        rows_of: Callable[[Connection, Segment], Rows],
        open_file: Callable[[Segment, int], LayerFile],
    ) -> None:
        self.connection = connection
        self.mark = mark
        self._width = width
        self._codec = codec
        self._rows_of = rows_of
        self._open_file = open_file
        self._held: dict[tuple[str, int], LayerFile] = {}
        self.segments = segments
        self._dead = dead
        self.n_documents = sum(s.n_documents for s in segments) - len(dead)

    def setting(self, key: str) -> Any:
        """Return a setting, or None."""
        return read_setting(self.connection, key)

    def layer(self, layer: int) -> LayerVectors:
        """Return the vectors of all live documents at a stored layer."""
        return LayerVectors(
            self.segments,
            n_documents=self.n_documents,
            width=self._width,
            keeps_length=self._codec.keeps_length,
            dead=self._dead,
            rows_of=lambda segment: self._rows_of(self.connection, segment),
            open_file=lambda segment: self._open(segment, layer),
        )

    def hold(self, layers: Iterable[int]) -> None:
        """Open all files of these layers, so that no compaction can take one away.

        Raises FileNotFoundError where one has.
        """
        for layer in layers:
            for segment in self.segments:
                self._held[segment.name, layer] = self._open_file(segment, layer)

    def _open(self, segment: Segment, layer: int) -> LayerFile:
        held = self._held.get((segment.name, layer))
        return self._open_file(segment, layer) if held is None else held

    def rows(self, where: Where = ()) -> Rows:
        """Return the rows of the live documents that match every condition, ascending."""
        query = self._matching(select(DOCUMENT.c.row), where).order_by(DOCUMENT.c.row)
        return row_array(self.connection.scalars(query))

    def labelled_rows(self, where: Where = ()) -> Rows:
        """Return the rows of the matching live documents that have a label, ascending."""
        query = self._matching(select(DOCUMENT.c.row), where)
        labelled = query.where(DOCUMENT.c.label.is_not(None)).order_by(DOCUMENT.c.row)
        return row_array(self.connection.scalars(labelled))

    def has_single_label(self) -> bool:
        """Say whether all labelled live documents have the same label."""
        query = select(func.min(DOCUMENT.c.label), func.max(DOCUMENT.c.label)).where(LIVE)
        lowest, highest = self.connection.execute(query).one()
        return lowest is not None and lowest == highest

    def document_table(self, where: Where = (), *, labelled: bool = False) -> DocumentTable:
        """Return what is known of the matching live documents, or of the labelled ones of them."""
        query = self._matching(select(*VERSION_COLUMNS), where).order_by(DOCUMENT.c.row)
        versions = fetch_versions(self.connection, query, check_live)
        if labelled:  # only now: a label that was lost is damage, not a document without one
            versions = [version for version in versions if version.label is not None]
        return _table(versions)

    def table_of(self, rows: Rows) -> DocumentTable:
        """Return what is known of the documents at ``rows``, ascending and live."""
        versions: list[Any] = []
        for chunk in chunks(rows.tolist(), CHUNK):
            query = select(*VERSION_COLUMNS).where(DOCUMENT.c.row.in_(chunk))
            ordered = query.order_by(DOCUMENT.c.row)
            versions += fetch_versions(self.connection, ordered, check_live)
        if [version.row for version in versions] != rows.tolist():
            raise damaged("a document")
        return _table(versions)

    def table_by(self, field: str, where: Where = ()) -> DocumentTable:
        """Return the table of the matching documents that have a field, its value as the label."""
        table = self.document_table(where)
        labels: list[str | None] = []
        for chunk in chunks(table.rows.tolist(), CHUNK):
            for version in read_versions(self.connection, DOCUMENT.c.row.in_(chunk)):
                value = version.metadata.get(field)
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
        if version.id != document_id:  # as an index of the catalog said
            raise damaged(f"row {version.row}")
        row: int = version.row
        return row

    def documents(self, rows: Iterable[int]) -> dict[int, Document]:
        """Return the documents at ``rows`` by row; raises `DamagedIndexError` for a lost one."""
        found: dict[int, Document] = {}
        for chunk in chunks(list(rows), CHUNK):
            query = select(DOCUMENT_TEXT.c.row, DOCUMENT_TEXT.c.text)
            within = DOCUMENT_TEXT.c.row.in_(chunk)
            texts = dict(self.connection.execute(query.where(within)).all())
            for one in read_live(self.connection, DOCUMENT.c.row.in_(chunk)):
                text = texts.get(one.row)
                if isinstance(text, str) and sha256(text.encode()).digest() == one.content_hash:
                    found[one.row] = Document(one.row, one.id, text, one.label, one.metadata)
            if lost := [row for row in chunk if row not in found]:
                raise damaged(f"the text of row {lost[0]}")
        return found

    def in_input_order(self, where: Where = ()) -> Iterator[Document]:
        """Yield the matching live documents in input order, whole."""
        for chunk in chunks(self.rows_in_input_order(where).tolist(), CHUNK):
            documents = self.documents(chunk)
            yield from (documents[row] for row in chunk)

    def rows_in_input_order(self, where: Where = ()) -> Rows:
        """Return the rows of the matching live documents in input order."""
        query = self._matching(select(DOCUMENT.c.row), where).order_by(DOCUMENT.c.ordinal)
        return row_array(self.connection.scalars(query))

    def metadata_kinds(self) -> dict[str, set[Kind]]:
        """Return the types that the values of each metadata field have in live documents."""
        query = select(METADATUM.c.name, METADATUM.c.kind).distinct()
        live = query.join(DOCUMENT, DOCUMENT.c.row == METADATUM.c.row).where(LIVE)
        kinds: dict[str, set[Kind]] = {}
        for name, kind in self.connection.execute(live.order_by(METADATUM.c.name)):
            try:
                kinds.setdefault(name, set()).add(Kind(kind))
            except ValueError as error:
                raise damaged("the type of a metadata field") from error
        return kinds

    def truncated(self) -> list[tuple[str, int, int]]:
        """Return id, characters and tokens kept of each live document that was cut."""
        query = select(*VERSION_COLUMNS).where(TRUNCATED, LIVE).order_by(DOCUMENT.c.ordinal)
        found = fetch_versions(self.connection, query, check_live)
        if not all(one.truncated for one in found):  # SQLite's index says so, and the rows do not
            raise damaged("the list of cut texts")
        return [(one.id, one.n_characters, one.n_tokens) for one in found]

    def count_labels(self) -> dict[str, int]:
        """Return how many live documents each label has, the most frequent first."""
        number = func.count()
        query = (
            select(DOCUMENT.c.label, number)
            .where(LIVE, DOCUMENT.c.label.is_not(None))
            .group_by(DOCUMENT.c.label)
            .order_by(number.desc(), DOCUMENT.c.label)
        )
        return {str(label): n for label, n in self.connection.execute(query)}

    def _matching(self, query: Select[*Columns], where: Where) -> Select[*Columns]:
        clauses: list[ColumnElement[bool]] = where_clauses(self.connection, where)
        return query.where(LIVE, *clauses)


def _table(versions: Sequence[Any]) -> DocumentTable:
    groups: dict[bytes, int] = {}
    return DocumentTable(
        rows=row_array(one.row for one in versions),
        ids=[one.id for one in versions],
        labels=[one.label for one in versions],
        ordinals=row_array(one.ordinal for one in versions),
        n_characters=row_array(one.n_characters for one in versions),
        content_groups=row_array(
            groups.setdefault(one.content_hash, len(groups)) for one in versions
        ),
        content_hashes=[one.content_hash for one in versions],
    )
