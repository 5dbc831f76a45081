"""Reading documents with their texts, and lists over all live documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeGuard

from sqlalchemy import Connection, func, select

from layerdex.records import Document
from layerdex.storage.catalog.metadata import ValueType
from layerdex.storage.catalog.row_digests import damage_error
from layerdex.storage.catalog.rows import (
    MAX_PARAMETERS,
    VERSION_COLUMNS,
    check_live,
    chunks,
    fetch_versions,
    read_metadata,
)
from layerdex.storage.catalog.schema import (
    DOCUMENT,
    DOCUMENT_TEXT,
    LIVE,
    METADATUM,
    TRUNCATED,
    UNKNOWN,
)


def read_documents(connection: Connection, rows: Iterable[int]) -> dict[int, Document]:
    """Return the live documents at ``rows`` by row.

    Raises `DamagedIndexError` for a document that is lost or whose text has changed.
    """
    query = select(*VERSION_COLUMNS, DOCUMENT_TEXT.c.text).outerjoin_from(
        DOCUMENT, DOCUMENT_TEXT, DOCUMENT_TEXT.c.row == DOCUMENT.c.row
    )

    def check(columns: Sequence[Any]) -> None:
        check_live(columns[:-1])

    documents: dict[int, Document] = {}
    for chunk in chunks(sorted(rows), MAX_PARAMETERS):  # neighbors are often in the same page
        versions = fetch_versions(connection, query.where(DOCUMENT.c.row.in_(chunk)), check)
        metadata = read_metadata(connection, versions)
        for version in versions:
            row, text = version.row, version.text
            if is_text_of(text, version.content_hash):
                documents[row] = Document(row, version.id, text, version.label, metadata[row])
        if lost := [row for row in chunk if row not in documents]:
            raise damage_error(f"the text of row {lost[0]}")
    return documents


def is_text_of(text: object, content_hash: bytes) -> TypeGuard[str]:
    """Return whether ``text`` is the text with this content hash."""
    return isinstance(text, str) and sha256(text.encode()).digest() == content_hash


def read_metadata_types(connection: Connection) -> dict[str, set[ValueType]]:
    """Return the types that the values of each metadata field have in live documents."""
    query = select(METADATUM.c.name, METADATUM.c.kind).distinct()
    live = query.join(DOCUMENT, DOCUMENT.c.row == METADATUM.c.row).where(LIVE)
    types: dict[str, set[ValueType]] = {}
    for name, value_type in connection.execute(live.order_by(METADATUM.c.name)):
        try:
            types.setdefault(name, set()).add(ValueType(value_type))
        except ValueError as error:
            raise damage_error("the type of a metadata field") from error
    return types


def find_field_of(connection: Connection, values: Sequence[str]) -> str | None:
    """Return the metadata field in which live documents have the most of these values, or None."""
    counts: Counter[str] = Counter()
    for chunk in chunks(values, MAX_PARAMETERS):
        n_values = func.count(METADATUM.c.text.distinct())
        query = select(METADATUM.c.name, n_values).where(METADATUM.c.text.in_(chunk))
        live = query.join(DOCUMENT, DOCUMENT.c.row == METADATUM.c.row).where(LIVE)
        counts.update(dict(connection.execute(live.group_by(METADATUM.c.name)).all()))
    return max(sorted(counts), key=counts.__getitem__, default=None)


@dataclass(frozen=True, slots=True)
class ReadingCounts:
    """Live texts that were truncated, that have unknown tokens, and that have no others."""

    n_truncated: int
    n_unknown: int
    n_unreadable: int


def count_readings(connection: Connection) -> ReadingCounts:
    """Count texts that the encoder did not read whole, by SQLite's indexes of them.

    Their rows are not checked: see `read_truncated` and `read_unknown`.
    """
    counts = (
        connection.scalar(select(func.count()).select_from(DOCUMENT).where(LIVE, *clauses))
        for clauses in ((TRUNCATED,), (UNKNOWN,), (UNKNOWN, DOCUMENT.c.unreadable))
    )
    return ReadingCounts(*(count or 0 for count in counts))


def read_truncated(connection: Connection) -> list[tuple[int, str, int, int]]:
    """Return row, id, number of characters and of encoded tokens of each truncated live text."""
    query = select(*VERSION_COLUMNS).where(TRUNCATED, LIVE).order_by(DOCUMENT.c.ordinal)
    versions = fetch_versions(connection, query, check_live)
    if not all(version.truncated for version in versions):  # SQLite's index says so, not the row
        raise damage_error("the list of truncated texts")
    return [(v.row, v.id, v.n_characters, v.n_tokens) for v in versions]


def read_unknown(connection: Connection) -> list[tuple[int, str, int, int, bool]]:
    """Return row, id, tokens, unknown ones and unreadability of live texts with unknown tokens."""
    query = select(*VERSION_COLUMNS).where(UNKNOWN, LIVE).order_by(DOCUMENT.c.ordinal)
    versions = fetch_versions(connection, query, check_live)
    if not all(version.n_unknown for version in versions):  # SQLite's index says so, not the row
        raise damage_error("the list of texts with unknown tokens")
    return [(v.row, v.id, v.n_tokens, v.n_unknown, v.unreadable) for v in versions]
