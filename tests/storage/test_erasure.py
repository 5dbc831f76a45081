"""What deletion leaves: nothing of a document, once its index is compacted or its segment merged.

SQLite is told to leave what it deletes, as it does where it is built without secure deletion.
"""

from __future__ import annotations

import random
import sqlite3
from typing import Any

import pytest

from layerdex import Index
from layerdex.storage.maintenance import compaction
from tests.storage.corpora import Row
from tests.storage.stored import query

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


@pytest.mark.parametrize("seed", range(6))
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


@pytest.mark.parametrize("seed", range(6))
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
