"""One committed state of an index, as a reader sees it for the length of a question."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, TypeVarTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Select, func, select

from layerdex.errors import DamagedIndexError, DocumentNotFoundError
from layerdex.records import Condition, Document, Rows, Scalar
from layerdex.storage.codecs import Codec
from layerdex.storage.metadata import decode_value
from layerdex.storage.segment import LayerFile
from layerdex.storage.selection import where_clauses
from layerdex.storage.tables import (
    DOCUMENT,
    DOCUMENT_TEXT,
    METADATUM,
    SEGMENT,
    SEGMENT_FILE,
    SETTING,
)
from layerdex.storage.vectors import LayerVectors, Segment, SegmentFile

# SQLite binds at most 32,766 parameters in a statement, older builds 999.
CHUNK = 900

SEGMENT_NAME = re.compile(r"[0-9a-f]{16}")

T = TypeVar("T")
Columns = TypeVarTuple("Columns")

Where = tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the catalog knows of n documents, short of text and metadata; one entry each.

    ``rows`` ascend; ``content_groups`` holds the same number for documents with the same text.
    """

    rows: Rows
    ids: list[str]
    labels: list[str | None]
    ordinals: NDArray[np.int64]
    n_characters: NDArray[np.int64]
    content_groups: NDArray[np.int64]

    def with_frequent_labels(self, n_at_least: int) -> Facts:
        """Return the facts of documents whose label at least this many of them have."""
        counts = Counter(self.labels)
        at = [i for i, label in enumerate(self.labels) if counts[label] >= n_at_least]
        return Facts(
            rows=self.rows[at],
            ids=[self.ids[i] for i in at],
            labels=[self.labels[i] for i in at],
            ordinals=self.ordinals[at],
            n_characters=self.n_characters[at],
            content_groups=self.content_groups[at],
        )


class Snapshot:
    """Reads within one transaction; made by `Store.read`."""

    def __init__(
        self,
        connection: Connection,
        *,
        segments: Sequence[Segment],
        width: int,
        codec: Codec,
        open_file: Callable[[Segment, int], LayerFile],
    ) -> None:
        self.connection = connection
        self._width = width
        self._codec = codec
        self._open_file = open_file
        self.segments = segments
        dead = select(DOCUMENT.c.row).where(~DOCUMENT.c.live).order_by(DOCUMENT.c.row)
        self._dead = row_array(connection.scalars(dead))
        self.n_documents = sum(s.n_documents for s in segments) - len(self._dead)

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
            rows_of=lambda segment: segment_rows(self.connection, segment),
            open_file=lambda segment: self._open_file(segment, layer),
        )

    def rows(self, where: Where = ()) -> Rows:
        """Return the rows of the live documents that match every condition, ascending."""
        query = self._matching(select(DOCUMENT.c.row), where).order_by(DOCUMENT.c.row)
        return row_array(self.connection.scalars(query))

    def facts(self, where: Where = (), *, labelled: bool = False) -> Facts:
        """Return what is known of the matching live documents, or of the labelled ones of them."""
        document = DOCUMENT.c
        query = self._matching(
            select(
                document.row,
                document.id,
                document.label,
                document.ordinal,
                document.n_characters,
                document.content_hash,
            ),
            where,
        ).order_by(document.row)
        if labelled:
            query = query.where(document.label.is_not(None))
        columns = list(zip(*self.connection.execute(query), strict=True))
        rows, ids, labels, ordinals, n_characters, hashes = columns or [()] * 6
        groups: dict[bytes, int] = {}
        return Facts(
            rows=row_array(rows),
            ids=list(ids),
            labels=list(labels),
            ordinals=row_array(ordinals),
            n_characters=row_array(n_characters),
            content_groups=row_array(groups.setdefault(h, len(groups)) for h in hashes),
        )

    def row_of(self, document_id: str) -> int:
        """Return the row of the live document with this id, or raise `DocumentNotFoundError`."""
        query = select(DOCUMENT.c.row).where(DOCUMENT.c.live, DOCUMENT.c.id == document_id)
        row = self.connection.scalar(query)
        if row is None:
            raise DocumentNotFoundError(f"no document has the id {document_id!r}")
        return row

    def documents(self, rows: Iterable[int]) -> dict[int, Document]:
        """Return the documents at ``rows`` by row, in two queries a chunk."""
        found: dict[int, Document] = {}
        for chunk in chunks(list(rows), CHUNK):
            metadata = read_metadata(self.connection, chunk)
            query = _document_columns().where(DOCUMENT.c.row.in_(chunk))
            for row, identifier, label, text in self.connection.execute(query):
                found[row] = Document(row, identifier, text, label, metadata.get(row, {}))
            if lost := [row for row in chunk if row not in found]:
                raise DamagedIndexError(
                    f"the catalog has lost the text of row {lost[0]}: restore it from a backup"
                )
        return found

    def in_input_order(self, where: Where = ()) -> Iterator[Document]:
        """Yield the matching live documents in input order, whole."""
        query = self._matching(select(DOCUMENT.c.row), where).order_by(DOCUMENT.c.ordinal)
        rows = self.connection.scalars(query).all()
        for chunk in chunks(rows, CHUNK):
            documents = self.documents(chunk)
            yield from (documents[row] for row in chunk)

    def truncated(self) -> list[tuple[str, int, int]]:
        """Return id, characters and tokens kept of each live document that was cut."""
        query = (
            select(DOCUMENT.c.id, DOCUMENT.c.n_characters, DOCUMENT.c.n_tokens)
            .where(DOCUMENT.c.truncated, DOCUMENT.c.live)
            .order_by(DOCUMENT.c.ordinal)
        )
        return list(self.connection.execute(query))

    def count_labels(self) -> dict[str, int]:
        """Return how many live documents each label has, the most frequent first."""
        number = func.count()
        query = (
            select(DOCUMENT.c.label, number)
            .where(DOCUMENT.c.live, DOCUMENT.c.label.is_not(None))
            .group_by(DOCUMENT.c.label)
            .order_by(number.desc(), DOCUMENT.c.label)
        )
        return {str(label): n for label, n in self.connection.execute(query)}

    def _matching(self, query: Select[*Columns], where: Where) -> Select[*Columns]:
        clauses: list[ColumnElement[bool]] = where_clauses(self.connection, where)
        return query.where(DOCUMENT.c.live, *clauses)


