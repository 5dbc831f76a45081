"""What deletion leaves: nothing of a document, once it is purged, compacted or merged.

SQLite is told to leave what it deletes, as it does where it is built without secure deletion.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from layerdex import Index
from layerdex.errors import StorageError
from layerdex.storage.maintenance import compaction
from tests.encoders import WordEncoder
from tests.results import hits_by_layer
from tests.storage.corpora import Row
from tests.storage.stored import query, read_versions

MARKER = "Qvoxl"
FIELDS = ("id", "text", "label", "note")


@pytest.fixture(autouse=True)
def leaving(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open every connection as a SQLite without secure deletion does."""
    connect = sqlite3.connect

    def leave(*args: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **options)
        connection.execute("PRAGMA secure_delete=OFF")
        return connection

    monkeypatch.setattr(sqlite3, "connect", leave)


def found(index: Index, what: str = MARKER) -> dict[str, int]:
    """Count the marker in each file of the index that has it."""
    files = [file for file in index.path.rglob("*") if file.is_file()]
    counts = {file.name: file.read_bytes().count(what.encode()) for file in files}
    return {name: n for name, n in counts.items() if n}


def document(at: int, word: str, draw: random.Random) -> Row:
    """A document of which each field has the word; of any length, so that pages are split."""
    return {
        "id": f"{word}-{at}",
        "text": f"{word}text{at} " * draw.randint(1, draw.choice([3, 30, 900])),
        "label": f"{word}label{at}" * draw.randint(1, 20),
        "note": f"{word}note{at}" * draw.randint(1, 40),
    }


def fill(index: Index, draw: random.Random) -> list[str]:
    """Add documents in several runs; return the ids of those with the marker."""
    marked = []
    for start in range(0, draw.randint(20, 200), 20):
        words = [draw.choice([MARKER, "open"]) for _ in range(20)]
        batch = [document(start + at, word, draw) for at, word in enumerate(words)]
        index.add(batch, auto_compact=False)
        marked += [str(row["id"]) for row in batch if MARKER in str(row["id"])]
    return marked


def codes_of(index: Index, ids: list[str]) -> list[bytes]:
    """Return the stored vectors of some documents at each layer, as bytes."""
    versions = [version for version in read_versions(index.path) if version.id in ids]
    return [code for version in versions for code in version.vectors.values()]


def contents(index: Index) -> bytes:
    return b"".join(file.read_bytes() for file in index.path.rglob("*") if file.is_file())


@pytest.fixture(params=range(6))
def seed(request: pytest.FixtureRequest) -> int:
    """Seeds of random documents, of which the soak takes all."""
    chosen: int = request.param
    if chosen > 2 and not request.config.getoption("--soak"):
        pytest.skip("for the soak")
    return chosen


