"""Two writers and readers that see whole commits only, each in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from layerdex import Index
from tests.encoders import WordEncoder
from tests.storage.crowd import check_snapshot, read, rows_of, write
from tests.storage.scenes import CONTEXT
from tests.storage.stored import query
from tests.tallies import longest, tally

_N_READERS = 8


@pytest.fixture
def index(memory_folder: Path, encoder: WordEncoder) -> Index:
    return Index.create(memory_folder / "index", model=encoder)


def test_two_writers_and_eight_readers_see_nothing_but_commits(
    index: Index, pytestconfig: pytest.Config
) -> None:
    path, done, reports = index._open.store.path, CONTEXT.Event(), CONTEXT.Queue()
    n_commits = max(4, pytestconfig.getoption("--sequences") // 20)
    writers = [
        CONTEXT.Process(target=write, args=(path, writer, n_commits, reports)) for writer in (1, 2)
    ]
    readers = [CONTEXT.Process(target=read, args=(path, done, reports)) for _ in range(_N_READERS)]
    for process in [*readers, *writers]:
        process.start()
    answers = [reports.get(timeout=600) for _ in writers]
    done.set()
    answers += [reports.get(timeout=60) for _ in readers]
    for process in [*readers, *writers]:
        process.join()
    assert [answer for answer in answers if answer[0] == "failed"] == []
    assert {answer[1] for answer in answers if answer[0] == "wrote"} == {1, 2}
    reads: list[tuple[Any, ...]] = [answer for answer in answers if answer[0] == "read"]
    assert len(reads) == _N_READERS
    tally(pytestconfig, "reads beside two writers", sum(n for _, n, _ in reads))
    longest(pytestconfig, "the longest wait of these", max(seconds for *_, seconds in reads))
    assert index._open.store.query(check_snapshot) == {"1": n_commits, "2": n_commits}
    assert index.verify() == []


def test_opening_an_index_again_releases_no_lock_of_a_reader(index: Index) -> None:
    # POSIX releases a lock when its process closes any descriptor of the file.
    index.add(rows_of(1, 1))
    reports = CONTEXT.Queue()
    with index._open.store.read() as snapshot:
        rows = snapshot.rows().tolist()
        index._open.store.check_whole()
        writer = CONTEXT.Process(target=write, args=(index._open.store.path, 1, 8, reports))
        writer.start()
        writer.join()
        assert reports.get(timeout=60) == ("wrote", 1)
        texts = [document.text for document in snapshot.documents(rows).values()]
        assert texts == [row["text"] for row in rows_of(1, 1)]
    assert index._open.store.query(check_snapshot) == {"1": 8}
    assert query(index._open.store.path, "PRAGMA integrity_check") == [("ok",)]
