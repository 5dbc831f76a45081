"""Artifacts read within the snapshot that answers a question, while others replace them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerdex import Index
from layerdex.errors import DamagedIndexError, StorageError
from layerdex.storage import artifact_changes
from layerdex.storage.artifact_changes import remove_artifact, save_artifact
from layerdex.storage.artifacts import (
    APPROXIMATES,
    ARTIFACT_KINDS,
    HEAD,
    ArtifactKind,
    load_artifact,
    load_tensors,
    read_artifact_record,
)
from layerdex.storage.queries import query_both
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.store import Store
from tests.encoders import WordEncoder
from tests.storage.corpora import flip_byte, reopen, rows

RECORDS: dict[str, dict[str, Any]] = {
    "head": {
        "fingerprint": "f",
        "label_field": "label",
        "layer": 1,
        "labels": ["a"],
        "temperature": 1.0,
    },
    "transform": {
        "fingerprint": "f",
        "layers": [1],
        "shrinkages": [0.5],
        "n": 3,
        "n_fitted": 3,
        "next_row": 4,
    },
    "approximate": {
        "fingerprint": "f",
        "layer": 1,
        "n": 3,
        "first_row": 1,
        "next_row": 4,
        "n_lists": 1,
        "target": 0.9,
        "n_queries": 1,
        "measured": [
            {
                "share": 1.0,
                "n_probes": 1,
                "n_probes_together": 1,
                "n_candidates": 1,
                "recall": 1,
                "bound": 0.9,
            }
        ],
    },
}


def _save(store: Store, kind: ArtifactKind, value: float) -> Path:
    with store.write() as writer:
        tensors = {"matrix": np.full((2, 3), value).T}  # in another order than C's
        beside: list[dict[str, Any]] | None = [] if kind is APPROXIMATES else None
        save_artifact(writer, kind, tensors, RECORDS[kind.name], beside=beside)
    [file] = (store.path / kind.folder).iterdir()
    return file


def _value(snapshot: Snapshot, kind: ArtifactKind) -> float | None:
    records = kind.records(read_artifact_record(snapshot, kind))
    if not records:
        return None
    [record] = records
    tensors = load_tensors(snapshot.path, kind, record)
    assert {name: record[name] for name in RECORDS[kind.name]} == RECORDS[kind.name]
    assert tensors["matrix"].shape == (3, 2)
    return float(tensors["matrix"][0, 0])


def _interrupt(
    ask: Callable[[Callable[..., Any]], Any], kind: ArtifactKind, change: Callable[[], object]
) -> tuple[Any, int]:
    """Return the answer of a question that a change interrupts, and how often it started."""
    n_starts = 0

    def question(*snapshots: Snapshot) -> Any:
        nonlocal n_starts
        n_starts += 1
        if n_starts == 1:
            change()
        return _value(snapshots[-1], kind), snapshots[-1].n_documents

    return ask(question), n_starts


@pytest.mark.parametrize("kind", ARTIFACT_KINDS, ids=lambda kind: kind.name)
def test_question_starts_again_when_its_artifact_is_replaced(
    index: Index, kind: ArtifactKind
) -> None:
    index.add(rows(3))
    _save(index._open.store, kind, 1)
    reader, writer = reopen(index)._open.store, reopen(index)

    def replace() -> None:
        _save(writer._open.store, kind, 2)
        writer.add(rows(1, start=3))

    # The answer's artifact and documents are of one commit.
    assert _interrupt(reader.query, kind, replace) == ((2, 4), 2)


@pytest.mark.parametrize("kind", ARTIFACT_KINDS, ids=lambda kind: kind.name)
def test_question_starts_again_when_its_artifact_is_removed(
    index: Index, kind: ArtifactKind
) -> None:
    _save(index._open.store, kind, 1)
    other = reopen(index)._open.store

    def remove() -> None:
        with other.write() as writer:
            remove_artifact(writer, kind)

    assert _interrupt(index._open.store.query, kind, remove) == ((None, 0), 2)


@pytest.mark.parametrize("kind", ARTIFACT_KINDS, ids=lambda kind: kind.name)
def test_question_to_two_indexes_starts_again_too(
    index: Index, tmp_path: Path, kind: ArtifactKind
) -> None:
    other = Index.create(tmp_path / "other", model=WordEncoder())._open.store
    _save(other, kind, 1)
    found = _interrupt(
        lambda question: query_both(index._open.store, other, question),
        kind,
        lambda: _save(Store(other.path), kind, 2),
    )
    assert found == ((2, 0), 2)


@pytest.mark.parametrize("kind", ARTIFACT_KINDS, ids=lambda kind: kind.name)
def test_artifact_that_is_missing_without_a_newer_commit_is_damage(
    index: Index, kind: ArtifactKind
) -> None:
    file = _save(index._open.store, kind, 1)
    file.unlink()
    for remove_folder in (False, True):
        if remove_folder:
            file.parent.rmdir()
        with pytest.raises(DamagedIndexError, match=rf"the {kind.name} .*{file.name} is damaged"):
            index._open.store.query(lambda snapshot: _value(snapshot, kind))


def test_unrelated_commit_does_not_hide_a_missing_artifact(index: Index) -> None:
    index.add(rows(3))
    _save(index._open.store, HEAD, 1).unlink()
    with pytest.raises(DamagedIndexError, match="probe --save"):
        _interrupt(index._open.store.query, HEAD, lambda: reopen(index).add(rows(1, start=3)))


def test_a_file_too_large_to_be_read_again_is_not_written(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add(rows(3))
    before = _save(index._open.store, HEAD, 1)
    monkeypatch.setattr(artifact_changes, "MAX_BYTES", before.stat().st_size - 1)
    with pytest.raises(StorageError, match="more than"):
        _save(index._open.store, HEAD, 2)
    assert [*before.parent.iterdir()] == [before]
    assert index._open.store.query(lambda snapshot: _value(snapshot, HEAD)) == 1


def test_changed_artifact_is_damage_at_once(index: Index) -> None:
    flip_byte(_save(index._open.store, HEAD, 1))
    with (
        index._open.store.read() as snapshot,
        pytest.raises(DamagedIndexError, match="probe --save"),
    ):
        load_artifact(snapshot, HEAD)


def test_missing_artifact_does_not_open_the_layer_files(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add(rows(3))
    _save(index._open.store, HEAD, 1)
    reader = reopen(index)._open.store
    opened: list[object] = []
    monkeypatch.setattr(reader._cache, "_open_file", lambda *key: opened.append(key))
    _interrupt(reader.query, HEAD, lambda: _save(reopen(index)._open.store, HEAD, 2))
    assert opened == []


def test_backup_starts_again_when_an_artifact_is_replaced(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add(rows(3))
    _save(index._open.store, HEAD, 1)
    other, n_ended = reopen(index)._open.store, 0

    def replace(done: int, total: int | None) -> None:
        nonlocal n_ended
        n_ended += done == total
        if (done, n_ended) == (total, 1):
            _save(other, HEAD, 2)

    index.backup(tmp_path / "backup", on_progress=replace)
    assert n_ended == 2
    assert Store(tmp_path / "backup").query(lambda snapshot: _value(snapshot, HEAD)) == 2
    assert Index.open(tmp_path / "backup").verify() == []
