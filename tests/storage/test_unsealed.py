"""A damaged catalog without a seal, as a killed writer leaves it: nothing is made worse."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from layerdex import Index, LabelTask
from layerdex.errors import DamagedIndexError
from tests.encoders import WordEncoder
from tests.results import first, hits_by_layer
from tests.storage.corpora import reopen, rows
from tests.storage.steps import watched
from tests.storage.stored import contents, layer_paths, query


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


def falsify(path: Path, tree: str, where: str) -> None:
    """Fill a partial index of an unsealed catalog with rows that it should not have."""
    redefine = (
        "UPDATE sqlite_master SET sql = substr(sql, 1, instr(sql, ' WHERE ')) || ? WHERE name = ?"
    )
    for clause, statement in [(f"WHERE {where}", f"REINDEX {tree}"), (_clause(path, tree), None)]:
        with closing(sqlite3.connect(path / "catalog.sqlite3")) as connection, connection:
            connection.execute("PRAGMA writable_schema=ON")
            connection.execute(redefine, [clause, tree])
        if statement is not None:
            query(path, statement)


def _clause(path: Path, tree: str) -> str:
    ((sql,),) = query(path, f"SELECT sql FROM sqlite_master WHERE name = '{tree}'")
    return str(sql[sql.index("WHERE ") :])


@pytest.mark.parametrize(
    ("tree", "where"),
    [
        ("ix_document_dead", "live"),
        ("ix_document_dead", "row < 0"),
        ("uq_document_id_live", "row IS NOT NULL"),
    ],
)
def test_index_that_resurrects_or_buries_documents_gives_no_answer(
    index: Index, tree: str, where: str
) -> None:
    index.add(rows(9))
    index.delete("d2")
    path = index._open.store.path
    falsify(path, tree, where)
    assert any("index" in str(problem) or "damaged" in str(problem) for problem in _verify(path))
    question = (
        (lambda: first(reopen(index).search("text number2 of 2", k=9)))
        if tree == "ix_document_dead"
        else (lambda: hits_by_layer(reopen(index).search_like("d2")))
    )
    with pytest.raises(DamagedIndexError, match=r"row .*backup"):
        question()


def test_writer_does_not_seal_a_damaged_catalog(
    index: Index, caplog: pytest.LogCaptureFixture
) -> None:
    index.add(rows(9))
    path = index._open.store.path
    spoil(path, "ix_document_label", b"l1", b"m1")
    reopen(index).add(rows(2, start=9))
    assert not (path / "catalog.sqlite3.crc32").exists()
    assert "ix_document_label" in caplog.text
    assert "layerdex verify" in caplog.text
    query(path, "REINDEX ix_document_label")
    reopen(index).add(rows(2, start=11))
    assert (path / "catalog.sqlite3.crc32").exists()
    assert reopen(index).verify() == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: spoil(path, "ix_document_label", b"l1", b"m1"), "ix_document_label"),
        (lambda path: query(path, "UPDATE document SET label = 'l0' WHERE row = 2"), "row 2 "),
        (lambda path: query(path, "DELETE FROM document_text WHERE row = 2"), "text of document"),
        (lambda path: query(path, "UPDATE metadatum SET row = 99 WHERE row = 2"), "metadatum"),
    ],
    ids=["index", "row", "text", "metadata"],
)
def test_damaged_catalog_is_not_backed_up(
    index: Index, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    index.add(rows(9))
    damage(index._open.store.path)
    with pytest.raises(DamagedIndexError, match=message):
        reopen(index).backup(tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def test_verification_reads_every_setting(index: Index) -> None:
    index.add(rows(9))
    index.save_best(index.evaluate(LabelTask(k=1)))
    path = index._open.store.path
    query(path, "UPDATE setting SET value = '{\"layer\": 1}' WHERE key = 'best_layer'")
    problems = [str(problem) for problem in Index.open(path, damaged=True).verify()]
    assert len(problems) == 1
    assert "'best_layer'" in problems[0]


def test_texts_that_became_bytes_are_not_encoded_by_a_repair(index: Index) -> None:
    index.add(rows(9))
    path = index._open.store.path
    layer_paths(path)[0].unlink()
    target = Index.open(path, encoder=index.encoder, damaged=True)
    problems = target.verify()
    query(path, "UPDATE document_text SET text = CAST(text AS BLOB)")
    with pytest.raises(DamagedIndexError, match="lost texts"):
        target.repair(problems)


def test_repair_renews_no_seal_over_damage_that_came_after_verification(index: Index) -> None:
    index.add(rows(9))
    path = index._open.store.path
    seal = path / "catalog.sqlite3.crc32"
    with (path / "catalog.sqlite3").open("ab") as file:
        file.write(b"\0" * 4096)
    target = Index.open(path, encoder=index.encoder, damaged=True)
    problems = target.verify()
    content = seal.read_bytes()
    query(path, "UPDATE document SET label = 'l0' WHERE row = 2")
    seal.write_bytes(content)
    with pytest.raises(DamagedIndexError, match=r"row 2 .*backup"):
        target.repair(problems)
    assert seal.read_bytes() == content


def _verify(path: Path) -> list[object]:
    try:
        return [*Index.open(path, damaged=True).verify()]
    except DamagedIndexError as error:
        return [error]


def test_writer_removes_no_segment_on_the_word_of_a_damaged_name(index: Index) -> None:
    index.add(rows(20))
    path = index._open.store.path
    before = contents(path)
    ((name,),) = query(path, "SELECT name FROM segment WHERE id = 2")
    spoil(path, "sqlite_autoindex_segment_1", name.encode(), name[::-1].encode())
    target = reopen(index)
    with pytest.raises(DamagedIndexError, match=r"list of segments.*backup"):
        target.delete("d0")
    assert contents(path) == before


def test_writer_removes_no_segment_whose_row_is_lost(index: Index) -> None:
    index.add(rows(20))
    path = index._open.store.path
    before = contents(path)
    query(path, "DELETE FROM segment WHERE id = 2")
    with pytest.raises(DamagedIndexError, match="backup"):
        Index.open(path, encoder=index.encoder, damaged=True).delete("d0")
    assert contents(path) == before


def test_an_interruption_at_any_step_is_what_the_caller_gets(index: Index, tmp_path: Path) -> None:
    at, was_interrupted = 0, True
    while was_interrupted:
        path = tmp_path / f"interrupted-{at}"
        shutil.copytree(index._open.store.path, path)
        (path / "catalog.sqlite3.crc32").unlink()
        copy = Index.open(path, encoder=WordEncoder())
        was_interrupted = _interrupt(lambda copy=copy: copy.add(rows(3, start=90)), at)  # type: ignore[misc]
        assert len(reopen(copy)) in (len(index), len(index) + 3)
        at += 1
    assert at > 10


def _interrupt(operation: Callable[[], object], at: int) -> bool:
    """Press Ctrl-C before a step of an operation; say whether it has as many."""
    n_steps = 0

    def step(_: str) -> None:
        nonlocal n_steps
        n_steps += 1
        if n_steps == at + 1:
            raise KeyboardInterrupt

    with watched(step):
        try:
            operation()
        except KeyboardInterrupt:
            return True
    return False
