"""The catalog's tables. A change here needs a migration in ``migrations/versions``."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, MetaData, String, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# SQLite gives only INTEGER primary keys the fast row id; other databases need 64 bits said.
_RowInteger = BigInteger().with_variant(Integer(), "sqlite")


class Base(DeclarativeBase):
    """Gives every constraint a name, which later migrations need on SQLite."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class SettingRow(Base):
    """One thing that the index remembers: encoder settings, counters, the best layer."""

    __tablename__ = "setting"

    key: Mapped[str] = mapped_column(String, primary_key=True)
    value: Mapped[Any] = mapped_column(JSON)


class SegmentRow(Base):
    """An immutable batch of documents; ``name`` is its folder.

    Its documents have ascending catalog rows by position, and the row ranges of two segments
    never overlap, so that a row leads to its segment without a look-up.
    """

    __tablename__ = "segment"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String, unique=True)
    n_documents: Mapped[int]
    first_row: Mapped[int] = mapped_column(_RowInteger)
    last_row: Mapped[int] = mapped_column(_RowInteger)


class SegmentFileRow(Base):
    """One layer's FAISS file of a segment, with what must be found on disk."""

    __tablename__ = "segment_file"

    segment_id: Mapped[int] = mapped_column(
        ForeignKey("segment.id", ondelete="CASCADE"), primary_key=True
    )
    layer: Mapped[int] = mapped_column(primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    crc32: Mapped[int] = mapped_column(BigInteger)


class DocumentRow(Base):
    """A document version. ``row`` is never reused; dead versions stay until compaction."""

    __tablename__ = "document"
    __table_args__ = (
        # An id is unique among the living only: an update leaves its dead predecessor behind.
        # PostgreSQL's share of that is in the migration: said here, its dialect would be imported.
        Index(
            "uq_document_id_live",
            "id",
            unique=True,
            sqlite_where=text("live"),
        ),
        Index("ix_document_dead", "row", sqlite_where=text("NOT live")),
        Index("ix_document_truncated", "row", sqlite_where=text("truncated")),
        Index("ix_document_label", "label"),
    )

    row: Mapped[int] = mapped_column(_RowInteger, primary_key=True, autoincrement=False)
    id: Mapped[str] = mapped_column(String)
    ordinal: Mapped[int] = mapped_column(_RowInteger)
    label: Mapped[str | None] = mapped_column(String)
    content_hash: Mapped[bytes]
    n_characters: Mapped[int]
    n_tokens: Mapped[int]
    truncated: Mapped[bool]
    live: Mapped[bool]


class TextRow(Base):
    """The text of a document version, apart so that filters do not read it."""

    __tablename__ = "document_text"

    row: Mapped[int] = mapped_column(
        ForeignKey("document.row", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    text: Mapped[str] = mapped_column(Text)


class MetadatumRow(Base):
    """One metadata field of a document version.

    ``text`` is the value written out, ``kind`` says what it was (see `storage.metadata`), and
    ``number`` is its value where the text parses as a number, so that `<` needs no cast.
    """

    __tablename__ = "metadatum"
    __table_args__ = (
        Index("ix_metadatum_name_text", "name", "text", "number"),
        {"sqlite_with_rowid": False},
    )

    row: Mapped[int] = mapped_column(
        ForeignKey("document.row", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    name: Mapped[str] = mapped_column(String, primary_key=True)
    kind: Mapped[str] = mapped_column(String)
    text: Mapped[str] = mapped_column(Text)
    number: Mapped[float | None]
