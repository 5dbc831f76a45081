"""A damaged catalog without a seal, as a killed writer leaves it: nothing is made worse."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from layerdex import Index
from layerdex.errors import DamagedIndexError
from tests.storage.corpora import reopen, rows
from tests.storage.stored import contents, query


def spoil(path: Path, tree: str, old: bytes, new: bytes) -> None:
    """Replace bytes in the first page of a table or an index of an unsealed catalog."""
    catalog = path / "catalog.sqlite3"
    with closing(sqlite3.connect(catalog)) as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        root = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        (page,) = connection.execute(root, [tree]).fetchone()
    data = bytearray(catalog.read_bytes())
    at = data.index(old, (page - 1) * size, page * size)
    data[at : at + len(old)] = new
    catalog.write_bytes(data)
    (path / "catalog.sqlite3.crc32").unlink(missing_ok=True)


def test_writer_removes_no_segment_on_the_word_of_a_damaged_name(index: Index) -> None:
    index.add(rows(20))
    path = index.store.path
    before = contents(path)
    ((name,),) = query(path, "SELECT name FROM segment WHERE id = 2")
    spoil(path, "sqlite_autoindex_segment_1", name.encode(), name[::-1].encode())
    target = reopen(index)
    with pytest.raises(DamagedIndexError, match=r"list of segments.*backup"):
        target.delete("d0")
    assert contents(path) == before


def test_writer_removes_no_segment_whose_row_is_lost(index: Index) -> None:
    index.add(rows(20))
    path = index.store.path
    before = contents(path)
    query(path, "DELETE FROM segment WHERE id = 2")
    with pytest.raises(DamagedIndexError, match="backup"):
        Index.open(path, encoder=index.encoder, damaged=True).delete("d0")
    assert contents(path) == before
