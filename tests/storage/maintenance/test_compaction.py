"""Compaction: fewer files, the same documents, and no row ever again."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import pytest

from layerdex import Index
from layerdex.errors import DamagedIndexError, StorageError
from layerdex.storage import writer
from layerdex.storage.files import write_file
from layerdex.storage.maintenance import compaction, merge_policy
from layerdex.storage.vectors.codecs import Codec
from layerdex.storage.vectors.layer_file import empty_layer
from tests.encoders import WordEncoder
from tests.results import first
from tests.storage.corpora import flip_byte, ids_of, reopen, rows
from tests.storage.stored import (
    contents,
    layer_paths,
    query,
    read_live,
    read_versions,
)


@pytest.fixture
def worn(index: Index) -> Index:
    """Five segments with updates and deletions in several of them."""
    index.add(rows(30))
    index.add([{"id": "d3", "text": "changed three"}, {"id": "d20", "text": "changed twenty"}])
    index.delete("d0", "d7", "d8", "d29")
    return index


def test_compaction_keeps_ids_ordinals_rows_and_vectors(worn: Index) -> None:
    before, documents = read_live(worn._open.store.path), list(worn.documents())
    steps: list[tuple[int, int | None]] = []
    assert worn.compact(on_progress=lambda done, total: steps.append((done, total))) == 5
    # In documents: a step before each layer, and one at the end.
    assert len(set(steps)) == len(worn.layers) + 1
    assert sorted(steps) == steps
    assert steps[-1][0] == steps[-1][1]
    assert read_live(worn._open.store.path) == before
    assert list(worn.documents()) == list(reopen(worn).documents()) == documents
    assert worn.verify() == []


def test_compaction_removes_dead_versions_and_old_files(worn: Index) -> None:
    worn.compact()
    path = worn._open.store.path
    assert [version.live for version in read_versions(path)] == [True] * 26
    (segments,) = query(path, "SELECT name, n_documents, first_row, last_row FROM segment")
    assert segments[1:] == (26, 2, 32)
    assert [entry.name for entry in (path / "segments").iterdir()] == [segments[0]]
    for table in ("document_text", "metadatum"):
        orphans = f"SELECT count(*) FROM {table} WHERE row NOT IN (SELECT row FROM document)"
        assert query(path, orphans) == [(0,)]
    assert query(path, "SELECT count(*) FROM segment_file") == [(4,)]
    info = worn.info()
    assert (info.n_documents, info.n_dead, info.n_segments) == (26, 0, 1)


def test_second_compaction_has_nothing_to_do(worn: Index) -> None:
    worn.compact()
    before = contents(worn._open.store.path)
    assert worn.compact() == 0
    assert contents(worn._open.store.path) == before


def test_full_segments_are_left_alone(worn: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    worn.compact()
    monkeypatch.setattr(merge_policy, "TARGET_DOCUMENTS", 20)
    worn.add(rows(16, start=30))
    big = query(worn._open.store.path, "SELECT name FROM segment WHERE n_documents = 26")
    assert worn.compact() == 2
    sizes = query(worn._open.store.path, "SELECT n_documents FROM segment ORDER BY first_row")
    assert sizes == [(26,), (16,)]
    assert query(worn._open.store.path, "SELECT name FROM segment WHERE n_documents = 26") == big


def test_merged_segments_stay_within_the_target(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge_policy, "TARGET_DOCUMENTS", 20)
    index.add(rows(40), auto_compact=False)
    before = read_live(index._open.store.path)
    assert index.compact() == 4
    sizes = query(index._open.store.path, "SELECT n_documents FROM segment ORDER BY first_row")
    assert sizes == [(16,), (16,), (8,)]
    assert read_live(index._open.store.path) == before


def test_damaged_file_is_not_copied(worn: Index) -> None:
    damaged = layer_paths(worn._open.store.path)[6]
    flip_byte(damaged)
    before, versions = (
        contents(worn._open.store.path),
        query(worn._open.store.path, "SELECT * FROM document"),
    )
    with pytest.raises(DamagedIndexError, match=rf"{damaged.name}.*wrong checksum.*repair"):
        worn.compact()
    assert query(worn._open.store.path, "SELECT * FROM document") == versions
    worn.repair(worn.verify())
    after = contents(worn._open.store.path)
    assert after.keys() == before.keys()
    assert worn.compact() == 5


def test_failure_leaves_the_state_before(worn: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read_versions(worn._open.store.path)

    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writer, "write_file", fail)
        with pytest.raises(StorageError, match="No space left"):
            worn.compact()
    with monkeypatch.context() as patch:
        patch.setattr(compaction, "insert_segment", fail)
        with pytest.raises(StorageError, match="No space left"):
            worn.compact()
    assert read_versions(worn._open.store.path) == before
    assert reopen(worn).verify() == []
    assert worn.compact() == 5


def test_everything_deleted_and_compacted_is_an_empty_index(worn: Index) -> None:
    worn.delete(*ids_of(worn))
    assert (len(worn), first(worn.search("text")), ids_of(worn)) == (0, [], [])
    assert worn.compact() == 5
    assert layer_paths(worn._open.store.path) == []
    assert list((worn._open.store.path / "segments").iterdir()) == []
    again = reopen(worn)
    assert (len(again), first(again.search("text")), again.verify()) == (0, [], [])
    assert again.add(rows(2)).n_new == 2
    assert [hit.id for hit in first(again.search("text number1 of 1", k=1))] == ["d1"]


def test_rows_and_ordinals_are_never_used_twice(index: Index) -> None:
    index.add(rows(10))
    index.delete("d8", "d9")
    index.compact()
    index.add(rows(1, start=10))
    assert read_live(index._open.store.path)["d10"].row == 11
    assert read_live(index._open.store.path)["d10"].ordinal == 11
    index.delete(*ids_of(index))
    index.compact()
    index.add(rows(2))
    assert [(v.row, v.ordinal) for v in read_versions(index._open.store.path)] == [
        (12, 12),
        (13, 13),
    ]


def test_updated_documents_keep_their_place_in_input_order(worn: Index) -> None:
    expected = [f"d{i}" for i in range(30) if i not in {0, 7, 8, 29}]
    assert ids_of(worn) == expected
    worn.compact()
    assert ids_of(worn) == expected


def test_updates_after_compaction_find_their_rows(worn: Index) -> None:
    worn.compact()
    worn.add([{"id": "d3", "text": "changed once more"}, {"id": "d20", "text": "changed twenty"}])
    live = read_live(worn._open.store.path)
    assert (live["d3"].row, live["d20"].row) == (33, 32)
    assert first(worn.search("changed once more", k=1))[0].id == "d3"
    worn.compact()
    assert first(worn.search("changed once more", k=1))[0].id == "d3"


@pytest.mark.parametrize("precision", ["float16", "float32", "int8"])
def test_a_plan_says_what_compaction_then_does(tmp_path: Path, precision: str) -> None:
    index = Index.create(tmp_path / "index", model=WordEncoder(), precision=precision)
    assert index.plan_compaction() == compaction.Compaction(0, 0, 0, 0)
    index.add(rows(30))
    index.delete("d1", *(f"d{i}" for i in range(8, 16)))
    before, plan = contents(index._open.store.path), index.plan_compaction()
    assert contents(index._open.store.path) == before
    n_bytes = sum(path.stat().st_size for path in layer_paths(index._open.store.path))
    assert index.compact() == plan.n_merged == 4
    n_freed = n_bytes - sum(path.stat().st_size for path in layer_paths(index._open.store.path))
    assert (plan.n_segments_after, plan.n_dead, plan.n_bytes_freed) == (1, 9, n_freed)
    index.delete(*ids_of(index))
    assert index.plan_compaction().n_segments_after == index.info().n_segments - 1 == 0


def test_a_document_that_only_seems_dead_is_not_dropped(worn: Index) -> None:
    query(worn._open.store.path, "UPDATE document SET live = 0 WHERE id = 'd12'")
    with pytest.raises(DamagedIndexError, match="row 13"):
        worn.compact()
    assert query(worn._open.store.path, "SELECT count(*) FROM document WHERE id = 'd12'") == [(1,)]


def test_a_merge_holds_one_layer_at_a_time(worn: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[object]] = []
    n_alive: list[int] = []

    def counted(n: int, width: int, codec: Codec) -> tuple[np.ndarray, np.ndarray]:
        n_alive.append(sum(one() is not None for one in made))
        data, codes = empty_layer(n, width, codec)
        made.append(weakref.ref(data))
        return data, codes

    monkeypatch.setattr(compaction, "empty_layer", counted)
    worn.compact()
    assert n_alive == [0] * len(worn.layers)


def test_a_damaged_segment_stops_no_other_merge_and_costs_no_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "index"
    index = Index.create(path, model=WordEncoder(window=8), layers=[2, 3])
    index.add(rows(8 * 25), auto_compact=False)
    (name,) = query(path, "SELECT name FROM segment ORDER BY first_row")[12]
    damaged = path / "segments" / name / "layer-03.faiss"
    flip_byte(damaged)
    before = {key: version.vectors for key, version in read_live(path).items()}
    written: list[str] = []

    def record(path: Path, data: np.ndarray) -> None:
        written.append(path.name)
        write_file(path, data)

    monkeypatch.setattr(writer, "write_file", record)
    index.add(rows(1, start=1_000))
    sizes = query(path, "SELECT n_documents FROM segment ORDER BY first_row")
    assert sizes == [(8 * 12,), (8,), (8 * 12,), (1,)]
    assert written == ["layer-02.faiss", "layer-03.faiss"] * 3  # the document, and two merges
    assert [str(damaged) in message for message in caplog.messages] == [True]
    after = read_live(path)
    assert {key: after[key].vectors for key in before} == before
    assert reopen(index).repair(reopen(index).verify()) == 1
