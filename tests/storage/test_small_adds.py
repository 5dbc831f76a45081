"""Many small runs: few segments, the same answers, and undisturbed readers."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerdex import Index
from layerdex.indexer.pipeline import build
from layerdex.storage import writer
from layerdex.storage.maintenance import compaction, merge_policy
from layerdex.storage.snapshot import Snapshot
from tests.encoders import WordEncoder
from tests.hits import similarities_of
from tests.results import first
from tests.storage.corpora import Row, flip_byte, ids_of, reopen, rows
from tests.storage.stored import layer_paths, query, read_live, read_versions


def _n_segments(index: Index) -> int:
    return int(query(index._open.store.path, "SELECT count(*) FROM segment")[0][0])


def _add_one_by_one(index: Index, documents: list[Row]) -> None:
    for row in documents:
        index.add([row])


@pytest.mark.soak
def test_many_adds_of_one_document_leave_few_segments_and_the_answers_of_one_add(
    tmp_path: Path,
) -> None:
    documents = rows(130)
    many = Index.create(tmp_path / "many", model=WordEncoder(), layers=3)
    most = 0
    for n, row in enumerate(documents, 1):
        many.add([row])
        most = max(most, _n_segments(many))
        if n == 120:  # updates and deletions in segments of all sizes
            many.add([{"id": "d7", "text": "changed"}, {"id": "d110", "text": "changed"}])
            many.delete("d3", "d115")
    assert most <= 9 * (math.floor(math.log10(130)) + 1)
    assert len(layer_paths(many._open.store.path)) == _n_segments(many)
    once = Index.create(tmp_path / "once", model=WordEncoder(window=300), layers=3)
    once.add(documents)
    once.add([{"id": "d7", "text": "changed"}, {"id": "d110", "text": "changed"}])
    once.delete("d3", "d115")
    assert ids_of(many) == ids_of(once)
    for text in ("text number50 of 0", "number7", "changed"):
        # Rows, which order equal similarities, differ where one add was many.
        expected = {(hit.id, hit.text, hit.label) for hit in first(once.search(text, k=128))}
        assert {
            (hit.id, hit.text, hit.label) for hit in first(many.search(text, k=128))
        } == expected
        near = [similarities_of(first(index.search(text, k=50))) for index in (many, once)]
        np.testing.assert_array_equal(np.round(near[0], 5), np.round(near[1], 5))
    assert many.verify() == []


def test_merging_can_be_turned_off(index: Index) -> None:
    for row in rows(12):
        index.add([row], auto_compact=False)
    assert _n_segments(index) == 12
    assert index.add([]).n_read == 0  # and is made up for by the next run
    assert _n_segments(index) == 1


def test_merging_keeps_rows_vectors_and_order_and_drops_the_dead(index: Index) -> None:
    _add_one_by_one(index, rows(9))
    index.add([{"id": "d2", "text": "changed"}], auto_compact=False)
    index.delete("d5")
    before, ids = read_live(index._open.store.path), ids_of(index)
    index.add([])
    assert _n_segments(index) == 1
    assert read_live(index._open.store.path) == before
    assert [version.id for version in read_versions(index._open.store.path)] == [
        version.id for version in sorted(before.values(), key=lambda version: version.row)
    ]
    assert ids_of(index) == ids


def test_windows_of_a_long_run_are_merged_on_the_way(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_WINDOWS_BEFORE_MERGING", 12)
    seen: list[int] = []
    index.add(rows(8 * 13), on_progress=lambda *_: seen.append(_n_segments(index)))
    assert (max(seen), seen[-1], _n_segments(index)) == (12, 2, 2)


def test_a_reader_keeps_its_snapshot_while_segments_are_merged(index: Index) -> None:
    _add_one_by_one(index, rows(9))
    with index._open.store.read() as old:
        before = old.layer(2).gather(old.rows())
        names = {segment.name for segment in old.segments}
        reopen(index).add(rows(1, start=9))
        assert not names & {path.parent.name for path in layer_paths(index._open.store.path)}
        assert (old.layer(2).gather(old.rows()) == before).all()
        assert old.n_documents == 9
    assert len(first(index.search("text number9", k=20))) == 10


@pytest.mark.parametrize("step", ["write_file", "insert_segment", "remove_tree"])
def test_a_full_disk_while_merging_leaves_the_segments_and_a_warning(
    index: Index,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    step: str,
) -> None:
    for row in rows(10):
        index.add([row], auto_compact=False)

    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(writer if step == "write_file" else compaction, step, fail)
        index.add([])
    assert "segments are not merged" in caplog.text
    assert "No space left" in caplog.text
    assert ids_of(index) == [f"d{i}" for i in range(10)]
    committed = {name for (name,) in query(index._open.store.path, "SELECT name FROM segment")}
    assert {entry.name for entry in (index._open.store.path / "segments").iterdir()} == committed
    assert reopen(index).verify() == []
    index.add(rows(1, start=10))
    assert _n_segments(index) < 5


def test_what_the_disk_has_no_room_for_is_left_out_and_said_once(
    index: Index, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten windows of 8 vectors, and ten of one, are merged in a run of two merges each."""
    monkeypatch.setattr(build, "_WINDOWS_BEFORE_MERGING", 1)
    index.add(rows(80), auto_compact=False)
    for row in rows(10, start=80):
        index.add([row], auto_compact=False)
    sizes = query(index.path, "SELECT sum(size_bytes) FROM segment_file GROUP BY segment_id")
    ((of_large,), (of_small,)) = sizes[0], sizes[-1]
    assert 10 * of_small < 10 * of_large
    monkeypatch.setattr(compaction, "free_bytes", lambda _: 10 * of_large - 1)
    with caplog.at_level(logging.WARNING):
        assert index.add(rows(1, start=90)).n_new == 1
    assert caplog.text.count("are not merged") == 1
    assert f"{10 * of_large:,} bytes" in caplog.text
    assert _n_segments(index) == 11  # the small ones are one
    assert ids_of(index) == [f"d{i}" for i in range(91)]
    monkeypatch.setattr(compaction, "free_bytes", lambda _: 1 << 30)
    index.add([])
    assert _n_segments(index) <= 3
    assert (ids_of(index), index.verify()) == ([f"d{i}" for i in range(91)], [])


