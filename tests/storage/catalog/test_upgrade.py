"""Indexes that older versions wrote: migrated on opening, whole or not at all."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from layerdex import Index
from layerdex.errors import DamagedIndexError, LockedIndexError, SchemaError, StorageError
from layerdex.storage.catalog import upgrade as migration
from layerdex.storage.catalog.engine import OLDER_SCHEMAS, SCHEMA_VERSION
from layerdex.storage.directory import locked
from tests.encoders import WordEncoder
from tests.storage.powers import forbid_writing, powerless
from tests.storage.stored import query, read_versions

RELEASED = Path(__file__).parent / "released"
_ROOT = Path(__file__).parents[2]


def unpack(schema: str, folder: Path) -> Path:
    """Unpack an index that the version with ``schema`` wrote."""
    with tarfile.open(RELEASED / f"schema-{schema}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "index"


@pytest.fixture(params=OLDER_SCHEMAS)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return unpack(request.param, tmp_path)


def schema_of(path: Path) -> str:
    ((version,),) = query(path, "SELECT version_num FROM alembic_version")
    return str(version)


def test_index_of_an_older_version_answers_and_is_sound(old: Path) -> None:
    before = read_versions(old)
    index = Index.open(old, encoder=WordEncoder())
    assert schema_of(old) == SCHEMA_VERSION
    assert read_versions(old) == before
    assert index.verify() == []
    assert len(index) == 12
    assert index.search("text number5 of 0", k=1)[0].id == "d5"
    assert index.get("d3")[0].metadata == {"ok": True, "size": 3, "zero": 0.0}
    index.add([{"id": "d3", "text": "text number3 of 3"}, {"id": "new", "text": "new"}])
    index.compact()
    assert index.verify() == []
    assert len(index) == 13
    assert query(old, "PRAGMA journal_mode") == [("wal",)]


def test_every_older_schema_has_its_index() -> None:
    assert {file.name for file in RELEASED.iterdir()} == {
        f"schema-{schema}.tar.xz" for schema in OLDER_SCHEMAS
    }


def test_old_index_in_a_read_only_place_is_left_alone(old: Path, public_folder: Path) -> None:
    path = public_folder / "copy"
    shutil.copytree(old, path)
    forbid_writing(path)
    with powerless(), pytest.raises(SchemaError, match="must be writable"):
        Index.open(path)
    assert schema_of(path) in OLDER_SCHEMAS


def test_old_index_that_another_reads_is_left_alone(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "_BUSY_TIMEOUT_S", 0.1)
    with closing(sqlite3.connect(old / "catalog.sqlite3", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM document").fetchone()
        with pytest.raises(StorageError, match="other processes are reading"):
            Index.open(old)
    assert schema_of(old) in OLDER_SCHEMAS
    assert len(Index.open(old)) == 12


def test_two_first_openings_take_turns(old: Path) -> None:
    with locked(old, timeout_s=0), pytest.raises(LockedIndexError):
        migration.migrate_if_older(old, lock_timeout_s=0)
    migration.migrate_if_older(old)
    migration.migrate_if_older(old)
    assert schema_of(old) == SCHEMA_VERSION


_KILLED = """
import os, signal, sys
from pathlib import Path
import pytest
from layerdex.storage import migration
name = sys.argv[2]
real = getattr(migration, name)
def die(*arguments, **options):
    if sys.argv[3] == "after":
        real(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(migration, name, die)
migration.migrate_if_older(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(
    "step", ["_lock_out", "new_catalog", "upgrade", "_compare", "put_in_place"]
)
def test_killed_migration_leaves_the_old_or_the_new_index(
    old: Path, step: str, moment: str
) -> None:
    before = read_versions(old)
    process = subprocess.run(
        [sys.executable, "-c", _KILLED, str(old), step, moment],
        cwd=_ROOT,
        capture_output=True,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    is_done = (step, moment) == ("put_in_place", "after")
    assert (schema_of(old) == SCHEMA_VERSION) == is_done
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
    with pytest.raises(DamagedIndexError, match="belong to nothing"):
        Index.open(old)
    assert sorted(old.iterdir()) == before


def test_damaged_schema_number_migrates_nothing(index: Index) -> None:
    catalog = index.store.path / "catalog.sqlite3"
    seal = catalog.with_name(catalog.name + ".crc32").read_bytes()
    query(index.store.path, f"UPDATE alembic_version SET version_num = '{OLDER_SCHEMAS[0]}'")
    catalog.with_name(catalog.name + ".crc32").write_bytes(seal)
    before = catalog.read_bytes()
    with pytest.raises(DamagedIndexError, match="wrong checksum"):
        Index.open(index.store.path)
    assert catalog.read_bytes()[100:] == before[100:]
