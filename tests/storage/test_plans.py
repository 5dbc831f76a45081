"""How SQLite looks things up: by its indexes, or every question costs a scan of all documents."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import Engine, event

from layerdex import Index
from layerdex.storage.snapshot import Snapshot
from tests.results import first, hits_by_layer
from tests.storage.corpora import reopen, rows

LOOK_UPS: list[Callable[[Index], object]] = [
    lambda index: index.get("d3"),
    lambda index: hits_by_layer(index.search_like("d3", k=2)),
    lambda index: index.delete("d4"),
    lambda index: index.add([{"id": "d5", "text": "changed"}]),
    lambda index: index.truncated(),
    lambda index: index.unknown(),
    lambda index: index.info(),
    lambda index: first(index.search("text", where="label=l1")),
    lambda index: first(reopen(index).search("text")),  # the rows that are dead
    lambda index: index._open.store.query(lambda snapshot: snapshot.labelled_rows()),
    lambda index: index._open.store.query(lambda snapshot: snapshot.has_single_label()),
    lambda index: index._open.store.query(
        lambda snapshot: snapshot.table_of(snapshot.labelled_rows())
    ),
]


@pytest.fixture
def asked() -> Iterator[list[tuple[str, Any]]]:
    """The statements that have been run on the document table, with their parameters."""
    statements: list[tuple[str, Any]] = []

    def execute(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT") and "FROM document " in statement:
            statements.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", execute)
    yield statements
    event.remove(Engine, "before_cursor_execute", execute)


@pytest.mark.parametrize("look_up", LOOK_UPS)
def test_documents_are_looked_up_by_an_index(
    index: Index, asked: list[tuple[str, Any]], look_up: Callable[[Index], object]
) -> None:
    index.add(rows(9))
    index.delete("d2")
    asked.clear()
    look_up(index)
    plans = {statement: _plan(index, statement, given) for statement, given in asked}
    counts = "count(*) AS count_1 \nFROM document"  # opening compares this with the segments
    scans = [
        (statement, step)
        for statement, steps in plans.items()
        for step in steps
        if step.startswith("SCAN document") and "INDEX" not in step and counts not in statement
    ]
    assert plans
    assert scans == []


def test_all_rows_are_read_in_order_without_sorting(
    index: Index, asked: list[tuple[str, Any]]
) -> None:
    index.add(rows(9))
    asked.clear()
    index._open.store.query(Snapshot.document_table)
    ((statement, given),) = [one for one in asked if "NOT document.live" not in one[0]]
    assert _plan(index, statement, given) == ["SCAN document"]


def _plan(index: Index, statement: str, given: Any) -> list[str]:
    with closing(sqlite3.connect(index._open.store.path / "catalog.sqlite3")) as connection:
        found = connection.execute(f"EXPLAIN QUERY PLAN {statement}", given).fetchall()
    return [str(step[-1]) for step in found]