def test_nothing_of_purged_documents_is_left(index: Index, seed: int) -> None:
    draw = random.Random(seed)
    marked = fill(index, draw)
    earlier, rest = marked[: len(marked) // 3], marked[len(marked) // 3 :]
    index.delete(*earlier)  # what was deleted before goes too
    before, codes = contents(index), codes_of(index, marked)
    assert codes
    assert all(code in before for code in codes)
    assert index.delete(*rest, purge=True) == len(rest)
    after = contents(index)
    assert found(index) == {}
    assert not any(code in after for code in codes)
    assert index.verify() == []


def test_nothing_of_replaced_texts_labels_and_metadata_is_left_by_a_purge(index: Index) -> None:
    draw = random.Random(2)
    rows = [document(at, "open", draw) for at in range(40)]
    index.add([{**row, "text": f"{MARKER} {row['text']}"} for row in rows[:20]])
    index.add([{**row, "label": MARKER, "note": MARKER * 9} for row in rows[20:]])
    index.add(rows, auto_compact=False)
    assert found(index)
    assert index.delete(purge=True) == 0
    assert found(index) == {}
    assert len(index) == len(rows)


def test_a_purge_rewrites_only_the_segments_with_dead_versions(index: Index) -> None:
    for start in range(0, 30, 10):
        draw = random.Random(start)
        index.add([document(at, "open", draw) for at in range(start, start + 10)])
    kept = {segment.name for segment in index._open.store.query(lambda s: list(s.segments))}
    index.delete("open-15", purge=True)
    now = {segment.name for segment in index._open.store.query(lambda s: list(s.segments))}
    assert len(now & kept) == len(kept) - 1
    assert len(now) == len(kept)


def test_a_purge_waits_for_open_questions(index: Index) -> None:
    index.add([document(at, MARKER, random.Random(at)) for at in range(9)])
    is_reading = threading.Event()

    def read() -> None:
        for _ in Index.open(index.path, encoder=WordEncoder()).documents():
            if not is_reading.is_set():  # a transaction that is open until the iteration ends
                is_reading.set()
                time.sleep(0.5)

    reader = threading.Thread(target=read)
    reader.start()
    is_reading.wait()
    index.delete(*(f"{MARKER}-{at}" for at in range(9)), purge=True, lock_timeout_s=30)
    assert found(index) == {}
    reader.join()


def test_a_purge_that_an_open_question_outlasts_is_an_error_and_can_be_repeated(
    index: Index,
) -> None:
    index.add([document(at, MARKER, random.Random(at)) for at in range(9)])
    documents = Index.open(index.path, encoder=WordEncoder()).documents()
    next(documents)
    with pytest.raises(StorageError, match=r"still have bytes of them.*waited 0\.1 s"):
        index.delete(f"{MARKER}-3", purge=True, lock_timeout_s=0.1)
    assert len(index) == 8
    assert len([*documents]) == 8  # of the commit that it began with, 9 in all
    assert found(index, f"{MARKER}text3 ")
    assert index.delete(purge=True) == 0
    assert not found(index, f"{MARKER}text3 ")


def test_a_purge_removes_the_copy_that_a_killed_migration_left(index: Index) -> None:
    index.add([{"id": "a", "text": "a text"}])
    for suffix in ("", "-journal"):
        (index.path / f"catalog.sqlite3.new{suffix}").write_text(MARKER)
    index.delete(purge=True)
    assert found(index) == {}


def test_a_backup_has_nothing_of_replaced_labels_and_metadata(index: Index, tmp_path: Path) -> None:
    draw = random.Random(4)
    rows = [document(at, "open", draw) for at in range(60)]
    index.add([{**row, "label": f"{MARKER}{draw.random()}", "note": MARKER * 9} for row in rows])
    index.add(rows, auto_compact=False)
    query(index.path, f"CREATE TABLE gone AS SELECT '{MARKER * 9_000}' AS text")
    query(index.path, "DROP TABLE gone")  # as a SQLite without secure deletion leaves it
    assert found(index)
    assert index.info().n_dead == 0
    index.backup(tmp_path / "backup")
    assert found(Index.open(tmp_path / "backup", encoder=WordEncoder())) == {}


def test_an_open_index_continues_with_a_restored_backup_without_dead_versions(
    index: Index, tmp_path: Path
) -> None:
    draw = random.Random(5)
    marked = fill(index, draw)
    index.delete(*marked)
    reader = Index.open(index.path, encoder=WordEncoder())
    before = hits_by_layer(reader.search("opentext1", layer=0))
    index.backup(tmp_path / "backup")
    Index.open(tmp_path / "backup").restore(index.path)
    # Its segments have other names, so those of the commit that it knows are gone.
    assert hits_by_layer(reader.search("opentext1", layer=0)) == before
    assert hits_by_layer(reader.search("opentext1", layer=1))


def test_a_backup_has_nothing_of_deleted_documents(index: Index, tmp_path: Path) -> None:
    draw = random.Random(3)
    marked = fill(index, draw)
    codes = codes_of(index, marked)
    index.delete(*marked)
    index.backup(tmp_path / "backup")
    copy = Index.open(tmp_path / "backup", encoder=WordEncoder())
    assert found(index)
    assert found(copy) == {}
    assert not any(code in contents(copy) for code in codes)
    assert copy.info().n_dead == 0
    assert copy.verify() == []
    assert [*copy.documents()] == [*index.documents()]


def test_nothing_of_deleted_documents_is_left_by_compact(index: Index, seed: int) -> None:
    draw = random.Random(seed)
    marked = fill(index, draw)
    draw.shuffle(marked)
    for at in range(0, len(marked), 7):
        index.delete(*marked[at : at + 7])
    assert found(index)["catalog.sqlite3"] >= len(FIELDS) * len(marked)
    index.compact()
    assert found(index) == {}
    assert index.verify() == []


def test_nothing_of_deleted_documents_is_left_by_merges_of_a_small_index(
    index: Index, seed: int
) -> None:
    draw = random.Random(seed)
    marked = fill(index, draw)
    index.delete(*marked)
    for at in range(1_000, 1_400):
        index.add([document(at, "open", draw)])
        if index.info().n_dead == 0:
            break
    assert index.info().n_dead == 0
    assert found(index) == {}


def test_a_large_catalog_is_not_rewritten_by_a_merge_which_clears_its_free_pages(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "_SMALL_CATALOG_PAGES", 0)
    long = f"{MARKER} " * 5_000  # more than a page
    index.add([{"id": str(at), "text": f"{at} {long}"} for at in range(9)])
    index.delete(*map(str, range(9)))
    for at in range(1_000, 1_040):
        index.add([{"id": str(at), "text": "another"}])
    assert index.info().n_dead == 0
    (free,) = query(index.path, "PRAGMA freelist_count")
    assert free[0] > 9
    assert found(index) == {}


def test_nothing_of_replaced_labels_and_metadata_is_left_by_compact(index: Index) -> None:
    draw = random.Random(1)
    rows = [document(at, "open", draw) for at in range(60)]
    index.add([{**row, "label": f"{MARKER}{draw.random()}", "note": MARKER * 9} for row in rows])
    index.compact()
    index.add(rows, auto_compact=False)  # labels and metadata alone: no version is dead
    assert index.info().n_dead == 0
    index.compact()
    assert found(index) == {}


def test_free_pages_of_an_earlier_version_are_vacuumed_where_nothing_is_to_merge(
    index: Index,
) -> None:
    index.add([{"id": "a", "text": "a text"}])
    query(index.path, "CREATE TABLE earlier (text)")
    query(index.path, f"INSERT INTO earlier VALUES ('{MARKER * 9_000}')")
    query(index.path, "DROP TABLE earlier")
    assert found(index)
    assert index.compact() == 0
    assert query(index.path, "PRAGMA freelist_count") == [(0,)]
    assert found(index) == {}


def test_compact_rewrites_no_catalog_to_which_nothing_was_committed(index: Index) -> None:
    index.add([{"id": "a", "text": "a text"}, {"id": "b", "text": "b text"}])
    index.delete("a")
    index.compact()
    query(index.path, "CREATE TABLE unused (text)")
    query(index.path, "DROP TABLE unused")  # a free page, which only a rewritten catalog loses
    index.compact()
    assert query(index.path, "PRAGMA freelist_count") == [(1,)]
    index.delete("b")
    index.compact()
    assert query(index.path, "PRAGMA freelist_count") == [(0,)]


def test_a_writer_overwrites_what_it_deletes(index: Index) -> None:
    index.add([{"id": "a", "text": "a text"}])
    with index._open.store.write() as writer, writer.transaction() as connection:
        assert connection.exec_driver_sql("PRAGMA secure_delete").scalar() == 1
