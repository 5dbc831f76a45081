"""The base schema.

Revision ID: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = None

INTEGER_64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create every table."""
    _create_settings_and_segments()
    _create_documents()


def _digest(name: str) -> sa.Column[int]:
    return sa.Column(name, INTEGER_64, nullable=False, server_default=sa.text("0"))


def _create_settings_and_segments() -> None:
    op.create_table(
        "setting",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        _digest("digest"),
        sa.PrimaryKeyConstraint("key", name="pk_setting"),
    )
    op.create_table(
        "segment",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("n_documents", sa.Integer(), nullable=False),
        sa.Column("first_row", INTEGER_64, nullable=False),
        sa.Column("last_row", INTEGER_64, nullable=False),
        _digest("digest"),
        sa.PrimaryKeyConstraint("id", name="pk_segment"),
        sa.UniqueConstraint("name", name="uq_segment_name"),
    )
    op.create_table(
        "segment_file",
        sa.Column("segment_id", sa.Integer(), nullable=False),
        sa.Column("layer", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("crc32", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("segment_id", "layer", name="pk_segment_file"),
        sa.ForeignKeyConstraint(
            ["segment_id"],
            ["segment.id"],
            name="fk_segment_file_segment_id_segment",
            ondelete="CASCADE",
        ),
    )


def _create_documents() -> None:
    op.create_table(
        "document",
        sa.Column("row", INTEGER_64, nullable=False, autoincrement=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("ordinal", INTEGER_64, nullable=False),
        sa.Column("label", sa.String(), nullable=True),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        sa.Column("n_characters", sa.Integer(), nullable=False),
        sa.Column("n_tokens", sa.Integer(), nullable=False),
        sa.Column("truncated", sa.Boolean(), nullable=False),
        sa.Column("live", sa.Boolean(), nullable=False),
        _digest("metadata_digest"),
        _digest("digest"),
        sa.PrimaryKeyConstraint("row", name="pk_document"),
    )
    live, dead, truncated = sa.text("live"), sa.text("NOT live"), sa.text("truncated")
    op.create_index(
        "uq_document_id_live",
        "document",
        ["id"],
        unique=True,
        sqlite_where=live,
        postgresql_where=live,
    )
    op.create_index("ix_document_dead", "document", ["row"], sqlite_where=dead)
    op.create_index("ix_document_truncated", "document", ["row"], sqlite_where=truncated)
    op.create_index("ix_document_label", "document", ["label"])
    op.create_table(
        "document_text",
        sa.Column("row", INTEGER_64, nullable=False, autoincrement=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("row", name="pk_document_text"),
        sa.ForeignKeyConstraint(
            ["row"], ["document.row"], name="fk_document_text_row_document", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "metadatum",
        sa.Column("row", INTEGER_64, nullable=False, autoincrement=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("number", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("row", "name", name="pk_metadatum"),
        sa.ForeignKeyConstraint(
            ["row"], ["document.row"], name="fk_metadatum_row_document", ondelete="CASCADE"
        ),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_metadatum_name_text", "metadatum", ["name", "text", "number"])
