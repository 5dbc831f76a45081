"""Failures at each step of a commit: the state before it stays, and the next writer goes on."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerdex import Index
from layerdex.errors import LayerdexError, StorageError
from layerdex.storage.files import sync_folder, write_file
from tests.results import first
from tests.storage.corpora import ids_of, reopen, rows
from tests.storage.stored import query, read_versions

pytestmark = pytest.mark.usefixtures("threads")


def _fail(*_: object, **__: object) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device", "the-file")


def _break_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layerdex.storage.writer.write_file", _fail)


def _break_second_file(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = write_file

    def write(path: Path, data: Any) -> None:
        if path.name == "layer-01.faiss":
            path.write_bytes(data.tobytes()[: data.nbytes // 2])
            _fail()
        whole(path, data)

    monkeypatch.setattr("layerdex.storage.writer.write_file", write)


def _break_os_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", _fail)


def _break_file_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    _break_sync(monkeypatch, is_folder=False)


def _break_folder_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    _break_sync(monkeypatch, is_folder=True)


def _break_sync(monkeypatch: pytest.MonkeyPatch, *, is_folder: bool) -> None:
    whole = os.fsync

    def sync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) == is_folder:
            _fail()
        whole(descriptor)

    monkeypatch.setattr(os, "fsync", sync)


def _break_rename(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "rename", _fail)


def _break_last_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sync_folder

    def sync(path: Path) -> None:
        if path.name == "segments":
            _fail()
        whole(path)

    monkeypatch.setattr("layerdex.storage.writer.sync_folder", sync)


def _break_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    # After the segment and the documents, the last thing that the transaction does.
    monkeypatch.setattr("layerdex.storage.writer.update_fields", _fail)


STEPS = [
    _break_write,
    _break_second_file,
    _break_os_write,
    _break_file_sync,
    _break_folder_sync,
    _break_rename,
    _break_last_sync,
    _break_transaction,
]


@pytest.mark.parametrize("break_step", STEPS)
def test_failure_before_the_commit_leaves_the_state_before(
    index: Index, break_step: Callable[[pytest.MonkeyPatch], None]
) -> None:
    index.add(rows(5))
    before = read_versions(index._open.store.path)
    with pytest.MonkeyPatch.context() as patch:
        break_step(patch)
        with pytest.raises(StorageError, match="No space left on device") as caught:
            index.add([{"id": "d1", "text": "changed"}, *rows(3, start=5)])
    assert "\n" not in str(caught.value)
    assert read_versions(index._open.store.path) == before
    assert [hit.id for hit in first(index.search("text number1 of 1", k=1))] == ["d1"]
    assert ids_of(reopen(index)) == [f"d{i}" for i in range(5)]
    assert reopen(index).verify() == []


@pytest.mark.parametrize("break_step", STEPS)
def test_next_writer_removes_what_a_failed_one_left_and_completes(
    index: Index, break_step: Callable[[pytest.MonkeyPatch], None]
) -> None:
    index.add(rows(5))
    with pytest.MonkeyPatch.context() as patch:
        break_step(patch)
        with pytest.raises(LayerdexError):
            index.add(rows(3, start=5))
    report = index.add(rows(8))
    assert (report.n_new, report.n_unchanged) == (3, 5)
    folders = {entry.name for entry in (index._open.store.path / "segments").iterdir()}
    assert folders == {
        name for (name,) in query(index._open.store.path, "SELECT name FROM segment")
    }
    assert len(folders) == 2
    assert [v.row for v in read_versions(index._open.store.path)] == list(range(1, 9))


def test_failed_window_keeps_the_windows_before(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, n_calls = write_file, 0

    def write(path: Path, data: Any) -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls > 2 * len(index.layers):
            _fail()
        whole(path, data)

    monkeypatch.setattr("layerdex.storage.writer.write_file", write)
    with pytest.raises(StorageError):
        index.add(rows(30))
    assert ids_of(index) == [f"d{i}" for i in range(16)]
