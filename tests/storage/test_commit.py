"""The commit order: whatever fails before the transaction, the state before it stays."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerdex import Index
from layerdex.errors import LayerdexError, ModelError, StorageError
from layerdex.records import Encoded
from layerdex.storage.catalog.changes import insert_segment
from layerdex.storage.files import write_file
from layerdex.storage.writer import Writer
from tests.encoders import WordEncoder
from tests.storage.corpora import ids_of, reopen, rows
from tests.storage.stored import contents, layer_paths, query, read_live, read_versions


@pytest.mark.usefixtures("threads")
def test_leftovers_are_removed_links_not_followed_and_foreign_files_left(
    index: Index, tmp_path: Path
) -> None:
    index.add(rows(3))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("stay")
    segments = index._open.store.path / "segments"
    (committed,) = segments.iterdir()
    unfinished = segments / "0123456789abcdef.new"
    unfinished.mkdir()
    (unfinished / "layer-00.faiss").write_bytes(b"half")
    (segments / "00000000000000ff").symlink_to(outside)
    (segments / "stray").write_bytes(b"file")
    index.delete("d0")
    assert set(segments.iterdir()) == {committed, segments / "stray"}
    assert (outside / "precious").read_text() == "stay"


@pytest.mark.usefixtures("threads")
def test_file_is_flushed_before_its_rename_and_the_commit_comes_last(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    sync, rename, insert = os.fsync, Path.rename, insert_segment

    def watched_sync(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        events.append(f"sync {re.sub('[0-9a-f]{16}', 'SEGMENT', name)}")
        sync(descriptor)

    def watched_rename(path: Path, target: Path) -> Path:
        events.append("rename")
        return rename(path, target)

    def watched_insert(*arguments: Any) -> None:
        events.append("commit")
        insert(*arguments)

    monkeypatch.setattr(os, "fsync", watched_sync)
    monkeypatch.setattr(Path, "rename", watched_rename)
    monkeypatch.setattr("layerdex.storage.writer.insert_segment", watched_insert)
    index.add(rows(2))
    layers = [f"sync layer-{layer:02d}.faiss" for layer in range(4)]
    broken_seal = f"sync {index._open.store.path.name}"
    salt = ["sync catalog.sqlite3-wal", "sync catalog.sqlite3"]
    assert events[:3] == [broken_seal, *salt]
    assert sorted(events[3:7]) == layers
    assert events[7:] == ["sync SEGMENT.new", "rename", "sync segments", "commit"]


@pytest.mark.usefixtures("threads")
def test_layers_are_written_by_threads_where_that_pays(
    request: pytest.FixtureRequest, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []

    def write(path: Path, data: Any) -> None:
        names.append(threading.current_thread().name)
        write_file(path, data)

    monkeypatch.setattr("layerdex.storage.writer.write_file", write)
    index.add(rows(2))
    is_threaded = request.node.callspec.params["threads"] == "several"
    assert [name.startswith("layerdex-write") for name in names] == [is_threaded] * 4


@pytest.mark.usefixtures("threads")
def test_segment_bytes_are_the_same_for_two_runs(tmp_path: Path) -> None:
    runs = []
    for name in ("one", "two"):
        index = Index.create(tmp_path / name, model=WordEncoder())
        index.add(rows(20))
        index.add([{"id": "d3", "text": "another text"}])
        order = query(index._open.store.path, "SELECT name FROM segment ORDER BY first_row")
        found = contents(index._open.store.path)
        runs.append([found[key] for (n,) in order for key in sorted(found) if n in key])
    assert len(runs[0]) == 4 * 4
    assert runs[0] == runs[1]


@pytest.mark.usefixtures("threads")
def test_vectors_on_disk_are_the_encoders_own(index: Index) -> None:
    index.add(rows(10))
    documents = rows(10)
    expected = WordEncoder().encode([str(one["text"]) for one in documents], index.layers).vectors
    live = read_live(index._open.store.path)
    for position, document in enumerate(documents):
        vectors = live[str(document["id"])].vectors
        assert sorted(vectors) == [0, 1, 2, 3]
        for layer, stored in vectors.items():
            assert stored == expected[layer, position].astype(np.float16).tobytes()


def test_update_and_delete_change_all_or_nothing(index: Index) -> None:
    index.add(rows(4))
    index.add([{"id": "d1", "text": "newer text"}])
    versions = read_versions(index._open.store.path)
    assert [(v.row, v.id, v.live) for v in versions] == [
        (1, "d0", True),
        (2, "d1", False),
        (3, "d2", True),
        (4, "d3", True),
        (5, "d1", True),
    ]
    assert versions[1].ordinal == versions[4].ordinal == 2
    with pytest.raises(LayerdexError, match="'nobody'"):
        index.delete("d0", "nobody")
    assert ids_of(index) == ["d0", "d1", "d2", "d3"]


@pytest.mark.usefixtures("threads")
def test_encoder_of_another_width_is_refused_and_commits_nothing(index: Index) -> None:
    index.add(rows(2))
    wide = Index.open(index._open.store.path, encoder=_Wide())
    with pytest.raises(ModelError, match=r"\(4, 1, 8\).*\(4, 1, 16\)"):
        wide.add(rows(1, start=2))
    assert len(reopen(index)) == 2
    assert index.verify() == []


class _Wide(WordEncoder):
    """Gives vectors of another width than its settings say."""

    def encode(self, texts: Sequence[str], layers: Sequence[int]) -> Encoded:
        encoded = super().encode(texts, layers)
        return replace(encoded, vectors=encoded.vectors[:, :, :8])


def test_file_that_a_killed_repair_left_is_removed_by_the_next_writer(index: Index) -> None:
    index.add(rows(2))
    left = layer_paths(index._open.store.path)[0].with_suffix(".new")
    left.write_bytes(b"half")
    index.add(rows(1, start=2))
    assert not left.exists()


def test_folders_made_for_an_index_are_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    Index.create(tmp_path / "one" / "two" / "index", model=WordEncoder())
    assert {tmp_path, tmp_path / "one", tmp_path / "one" / "two"} <= set(synced)


def test_failing_vacuum_is_an_error_of_our_own(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add(rows(9))
    index.delete("d1")

    real = Writer.vacuum

    def interrupted(writer: Writer) -> None:
        driver: Any = writer._connection.connection.driver_connection
        driver.set_progress_handler(lambda: 1, 1)
        try:
            real(writer)
        finally:
            driver.set_progress_handler(None, 1)

    monkeypatch.setattr(Writer, "vacuum", interrupted)
    with pytest.raises(StorageError, match="interrupted"):
        index.compact()
    assert len(reopen(index)) == 8