def read_setting(connection: Connection, key: str) -> Any:
    """Return the value of a setting, or None where there is none."""
    try:
        return connection.scalar(select(SETTING.c.value).where(SETTING.c.key == key))
    except ValueError as error:
        raise DamagedIndexError(
            f"the catalog's setting {key!r} is no JSON: restore the catalog from a backup"
        ) from error


def read_segments(connection: Connection) -> list[Segment]:
    """Return all segments in row order."""
    files: dict[int, dict[int, SegmentFile]] = {}
    columns = (SEGMENT_FILE.c.segment_id, SEGMENT_FILE.c.layer)
    for segment_id, layer, size_bytes, crc32 in connection.execute(
        select(*columns, SEGMENT_FILE.c.size_bytes, SEGMENT_FILE.c.crc32).order_by(*columns)
    ):
        files.setdefault(segment_id, {})[layer] = SegmentFile(size_bytes, crc32)
    query = select(
        SEGMENT.c.id,
        SEGMENT.c.name,
        SEGMENT.c.n_documents,
        SEGMENT.c.first_row,
        SEGMENT.c.last_row,
    ).order_by(SEGMENT.c.first_row)
    segments = [
        Segment(*columns, files=files.get(columns[0], {})) for columns in connection.execute(query)
    ]
    for segment in segments:
        # A name becomes a path, which must not lead out of the index.
        if not SEGMENT_NAME.fullmatch(segment.name):
            raise DamagedIndexError(f"the catalog names a segment {segment.name!a}: restore it")
    return segments


def segment_rows(connection: Connection, segment: Segment) -> Rows:
    """Return the row at each position of a segment, dead ones included."""
    if segment.is_contiguous:
        return np.arange(segment.first_row, segment.last_row + 1, dtype=np.int64)
    within = DOCUMENT.c.row.between(segment.first_row, segment.last_row)
    query = select(DOCUMENT.c.row).where(within).order_by(DOCUMENT.c.row)
    return row_array(connection.scalars(query))


def read_metadata(connection: Connection, rows: Sequence[int]) -> dict[int, dict[str, Scalar]]:
    """Return the metadata of at most `CHUNK` rows, fields in alphabetical order."""
    query = (
        select(METADATUM.c.row, METADATUM.c.name, METADATUM.c.kind, METADATUM.c.text)
        .where(METADATUM.c.row.in_(rows))
        .order_by(METADATUM.c.row, METADATUM.c.name)
    )
    metadata: dict[int, dict[str, Scalar]] = {}
    for row, name, kind, text in connection.execute(query):
        metadata.setdefault(row, {})[name] = decode_value(kind, text)
    return metadata


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield ``items`` in runs of at most ``size``."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def row_array(rows: Iterable[int]) -> Rows:
    """Return integers as an int64 array."""
    return np.fromiter(rows, dtype=np.int64)


def _document_columns() -> Select[int, str, str | None, str]:
    return select(DOCUMENT.c.row, DOCUMENT.c.id, DOCUMENT.c.label, DOCUMENT_TEXT.c.text).join(
        DOCUMENT_TEXT, DOCUMENT_TEXT.c.row == DOCUMENT.c.row
    )
