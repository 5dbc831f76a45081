"""Unknown tokens of each text.

Versions encoded before have null: their tokens were not counted. A digest leaves out what was not
counted, so that theirs stay valid.

Revision ID: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns, and the index on texts with unknown tokens."""
    op.add_column("document", sa.Column("n_unknown", sa.Integer(), nullable=True))
    op.add_column(
        "document",
        sa.Column("unreadable", sa.Boolean(), nullable=False, server_default=sa.text("0")),
    )
    unknown = sa.text("n_unknown > 0")
    op.create_index(
        "ix_document_unknown", "document", ["row"], sqlite_where=unknown, postgresql_where=unknown
    )
