"""Readers: each question sees one commit, the newest, and nothing in between."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import Engine, event

from layerdex import Index
from layerdex.choices import Operator
from layerdex.errors import DamagedIndexError, StorageError
from layerdex.predicates import Condition
from layerdex.storage import commit_cache
from layerdex.storage.catalog.segments import segment_rows
from layerdex.storage.vectors.layer_file import LayerFile
from layerdex.storage.writer import Writer
from tests.encoders import WordEncoder
from tests.results import first, hits_by_layer
from tests.storage.corpora import flip_byte, reopen, rows
from tests.storage.stored import layer_paths, read_live

SMALL = (Condition("size", Operator.LESS, ("5",)),)


def test_snapshot_stays_the_same_through_commits(index: Index) -> None:
    index.add(rows(5))
    with index._open.store.read() as old:
        before = old.document_table()
        vectors = old.layer(2).gather(before.rows)
        other = reopen(index)
        other.add([{"id": "d1", "text": "changed", "label": "new"}, *rows(3, start=5)])
        other.delete("d4")
        assert old.document_table().ids == before.ids == [f"d{i}" for i in range(5)]
        assert old.n_documents == 5
        assert {document.text for document in old.documents(before.rows.tolist()).values()} == {
            str(row["text"]) for row in rows(5)
        }
        np.testing.assert_array_equal(old.layer(2).gather(old.rows()), vectors)
        with index._open.store.read() as new:
            assert sorted(new.document_table().ids) == ["d0", "d1", "d2", "d3", "d5", "d6", "d7"]
            assert new.n_documents == 7


def test_long_lived_index_answers_each_question_from_the_newest_commit(index: Index) -> None:
    index.add(rows(5))
    reader = reopen(index)
    assert first(reader.search("text number7 of 2", k=1))[0].id != "d7"
    index.add(rows(3, start=5))
    assert first(reader.search("text number7 of 2", k=1))[0].id == "d7"
    index.add([{"id": "d7", "label": "relabelled", "text": "text number7 of 2"}])
    assert first(reader.search("text number7 of 2", k=1))[0].label == "relabelled"
    index.delete("d7")
    assert first(reader.search("text number7 of 2", k=1))[0].id != "d7"
    index.compact()
    assert first(reader.search("text number6 of 1", k=1))[0].id == "d6"
    assert len(reader) == 7


def test_reader_in_the_middle_of_a_commit_sees_the_state_before(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add(rows(5))
    reader, seen = reopen(index), []
    whole = Writer.change

    def change(writer: Writer) -> Any:
        seen.append(
            (len(reader), [hit.id for hit in first(reader.search("text number5 of 0", k=9))])
        )
        return whole(writer)

    monkeypatch.setattr(Writer, "change", change)
    index.add(rows(1, start=5))
    assert len(seen) == 1
    assert seen[0][0] == 5
    assert "d5" not in seen[0][1]
    assert len(reader) == 6


def test_reader_beside_a_writer_only_ever_sees_whole_windows(index: Index) -> None:
    reader, done = reopen(index), threading.Event()
    seen: dict[tuple[str, ...], NDArray[np.float32]] = {}

    def read() -> None:
        while not seen or not done.is_set():
            with reader._open.store.read() as snapshot:
                record = snapshot.document_table()
                seen[tuple(record.ids)] = snapshot.layer(1).gather(record.rows)

    thread = threading.Thread(target=read)
    thread.start()
    index.add(rows(8 * 15))
    done.set()
    thread.join()
    assert len(reader) == 8 * 15
    stored = read_live(index._open.store.path)
    assert seen
    for ids, vectors in seen.items():
        assert len(ids) % 8 == 0
        codes = [np.frombuffer(stored[name].vectors[1], np.float16) for name in ids]
        np.testing.assert_allclose(vectors, np.reshape(codes, vectors.shape), atol=1e-3)


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\0"])
def test_file_of_another_size_is_damage_at_open(
    index: Index, change: Callable[[bytes], bytes]
) -> None:
    index.add(rows(5))
    reader = reopen(index)
    path = layer_paths(index._open.store.path)[1]
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DamagedIndexError, match=rf"{path.name} .*damaged.*repair"):
        reopen(index)
    with pytest.raises(DamagedIndexError, match="repair"):
        first(reader.search("text", layer=1))
    assert Index.open(index._open.store.path, encoder=WordEncoder(), damaged=True).layers == (
        0,
        1,
        2,
        3,
    )


def test_file_of_the_right_size_that_is_no_such_layer_is_damage(index: Index) -> None:
    index.add(rows(5))
    path = layer_paths(index._open.store.path)[1]
    flip_byte(path, at=0)
    with pytest.raises(DamagedIndexError, match=rf"{path.name} is damaged.*repair"):
        first(reopen(index).search("text", layer=1))


def test_only_asked_layers_are_mapped_and_each_once(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add(rows(20))
    mapped: list[str] = []
    whole = LayerFile.__init__

    def init(self: LayerFile, path: Path, *recorded: Any, **options: Any) -> None:
        mapped.append(path.name)
        whole(self, path, *recorded, **options)

    monkeypatch.setattr(LayerFile, "__init__", init)
    reader = reopen(index)
    assert (len(reader), reader.get("d3")[0].id, mapped) == (20, "d3", [])
    first(reader.search("text", layer=2))
    first(reader.search("text", layer=2))
    assert mapped == ["layer-02.faiss"] * 3


def test_another_index_in_the_same_place_is_not_taken_for_the_one_opened(
    index: Index, tmp_path: Path
) -> None:
    index.add([{"id": "cat", "text": "a cat"}, {"id": "dog", "text": "a dog"}])
    other = Index.create(tmp_path / "other", model=WordEncoder())
    other.add([{"id": "dog", "text": "a dog"}, {"id": "cat", "text": "a cat"}])
    path = index._open.store.path
    shutil.rmtree(path)
    (tmp_path / "other").rename(path)
    for question in (
        lambda: first(index.search("a cat")),
        lambda: index.add([{"text": "a bird"}]),
        lambda: index.delete("cat"),
    ):
        with pytest.raises(StorageError, match=r"another index.*open it again"):
            question()
    assert first(reopen(index).search("a cat", k=1))[0].id == "cat"


def test_backup_put_in_place_is_seen_though_the_number_of_commits_is_the_same(
    index: Index, tmp_path: Path
) -> None:
    index.add(rows(3))
    index.backup(tmp_path / "backup")
    index.add([{"id": "lost", "text": "a cat"}])
    reader = reopen(index)
    assert first(reader.search("a cat", k=1))[0].id == "lost"
    path = index._open.store.path
    shutil.rmtree(path)
    (tmp_path / "backup").rename(path)
    reopen(index).add([{"id": "kept", "text": "a dog"}])
    assert first(reader.search("a dog", k=1))[0].id == "kept"
    assert first(reader.search("a dog", k=1))[0].similarity == 1
    assert "lost" not in [hit.id for hit in first(reader.search("a cat", k=9))]


def test_thread_that_reads_a_file_for_the_first_time_keeps_no_other_waiting(index: Index) -> None:
    index.add(rows(3))
    reader = reopen(index)
    first(reader.search("text", layer=1))
    started, go_on = threading.Event(), threading.Event()
    whole = reader._open.store.open_file

    def slow(segment: Any, layer: int) -> LayerFile:
        started.set()
        assert go_on.wait(60)
        return whole(segment, layer)

    reader._open.store._cache._open_file = slow
    thread = threading.Thread(target=reader.search, args=["text"], kwargs={"layer": 2})
    thread.start()
    assert started.wait(60)
    answers: list[str] = []
    other = threading.Thread(
        target=lambda: answers.append(first(reader.search("text number1 of 1", k=1, layer=1))[0].id)
    )
    other.start()
    other.join(20)
    in_time = list(answers)
    go_on.set()
    thread.join()
    other.join()
    assert in_time == ["d1"]


def test_a_file_that_was_replaced_while_it_was_opened_is_not_kept(index: Index) -> None:
    index.add(rows(3))
    layer_file = layer_paths(index._open.store.path)[2]
    content = bytearray(layer_file.read_bytes())
    reader = reopen(index)
    first(reader.search("text", layer=1))
    opened, go_on = threading.Event(), threading.Event()
    whole = reader._open.store.open_file

    def slow(segment: Any, layer: int) -> LayerFile:
        file = whole(segment, layer)
        if layer == 2 and not opened.is_set():
            opened.set()
            assert go_on.wait(60)
        return file

    reader._open.store._cache._open_file = slow
    thread = threading.Thread(target=reader.search, args=["text"], kwargs={"layer": 2})
    thread.start()
    assert opened.wait(60)
    replaced = layer_file.with_name("replaced")
    replaced.write_bytes(content)
    replaced.replace(layer_file)  # as a repair does
    index.add([{"id": "new", "text": "another commit"}])
    first(reader.search("text", layer=1))
    go_on.set()
    thread.join()
    kept = reader._open.store._cache._files
    # The question may have opened the new file itself.
    assert all(
        file._inode == layer_file.stat().st_ino
        for (segment, layer), file in kept.items()
        if (segment, layer) == (layer_file.parent.name, 2)
    )


def test_threads_share_an_index_beside_a_writer(index: Index) -> None:
    index.add(rows(8))
    reader, failures, done = reopen(index), [], threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                assert first(reader.search("text number1 of 1", k=1))[0].id == "d1"
            except Exception as error:  # whatever it is, it fails the test
                failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for start in range(8, 40, 8):
        index.add(rows(8, start=start))
        index.delete(f"d{start}")
        index.compact()
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []


def test_rows_of_a_compacted_segment_are_read_once(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add(rows(16))
    index.delete("d3", "d9")
    index.compact()
    reader, asked = reopen(index), []
    real = segment_rows

    def counted(*arguments: Any) -> Any:
        asked.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(commit_cache, "segment_rows", counted)
    for i in (1, 4, 15):
        assert first(reader.search(f"text number{i} of {i % 5}", k=1))[0].id == f"d{i}"
        assert hits_by_layer(reader.search_like(f"d{i}", k=3))
    assert len(asked) == 1


def test_a_filter_is_read_once_for_a_commit(index: Index) -> None:
    index.add(rows(16))
    index.delete("d3")
    reader = reopen(index)
    before = _read_filtered(reader)
    asked: list[str] = []
    watch = partial(_note_metadata, asked)
    event.listen(Engine, "before_cursor_execute", watch)
    try:
        again = _read_filtered(reader)
        n_again = len(asked)
        index.add([{"id": "late", "text": "a late text", "size": 2}])
        index.delete("d1")
        after = _read_filtered(reader)
    finally:
        event.remove(Engine, "before_cursor_execute", watch)
    assert before == again == ["d0", "d1", "d2", "d4"]
    assert n_again == 0
    assert after == ["d0", "d2", "d4", "late"]
    assert asked


def test_rows_of_a_filter_are_those_of_the_commit_that_is_read(index: Index) -> None:
    index.add(rows(8))
    reader = reopen(index)._open.store
    with reader.read() as older:
        index.delete("d1")
        with reader.read() as newer:
            assert [len(each.rows(SMALL)) for each in (older, newer, older)] == [5, 4, 5]
            assert [len(each.labelled_rows()) for each in (older, newer, older)] == [8, 7, 8]


def test_shared_rows_cannot_be_changed(index: Index) -> None:
    index.add(rows(8))
    with index._open.store.read() as snapshot:
        for found in (snapshot.rows(), snapshot.rows(SMALL), snapshot.labelled_rows()):
            with pytest.raises(ValueError, match="read-only"):
                found[0] = 7


def _read_filtered(reader: Index) -> list[str]:
    return sorted(hit.id for hit in first(reader.search("text", k=99, where="size<5")))


def _note_metadata(asked: list[str], *arguments: Any) -> None:
    statement = arguments[2]
    if "group_concat" in statement:
        asked.append(statement)
