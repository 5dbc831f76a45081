"""Indexes as versions with an older schema have written them."""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

from layerdex.storage.catalog.seal import seal_path
from tests.storage.redigest import redigest


def bring_to_schema_0002(path: Path) -> None:
    """Give an index the catalog of a version that counted no unknown tokens."""
    bring_to_schema_0003(path)
    with closing(sqlite3.connect(path / "catalog.sqlite3")) as connection, connection:
        connection.executescript(
            "DROP INDEX ix_document_unknown; ALTER TABLE document DROP COLUMN n_unknown;"
            "ALTER TABLE document DROP COLUMN unreadable;"
            "UPDATE alembic_version SET version_num = '0002'"
        )


def bring_to_schema_0003(path: Path) -> None:
    """Give an index the catalog that a version before hashes of blocks would have written."""
    catalog = path / "catalog.sqlite3"
    with closing(sqlite3.connect(catalog)) as connection, connection:
        for segment_id, name in connection.execute("SELECT id, name FROM segment").fetchall():
            for file in (path / "segments" / name).iterdir():
                connection.execute(
                    "UPDATE segment_file SET crc32 = ?, block_hashes = NULL "
                    "WHERE segment_id = ? AND layer = ?",
                    (zlib.crc32(file.read_bytes()), segment_id, int(file.stem[-2:])),
                )
    redigest(path)
    with closing(sqlite3.connect(catalog)) as connection, connection:
        connection.executescript(
            "CREATE TABLE old (segment_id INTEGER NOT NULL, layer INTEGER NOT NULL, "
            "size_bytes BIGINT NOT NULL, crc32 BIGINT NOT NULL, "
            "CONSTRAINT pk_segment_file PRIMARY KEY (segment_id, layer), "
            "CONSTRAINT fk_segment_file_segment_id_segment FOREIGN KEY(segment_id) "
            "REFERENCES segment (id) ON DELETE CASCADE);"
            "INSERT INTO old SELECT segment_id, layer, size_bytes, crc32 FROM segment_file;"
            "DROP TABLE segment_file; ALTER TABLE old RENAME TO segment_file;"
            "UPDATE alembic_version SET version_num = '0003'"
        )
    seal_path(catalog).unlink(missing_ok=True)
