"""Digests of settings, segments and document versions.

Revision ID: 0002
"""

import hashlib
import json
import uuid
from collections import defaultdict
from operator import itemgetter

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

INTEGER_64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_PAGE = 1_000


def upgrade() -> None:
    """Add the digests, and compute those of the rows that are there."""
    for table, names in {
        "setting": ["digest"],
        "segment": ["digest"],
        "document": ["metadata_digest", "digest"],
    }.items():
        for name in names:
            # SQLite needs a default to add a column that is never null; 0 is no row's digest.
            column = sa.Column(name, INTEGER_64, nullable=False, server_default=sa.text("0"))
            op.add_column(table, column)
    # Tells this index from another one that takes its place.
    setting = sa.table("setting", sa.column("key"), sa.column("value", sa.JSON))
    op.execute(sa.insert(setting).values(key="identity", value=uuid.uuid4().hex))
    # Null rather than absent: to find that a setting is not there, all others are read and checked.
    there = set(op.get_bind().scalars(sa.select(setting.c.key)))
    for key in ("query_template", "commit_mark", "best_layer"):
        if key not in there:
            op.execute(sa.insert(setting).values(key=key, value=None))
    digest_all(op.get_bind())


def digest_all(connection: sa.Connection) -> None:
    """Compute every digest anew."""
    _digest_settings(connection)
    _digest_segments(connection)
    _digest_documents(connection)


def _digest(*fields: str | int | float | None) -> int:
    """Digest fields as this schema does, whatever `storage.digests` does for a later one."""
    written = ["-" if field is None else f"{len(text := str(field))}:{text}" for field in fields]
    hashed = hashlib.blake2b("".join(written).encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(hashed.digest(), "big", signed=True)


def _digest_settings(connection: sa.Connection) -> None:
    setting = sa.table(
        "setting", sa.column("key"), sa.column("value", sa.JSON), sa.column("digest")
    )
    for key, value in connection.execute(sa.select(setting.c.key, setting.c.value)).all():
        change = sa.update(setting).where(setting.c.key == key)
        connection.execute(change.values(digest=_digest(key, json.dumps(value, sort_keys=True))))


def _digest_segments(connection: sa.Connection) -> None:
    files: dict[int, list[int]] = defaultdict(list)
    query = sa.text("SELECT segment_id, layer, size_bytes, crc32 FROM segment_file ORDER BY 1, 2")
    for segment_id, *of_file in connection.execute(query):
        files[segment_id] += of_file
    query = sa.text("SELECT id, name, n_documents, first_row, last_row FROM segment")
    for segment_id, *of_segment in connection.execute(query).all():
        connection.execute(
            sa.text("UPDATE segment SET digest = :digest WHERE id = :id"),
            {"id": segment_id, "digest": _digest(*of_segment, *files[segment_id])},
        )


def _digest_documents(connection: sa.Connection) -> None:
    query = sa.text(
        "SELECT row, id, ordinal, label, content_hash, n_characters, n_tokens, truncated, live "
        "FROM document WHERE row > :row ORDER BY row LIMIT :page"
    )
    row = -1
    while page := connection.execute(query, {"row": row, "page": _PAGE}).all():
        metadata = defaultdict(list)
        for of_row, *field in connection.execute(
            sa.text(
                "SELECT row, name, kind, text, number FROM metadatum "
                "WHERE row BETWEEN :first AND :last"
            ),
            {"first": page[0][0], "last": page[-1][0]},
        ):
            name, kind, text, number = field
            # SQLite does not keep the sign of zero.
            number = None if number is None else number + 0.0
            metadata[of_row].append((name, kind, text, number))
        changes = []
        for own in page:
            fields = sorted(metadata[own.row], key=itemgetter(0))
            of_metadata = _digest(*(value for field in fields for value in field))
            digest = _digest(
                own.row,
                own.id,
                own.ordinal,
                own.label,
                own.content_hash.hex(),
                own.n_characters,
                own.n_tokens,
                int(own.truncated),
                of_metadata,
            )
            digest = digest if own.live else ~digest
            changes.append({"at": own.row, "metadata": of_metadata, "digest": digest})
        connection.execute(
            sa.text(
                "UPDATE document SET metadata_digest = :metadata, digest = :digest WHERE row = :at"
            ),
            changes,
        )
        row = page[-1][0]
