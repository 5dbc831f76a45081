"""The catalog's schema: what Alembic creates, and what is done about another version."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from layerdex import Index
from layerdex.errors import DamagedIndexError, SchemaError
from layerdex.storage.catalog.schema import SCHEMA
from tests.results import first
from tests.storage.corpora import reopen, rows
from tests.storage.stored import query


def _schema(path: Path) -> dict[str, object]:
    """Everything that a schema says, column by column, as SQLite understood it."""
    found: dict[str, object] = {}
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("PRAGMA table_list").fetchall()
        for _, name, _, _, without_rowid, strict in tables:
            if name.startswith(("sqlite_", "alembic_")):
                continue
            columns = connection.execute(f"PRAGMA table_xinfo({name})").fetchall()
            keys = connection.execute(f"PRAGMA foreign_key_list({name})").fetchall()
            found[name] = (without_rowid, strict, columns, keys)
        statements = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        )
        found.update({name: re.sub(r"\s+", " ", sql) for name, sql in statements})
    return found


def test_alembic_finds_no_difference_from_the_tables(index: Index) -> None:
    engine = create_engine(f"sqlite:///{index._open.store.path / 'catalog.sqlite3'}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, SCHEMA) == []
    engine.dispose()


def test_migrated_schema_is_the_one_that_the_tables_would_create(
    index: Index, tmp_path: Path
) -> None:
    # Alembic's comparison does not look at partial indexes and tables without row ids.
    engine = create_engine(f"sqlite:///{tmp_path / 'tables.sqlite3'}")
    SCHEMA.create_all(engine)
    engine.dispose()
    migrated = _schema(index._open.store.path / "catalog.sqlite3")
    assert migrated == _schema(tmp_path / "tables.sqlite3")
    assert "WHERE live" in str(migrated["uq_document_id_live"])


def test_catalog_is_in_wal_mode(index: Index) -> None:
    assert query(index._open.store.path, "PRAGMA journal_mode") == [("wal",)]


def test_newer_schema_is_an_error_and_the_catalog_stays_untouched(index: Index) -> None:
    index.add(rows(3))
    path = index._open.store.path
    query(path, "UPDATE alembic_version SET version_num = '9999'")
    before = (path / "catalog.sqlite3").read_bytes()
    with pytest.raises(SchemaError, match=r"schema 9999.*reads 0004.*newer Layerdex"):
        Index.open(path)
    assert (path / "catalog.sqlite3").read_bytes() == before


def test_schema_that_changes_under_an_open_index_stops_reading_and_writing(index: Index) -> None:
    index.add(rows(3))
    query(index._open.store.path, "UPDATE alembic_version SET version_num = '9999'")
    before = (index._open.store.path / "catalog.sqlite3").read_bytes()
    with pytest.raises(SchemaError):
        first(index.search("text"))
    with pytest.raises(SchemaError):
        index.add(rows(1, start=9))
    with pytest.raises(SchemaError):
        index.compact()
    assert (index._open.store.path / "catalog.sqlite3").read_bytes() == before


@pytest.mark.parametrize("data", [b"", b"no database at all, but long enough for a header" * 30])
def test_catalog_that_is_no_database_is_damage(index: Index, data: bytes) -> None:
    (index._open.store.path / "catalog.sqlite3").write_bytes(data)
    with pytest.raises(DamagedIndexError, match="catalog"):
        Index.open(index._open.store.path)


def test_catalog_and_segments_that_count_differently_are_damage(index: Index) -> None:
    index.add(rows(3))
    query(index._open.store.path, "DELETE FROM document WHERE id = 'd1'")
    with pytest.raises(DamagedIndexError, match=r"2 document versions.*3.*backup"):
        reopen(index)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE setting SET value = 'no JSON' WHERE key = 'encoder'",
        "UPDATE setting SET value = '[]' WHERE key = 'encoder'",
        "UPDATE setting SET value = '{}' WHERE key = 'encoder'",
        "UPDATE setting SET value = 'null' WHERE key = 'layers'",
        "UPDATE setting SET value = '[0, \"1\"]' WHERE key = 'layers'",
        "UPDATE setting SET value = '\"x\"' WHERE key = 'commits'",
        "DELETE FROM setting WHERE key = 'next_row'",
    ],
)
def test_damaged_setting_is_damage(index: Index, damage: str) -> None:
    query(index._open.store.path, damage)
    with pytest.raises(DamagedIndexError, match=r"setting.*backup"):
        Index.open(index._open.store.path)


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM document_text WHERE row = 2",
        "UPDATE document_text SET text = CAST(x'ff' AS TEXT) WHERE row = 2",
    ],
)
def test_lost_text_is_damage(index: Index, damage: str) -> None:
    index.add(rows(3))
    query(index._open.store.path, damage)
    with pytest.raises(DamagedIndexError, match="backup"):
        list(reopen(index).documents())
    with pytest.raises(DamagedIndexError, match="backup"):
        first(reopen(index).search("text number1 of 1"))