def test_long_runs_make_segments_of_the_target_and_copy_each_vector_once(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge_policy, "TARGET_DOCUMENTS", 128)
    monkeypatch.setattr(build, "_WINDOWS_BEFORE_MERGING", 16)
    merged: list[int] = []
    merge = compaction._merge

    def count(store: Any, writer: Any, group: Any) -> int:
        merged.append(sum(segment.n_documents for segment in group))
        return merge(store, writer, group)

    monkeypatch.setattr(compaction, "_merge", count)
    index.add(rows(8 * 45))
    assert merged == [128, 128, 104]
    sizes = query(index.path, "SELECT n_documents FROM segment ORDER BY first_row")
    assert sizes == [(128,), (128,), (104,)]
    assert (ids_of(index), index.verify()) == ([f"d{i}" for i in range(360)], [])


def test_a_damaged_segment_is_not_merged_and_does_not_stop_an_add(
    index: Index, caplog: pytest.LogCaptureFixture
) -> None:
    _add_one_by_one(index, rows(9))
    flip_byte(layer_paths(index._open.store.path)[5])
    with caplog.at_level(logging.WARNING):
        assert index.add(rows(1, start=9)).n_new == 1
    assert "layer-01.faiss is damaged (wrong checksum)" in caplog.text
    assert _n_segments(index) == 10
    index.repair(index.verify())
    index.add([])
    assert (_n_segments(index), index.verify()) == (1, [])


@pytest.mark.parametrize("is_first_damaged", [True, False])
def test_a_damaged_group_keeps_no_other_from_being_merged(
    index: Index, caplog: pytest.LogCaptureFixture, is_first_damaged: bool
) -> None:
    index.add(rows(80), auto_compact=False)  # ten windows of 8
    large = set(layer_paths(index._open.store.path))
    for row in rows(10, start=80):
        index.add([row], auto_compact=False)
    small = set(layer_paths(index._open.store.path)) - large
    damaged = sorted(large if is_first_damaged else small)[5]
    flip_byte(damaged)
    with caplog.at_level(logging.WARNING):
        index.add([])
    assert _n_segments(index) == 11
    assert caplog.text.count("small segments are not merged") == 1
    assert damaged.exists()
    committed = {name for (name,) in query(index._open.store.path, "SELECT name FROM segment")}
    assert {entry.name for entry in (index._open.store.path / "segments").iterdir()} == committed
    assert ids_of(index) == [f"d{i}" for i in range(90)]
    index.repair(index.verify())
    index.add([])
    assert _n_segments(index) <= 2
    assert index.verify() == []


def test_a_long_question_starts_again_once_and_not_at_each_merge(index: Index) -> None:
    index.add(rows(20))
    other, n_asked = reopen(index), 0

    def question(snapshot: Snapshot) -> list[int]:
        nonlocal n_asked
        n_asked += 1
        found = []
        for layer in index.layers:
            found.append(sum(len(segment.rows) for segment in snapshot.layer(layer).slices()))
            other.add(rows(1, start=20 * n_asked + layer))
            other.compact()
            len(index)  # which forgets the files of the commit before
        return found

    assert index._open.store.query(question) == [21] * 4
    assert n_asked == 2
