"""Indexes of an older schema: migrated on opening, whole or not at all.

Older is this version's schema, and the newest is an artificial one (see `next_schema`).
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from layerdex import Index
from layerdex.errors import DamagedIndexError, LockedIndexError, SchemaError, StorageError
from layerdex.storage.catalog import revisions, upgrade
from layerdex.storage.catalog.seal import check_seal, seal_path
from layerdex.storage.directory import locked
from tests.encoders import WordEncoder
from tests.results import first
from tests.storage.next_schema import NEXT, OLD, installed, make_old, schema_of
from tests.storage.older_schemas import bring_to_schema_0003
from tests.storage.permissions import make_read_only, unprivileged
from tests.storage.scenes import CONTEXT
from tests.storage.stored import query, read_versions


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Path]:
    path = make_old(tmp_path)
    with installed():
        yield path


def test_index_of_an_older_version_answers_and_is_sound(old: Path) -> None:
    before = read_versions(old)
    assert check_seal(old / "catalog.sqlite3")
    index = Index.open(old, encoder=WordEncoder())
    assert schema_of(old) == NEXT
    assert check_seal(old / "catalog.sqlite3")
    assert query(old, "SELECT DISTINCT language FROM document") == [("en",)]
    assert query(old, "SELECT count(*) FROM note") == [(len(before),)]
    assert read_versions(old) == before
    assert index.verify() == []
    assert len(index) == 12
    assert first(index.search("text number5 of 0", k=1))[0].id == "d5"
    assert index.get("d3")[0].metadata == {"ok": True, "size": 3, "zero": 0.0}
    index.add([{"id": "d3", "text": "text number3 of 3"}, {"id": "new", "text": "new"}])
    index.compact()
    assert index.verify() == []
    assert len(index) == 13
    assert query(old, "PRAGMA journal_mode") == [("wal",)]


def test_migrated_index_is_newer_than_the_version_before(old: Path) -> None:
    Index.open(old)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(revisions, "SCHEMA_VERSION", OLD)
        patched.setattr(revisions, "OLDER_SCHEMAS", ())
        with pytest.raises(SchemaError, match=rf"schema {NEXT}.*newer Layerdex"):
            Index.open(old)


def test_old_index_in_a_read_only_place_is_left_alone(old: Path, public_folder: Path) -> None:
    path = public_folder / "copy"
    shutil.copytree(old, path)
    make_read_only(path)
    with unprivileged(), pytest.raises(SchemaError, match="must be writable"):
        Index.open(path)
    assert schema_of(path) == OLD


def test_old_index_that_another_reads_is_left_alone(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrade, "_BUSY_TIMEOUT_S", 0.1)
    with closing(sqlite3.connect(old / "catalog.sqlite3", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM document").fetchone()
        with pytest.raises(StorageError, match="other processes are reading"):
            Index.open(old)
    assert check_seal(old / "catalog.sqlite3")
    assert schema_of(old) == OLD
    assert len(Index.open(old)) == 12


def test_two_first_openings_take_turns(old: Path) -> None:
    with locked(old, timeout_s=0), pytest.raises(LockedIndexError):
        upgrade.migrate_if_older(old, lock_timeout_s=0)
    upgrade.migrate_if_older(old)
    upgrade.migrate_if_older(old)
    assert schema_of(old) == NEXT


def _migrate_and_die(path: Path, name: str, moment: str) -> None:
    owner = revisions if name == "apply_migrations" else upgrade
    real = getattr(owner, name)

    def die(*arguments: Any, **options: Any) -> None:
        if moment == "after":
            real(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, die)
    with installed():
        upgrade.migrate_if_older(path)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(
    "step", ["_lock_out", "new_catalog", "apply_migrations", "_compare", "put_in_place"]
)
def test_killed_migration_leaves_the_old_or_the_new_index(
    old: Path, step: str, moment: str
) -> None:
    before = read_versions(old)
    process = CONTEXT.Process(target=_migrate_and_die, args=(old, step, moment))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    is_done = (step, moment) == ("put_in_place", "after")
    assert schema_of(old) == (NEXT if is_done else OLD)
    assert read_versions(old) == before
    index = Index.open(old, encoder=WordEncoder())
    assert index.verify() == []
    assert read_versions(old) == before
    assert list(old.glob("*.new*")) == []


def test_reader_that_comes_at_the_rename_is_not_in_the_way(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, readers = Path.replace, []

    def replace(self: Path, target: Path) -> Path:
        renamed = rename(self, target)
        if target.name == "catalog.sqlite3":
            reader = sqlite3.connect(f"file:{target}?mode=ro", uri=True, isolation_level=None)
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM setting").fetchall()
            readers.append(reader)
        return renamed

    monkeypatch.setattr(Path, "replace", replace)
    assert len(Index.open(old, encoder=WordEncoder())) == 12
    assert len(readers) == 1
    readers[0].close()


def test_failed_migration_leaves_nothing_and_says_what_was_wrong(old: Path) -> None:
    query(old, "UPDATE metadatum SET row = 500 WHERE row = 3")
    before = sorted(old.iterdir())
    with pytest.raises(DamagedIndexError, match="without an owner"):
        Index.open(old)
    assert sorted(old.iterdir()) == before


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE segment_file",
        "DROP TABLE segment",
        "ALTER TABLE segment_file DROP COLUMN crc32",
        "ALTER TABLE segment_file RENAME COLUMN crc32 TO crc",
    ],
)
def test_old_catalog_without_a_table_or_column_is_damage(index: Index, statement: str) -> None:
    index.add([{"id": "a", "text": "a text"}])
    path = index._open.store.path
    bring_to_schema_0003(path)
    query(path, statement)
    with pytest.raises(DamagedIndexError, match="of the catalog is damaged: restore"):
        Index.open(path)


def test_old_catalog_with_an_index_of_somebody_else_is_migrated(index: Index) -> None:
    index.add([{"id": "a", "text": "a text"}])
    path = index._open.store.path
    bring_to_schema_0003(path)
    query(path, "CREATE INDEX ours ON segment_file (abs(layer))")
    assert Index.open(path, encoder=WordEncoder()).verify() == []


def test_migration_that_loses_rows_is_refused_and_leaves_the_old_index(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_versions(old)
    apply = revisions.apply_migrations

    def lose(connection: Connection) -> None:
        apply(connection)
        connection.execute(text("DELETE FROM metadatum WHERE row = 3"))

    with monkeypatch.context() as patched:
        patched.setattr(revisions, "apply_migrations", lose)
        with pytest.raises(DamagedIndexError, match=r"lost rows of the table metadatum"):
            Index.open(old)
    assert schema_of(old) == OLD
    assert check_seal(old / "catalog.sqlite3")
    assert read_versions(old) == before
    assert Index.open(old).verify() == []


def test_damaged_schema_number_migrates_nothing(tmp_path: Path) -> None:
    with installed():
        path = Index.create(tmp_path / "new", model=WordEncoder())._open.store.path
        catalog = path / "catalog.sqlite3"
        seal = seal_path(catalog).read_bytes()
        query(path, f"UPDATE alembic_version SET version_num = '{OLD}'")
        seal_path(catalog).write_bytes(seal)
        before = catalog.read_bytes()
        with pytest.raises(DamagedIndexError, match="wrong checksum"):
            Index.open(path)
        assert catalog.read_bytes() == before


@pytest.mark.parametrize("version", ["0001", "0000"])
def test_schema_that_no_revision_comes_from_is_refused(index: Index, version: str) -> None:
    query(index._open.store.path, f"UPDATE alembic_version SET version_num = '{version}'")
    before = (index._open.store.path / "catalog.sqlite3").read_bytes()
    with pytest.raises(SchemaError, match=rf"schema {version}.*create the index again"):
        Index.open(index._open.store.path)
    assert (index._open.store.path / "catalog.sqlite3").read_bytes() == before
