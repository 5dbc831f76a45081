"""The catalog's tables. A change here needs a migration in ``migrations/versions``.

A ``digest`` covers its row (see `row_digests`), and that of a segment also the rows of its files.

These are SQLAlchemy's typed Core tables: the ORM would add a tenth of a second to every command.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Named,
    Table,
    Text,
    TypedColumns,
    text,
)

# Every constraint has a name: later migrations need it on SQLite.
SCHEMA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite gives only INTEGER primary keys the fast row id; other databases need BIGINT.
_Integer64 = BigInteger().with_variant(Integer(), "sqlite")


class _SettingColumns(TypedColumns):
    """A setting of the index, such as the encoder's settings, a counter or the best layer."""

    key: Named[str] = Column(primary_key=True)
    value: Named[Any] = Column(JSON, nullable=False)
    digest: Named[int] = Column(_Integer64, server_default=text("0"))


class _SegmentColumns(TypedColumns):
    """An immutable batch of documents; ``name`` is its folder.

    Its documents have ascending catalog rows by position, and the row ranges of two segments
    never overlap, so that a row determines its segment.
    """

    id: Named[int] = Column(primary_key=True)
    name: Named[str] = Column(unique=True)
    n_documents: Named[int]
    first_row: Named[int] = Column(_Integer64)
    last_row: Named[int] = Column(_Integer64)
    digest: Named[int] = Column(_Integer64, server_default=text("0"))


class _SegmentFileColumns(TypedColumns):
    """The FAISS file of one layer of a segment, with its size and checksum; see `SegmentFile`."""

    segment_id: Named[int] = Column(ForeignKey("segment.id", ondelete="CASCADE"), primary_key=True)
    layer: Named[int] = Column(primary_key=True)
    size_bytes: Named[int] = Column(BigInteger)
    crc32: Named[int | None] = Column(BigInteger)
    # Added by schema 0004, so at the end.
    block_hashes: Named[bytes | None]


class _DocumentColumns(TypedColumns):
    """A document version. ``row`` is never reused; dead versions stay until compaction.

    ``n_unknown`` is null if the encoder did not count unknown tokens.
    """

    row: Named[int] = Column(_Integer64, primary_key=True, autoincrement=False)
    id: Named[str]
    ordinal: Named[int] = Column(_Integer64)
    label: Named[str | None]
    content_hash: Named[bytes]
    n_characters: Named[int]
    n_tokens: Named[int]
    truncated: Named[bool]
    live: Named[bool]
    metadata_digest: Named[int] = Column(_Integer64, server_default=text("0"))
    digest: Named[int] = Column(_Integer64, server_default=text("0"))
    # Added by schema 0003, so at the end.
    n_unknown: Named[int | None]
    unreadable: Named[bool] = Column(server_default=text("0"))


class _DocumentTextColumns(TypedColumns):
    """The text of a document version, in a table of its own so that filters do not read it."""

    row: Named[int] = Column(
        ForeignKey("document.row", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    text: Named[str] = Column(Text)


class _MetadatumColumns(TypedColumns):
    """One metadata field of a document version.

    ``text`` is the value as text, ``kind`` its type (see `ValueType`), and ``number`` its value if
    the text is a number, so that `<` needs no cast.
    """

    row: Named[int] = Column(
        ForeignKey("document.row", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    name: Named[str] = Column(primary_key=True)
    kind: Named[str]
    text: Named[str] = Column(Text)
    number: Named[float | None]


SETTING = Table("setting", SCHEMA, _SettingColumns)
SEGMENT = Table("segment", SCHEMA, _SegmentColumns)
SEGMENT_FILE = Table("segment_file", SCHEMA, _SegmentFileColumns)
DOCUMENT = Table(
    "document",
    SCHEMA,
    _DocumentColumns,
    # An id is unique among live versions only: an update leaves the dead version before it.
    # The condition for PostgreSQL is in the migration only: here it would import that dialect.
    Index("uq_document_id_live", "id", unique=True, sqlite_where=text("live")),
    Index("ix_document_dead", "row", sqlite_where=text("NOT live")),
    Index("ix_document_truncated", "row", sqlite_where=text("truncated")),
    Index("ix_document_unknown", "row", sqlite_where=text("n_unknown > 0")),
    Index("ix_document_label", "label"),
)
# Written as in the partial indexes above: SQLite uses one only for the same expression, and
# SQLAlchemy would write "live = 1". SQLite then does not test the column itself, so the checks in
# `rows` do it for each row.
LIVE = text("document.live")
DEAD = text("NOT document.live")
TRUNCATED = text("document.truncated")
UNKNOWN = text("document.n_unknown > 0")

DOCUMENT_TEXT = Table("document_text", SCHEMA, _DocumentTextColumns)
METADATUM = Table(
    "metadatum",
    SCHEMA,
    _MetadatumColumns,
    Index("ix_metadatum_name_text", "name", "text", "number"),
    sqlite_with_rowid=False,
)
