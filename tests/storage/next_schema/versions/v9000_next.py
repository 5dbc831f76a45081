"""An artificial next schema: a new column, a new table and a value in each row.

Revision ID: 9000
"""

import sqlalchemy as sa
from alembic import op

revision = "9000"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("document", sa.Column("language", sa.String(), nullable=True))
    op.create_table(
        "note",
        sa.Column("row", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("row", name="pk_note"),
    )
    op.execute("UPDATE document SET language = 'en'")
    op.execute("INSERT INTO note SELECT row, 'note ' || row FROM document")
