"""Power loss: what was reported as committed is still there.

A child creates, fills, changes and compacts an index, while every change of the disk is recorded,
SQLite's included (see `sqlite_calls`). The record is then replayed up to each event, and the disks
are built that a power loss at that moment can leave. The model is harsher than most file systems:
only a flush (fsync) of a file saves its contents, and only one of a folder saves the names in it.
Of the unflushed changes all may be lost, or only those of contents, or only those of names, or a
random choice, with writes torn at a sector (512 bytes). A rename within a folder is one change. The
memory map beside the catalog (``-shm``) is always lost.

With ``--sequences`` above 1,000 (``make soak``) there are three random choices per event, and every
state is opened, verified and written to by the package; in the suite, every twentieth is.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerdex import Index
from layerdex.errors import IndexNotFoundError
from layerdex.indexer.pipeline.build import build
from layerdex.indexer.readers.sources import read_all
from layerdex.storage.catalog.journal import check_journal
from layerdex.storage.catalog.log import check_log
from layerdex.storage.catalog.seal import check_seal
from tests.encoders import WordEncoder
from tests.storage import sqlite_calls
from tests.storage.lost_power import Disk
from tests.storage.next_schema import NEXT, OLD, installed, make_old, schema_of
from tests.storage.recorder import (
    PURGED,
    REPORT,
    Event,
    State,
    committed_states,
    record_life,
    record_life_beside_reader,
    record_migration,
    record_purge,
)
from tests.storage.replayed import LossError, effort, record, replay
from tests.storage.stored import query, read_live, read_versions
from tests.tallies import tally

pytestmark = pytest.mark.skipif(
    sqlite_calls.library() is None, reason="this Python's SQLite hides its VFS"
)

_LOSSES = "states after a power loss"
_STATES = committed_states()


@pytest.fixture(scope="module")
def events(folder: Path) -> list[Event]:
    (folder / "recorded").mkdir()
    return record(record_life, folder / "recorded")


def test_record_is_all_that_happened(events: list[Event], folder: Path) -> None:
    disk, root = Disk(), folder / "recorded"
    for event in events:
        disk.apply(event)
    assert disk.contents() == {
        str(path.relative_to(root)): None if path.is_dir() else path.read_bytes()
        for path in root.rglob("*")
        if not path.name.endswith("-shm")
    }
    assert [event.step for event in events].count(REPORT) == len(_STATES)
    flushed = {event.path.rpartition("/")[2] for event in events if event.step == "flush"}
    assert {"catalog.sqlite3-wal", "catalog.sqlite3", "segments", "layer-01.faiss"} <= flushed


def test_power_loss_at_any_event_loses_nothing_that_was_reported(
    events: list[Event], folder: Path, pytestconfig: pytest.Config
) -> None:
    n_judged = replay(Disk(), events, folder, _judge, **effort(pytestconfig))
    tally(pytestconfig, _LOSSES, n_judged)
    assert n_judged > 300


def test_power_loss_during_a_migration_leaves_the_old_catalog_or_the_new(
    folder: Path, pytestconfig: pytest.Config
) -> None:
    root = folder / "older"
    root.mkdir()
    before = read_versions(make_old(root))
    for leftover in root.rglob("*-shm"):  # which the model of the disk loses
        leftover.unlink()
    disk = Disk(root)

    def judge(path: Path, n_reports: int, *, is_thorough: bool) -> None:
        check_log(path / "catalog.sqlite3")
        check_journal(path / "catalog.sqlite3")
        check_seal(path / "catalog.sqlite3")
        assert schema_of(path) == NEXT or (schema_of(path) == OLD and n_reports == 0)
        assert read_versions(path) == before
        if is_thorough:
            with installed():
                assert Index.open(path).verify() == []

    n_judged = replay(disk, record(record_migration, root), folder, judge, **effort(pytestconfig))
    tally(pytestconfig, _LOSSES, n_judged)
    assert n_judged > 50


def test_power_loss_after_a_purge_brings_back_nothing(folder: Path) -> None:
    (folder / "purged").mkdir()
    events = record(record_purge, folder / "purged")
    texts = [f"text number{name[1:]}".encode() for name in PURGED]

    def judge(path: Path, n_reports: int, *, is_thorough: bool) -> None:
        contents = [file.read_bytes() for file in path.rglob("*") if file.is_file()]
        assert not any(text in content for text in texts for content in contents)
        assert len(list(path.glob("segments/*/layer-00.faiss"))) == 2

    end: dict[str, Any] = {"seeds": range(9), "n_apart": 20, "start": len(events) - 1}
    assert events[-1].step == REPORT
    replay(Disk(), events, folder, judge, **end)
    for unflushed in ("-wal", "/segments"):
        flushes = [
            at
            for at, event in enumerate(events)
            if event.step == "flush" and event.path.endswith(unflushed)
        ]
        left = [event for at, event in enumerate(events) if at != flushes[-1]]
        with pytest.raises(LossError):
            replay(Disk(), left, folder, judge, **{**end, "start": len(left) - 1})


@pytest.mark.parametrize(
    "is_lost",
    [
        pytest.param(lambda path: path.endswith(".faiss"), id="layer files"),
        pytest.param(lambda path: path.endswith(".new"), id="a segment's folder"),
        pytest.param(lambda path: path.endswith("/segments"), id="the folder of segments"),
        pytest.param(lambda path: path.endswith("-wal"), id="the write-ahead log"),
        pytest.param(lambda path: path.endswith("/catalog.sqlite3"), id="the catalog"),
        pytest.param(lambda path: path == "index", id="the index's folder"),
    ],
)
def test_flush_that_is_left_out_would_be_noticed(
    events: list[Event], folder: Path, is_lost: Callable[[str], bool]
) -> None:
    made = next(at for at, event in enumerate(events) if event.step == REPORT)
    left = [
        event
        for at, event in enumerate(events)
        if at < made or event.step != "flush" or not is_lost(event.path)
    ]
    assert len(left) < len(events)
    with pytest.raises(LossError):
        replay(Disk(), left, folder, _judge, seeds=range(3), n_apart=20, start=made)


@pytest.mark.soak
def test_emptied_log_that_comes_back_after_a_power_loss_is_not_foreign(folder: Path) -> None:
    (folder / "beside").mkdir()
    events = record(record_life_beside_reader, folder / "beside")
    replay(Disk(), events, folder, _judge, seeds=range(1), n_apart=20)
    flushes = [
        at
        for at, (event, following) in enumerate(pairwise(events))
        if (event.step, event.path) == ("flush", "index/catalog.sqlite3-wal")
        and (following.step, following.offset) == ("write", 60)
    ]
    assert len(flushes) > 3
    left = [event for at, event in enumerate(events) if at not in flushes]
    with pytest.raises(LossError):
        replay(Disk(), left, folder, _judge, seeds=range(1), n_apart=20, start=flushes[0])


def _expected(n_reports: int) -> list[State]:
    """Return the possible states: the reported one, and the next, which may be committed."""
    return _STATES[max(0, n_reports - 1) : n_reports + 1]


def _judge(path: Path, n_reports: int, *, is_thorough: bool) -> None:
    """Check an index; a thorough check uses the package and includes the next writer."""
    if not is_thorough:
        check_log(path / "catalog.sqlite3")
        check_journal(path / "catalog.sqlite3")
        check_seal(path / "catalog.sqlite3")
        assert _live(path) in _expected(n_reports)
        assert query(path, "PRAGMA integrity_check") == [("ok",)]
        return
    encoder = WordEncoder(depth=1, window=3)
    try:
        index = Index.open(path, encoder=encoder)
    except IndexNotFoundError:
        assert n_reports == 0
        index = Index.create(path, model=encoder)
    assert index.verify() == []
    found = _live(path)
    assert found in _expected(n_reports)
    build(index._open.store, read_all([[{"id": "next", "text": "one more"}]]), lambda: encoder)
    assert index.verify() == []
    assert _live(path) == {**found, "next": ("one more", None)}
    committed = {name for (name,) in query(path, "SELECT name FROM segment")}
    assert {entry.name for entry in (path / "segments").iterdir()} == committed


def _live(path: Path) -> State:
    """Return text and label of live documents, after checking that vectors are of the text."""
    live = read_live(path)
    for version in live.values():
        vectors = WordEncoder(depth=1).encode([version.text], (0, 1)).vectors[:, 0]
        for layer, vector in enumerate(vectors.astype(np.float16)):
            assert version.vectors[layer] == vector.tobytes()
    return {version.id: (version.text, version.label) for version in live.values()}
