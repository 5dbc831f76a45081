"""Hashes of the blocks of each layer file.

Files written before keep the checksum of the whole, so that a migration need not read them, and
new ones have none. A digest leaves out what is not there, so that those of older files stay valid.

Revision ID: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column, and allow files without a checksum of the whole."""
    with op.batch_alter_table("segment_file") as table:
        table.alter_column("crc32", existing_type=sa.BigInteger(), nullable=True)
        table.add_column(sa.Column("block_hashes", sa.LargeBinary(), nullable=True))
