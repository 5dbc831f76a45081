"""Questions that start again after a compaction, and damage that looks the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerdex import Index
from layerdex.errors import DamagedIndexError
from layerdex.storage import store
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.vectors.faiss_library import load_faiss
from tests.results import first
from tests.storage.corpora import reopen, rows
from tests.storage.stored import layer_paths, read_live


def _compacting(index: Index, question: Callable[[Snapshot], Any]) -> tuple[Any, int]:
    """Ask ``question``, with a compaction after its snapshot was taken; count its starts."""
    other, n_starts = reopen(index), 0

    def interrupted(snapshot: Snapshot) -> Any:
        nonlocal n_starts
        n_starts += 1
        if n_starts == 1:
            assert other.compact() > 0
        return question(snapshot)

    return index._open.store.query(interrupted), n_starts


def test_question_restarts_when_its_segments_are_compacted_away(index: Index) -> None:
    index.add(rows(20))
    reader = reopen(index)
    rows_asked = np.arange(1, 21)
    vectors, n_starts = _compacting(reader, lambda s: s.layer(3).gather(rows_asked))
    assert n_starts == 2
    stored = read_live(index._open.store.path)
    expected = np.array([np.frombuffer(stored[f"d{i}"].vectors[3], np.float16) for i in range(20)])
    np.testing.assert_allclose(vectors, expected, atol=1e-3)


def test_question_whose_files_are_mapped_already_does_not_restart(index: Index) -> None:
    index.add(rows(20))
    every = np.arange(1, 21)
    before = index._open.store.query(lambda s: s.layer(3).gather(every))
    vectors, n_starts = _compacting(index, lambda s: s.layer(3).gather(every))
    assert n_starts == 1
    np.testing.assert_array_equal(vectors, before)


def test_file_that_vanishes_while_it_is_mapped_restarts_the_question(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add(rows(20))
    reader, other, n_compactions = reopen(index), reopen(index), 0
    faiss = load_faiss()
    whole = faiss.read_index

    def read_index(*arguments: Any) -> Any:
        nonlocal n_compactions
        if n_compactions == 0:
            n_compactions = 1
            other.compact()
        return whole(*arguments)

    monkeypatch.setattr(faiss, "read_index", read_index)
    assert first(reader.search("text number3 of 3", k=1))[0].id == "d3"
    assert n_compactions == 1


def test_opening_beside_a_compaction_is_no_damage(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add(rows(20))
    other, whole, n_compactions = reopen(index), store.Store.file_path, 0

    def file_path(self: store.Store, *arguments: Any) -> Path:
        nonlocal n_compactions
        if n_compactions == 0 and self is not other._open.store:
            n_compactions = 1
            other.compact()
        return whole(self, *arguments)

    monkeypatch.setattr(store.Store, "file_path", file_path)
    assert len(reopen(index)) == 20
    assert n_compactions == 1


def test_file_missing_without_a_compaction_is_damage(index: Index) -> None:
    index.add(rows(5))
    reader = reopen(index)
    missing = layer_paths(index._open.store.path)[3]
    missing.unlink()
    with pytest.raises(DamagedIndexError, match=rf"{missing.name} is missing.*repair"):
        first(reader.search("text", layer=3))
    assert first(reader.search("text number1 of 1", k=1, layer=2))[0].id == "d1"
    with pytest.raises(DamagedIndexError, match="repair"):
        reopen(index)


def test_unrelated_commit_does_not_hide_a_missing_file(index: Index) -> None:
    index.add(rows(5))
    reader, n_starts = reopen(index), 0
    shutil.rmtree(next((index._open.store.path / "segments").iterdir()))

    def question(snapshot: Snapshot) -> Any:
        nonlocal n_starts
        n_starts += 1
        if n_starts == 1:
            index.add(rows(1, start=5))
        return snapshot.layer(0).gather(np.array([1]))

    with pytest.raises(DamagedIndexError, match="repair"):
        reader._open.store.query(question)
    assert n_starts == 1  # it does not start again without all files
