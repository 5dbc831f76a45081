"""``export``, and ``add`` of what it wrote: the same index, in both formats."""

from __future__ import annotations

import io
import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from layerdex import Index
from layerdex.errors import DamagedIndexError, LayerError, OptionError, StorageError
from layerdex.indexer.readers import Fields
from layerdex.indexer.writers import parquet as parquet_export
from layerdex.records import Document
from layerdex.storage import store
from layerdex.storage.vectors.layer_file import LayerFile
from tests.encoders import WordEncoder
from tests.index.expectations import corpus
from tests.storage.corpora import flip_byte, reopen
from tests.storage.stored import layer_paths, read_live

FORMATS = ["jsonl", "parquet"]


def _parts(index: Index) -> list[tuple[str, str, str | None, str]]:
    # repr tells 1 from 1.0 and from True; fields come in alphabetical order
    return [(d.id, d.text, d.label, repr(d.metadata)) for d in index.documents()]


def _again(path: Path, source: Path) -> Index:
    index = Index.create(path, model=WordEncoder())
    index.add(source)
    return index


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("layers", [None, "all"])
def test_what_was_exported_makes_the_same_index(
    index: Index, tmp_path: Path, format_: str, layers: str | None
) -> None:
    index.add(corpus(40))
    index.add([{"text": "no id"}, {"text": "no id"}, {"id": "d3", "text": "changed"}])
    index.delete("d7")
    path = tmp_path / f"all.{format_}"
    assert index.export(path, layers=layers) == 41
    again = _again(tmp_path / "again", path)
    assert _parts(again) == _parts(index)
    old, new = read_live(index._open.store.path), read_live(again._open.store.path)
    assert {id_: one.vectors for id_, one in new.items()} == {
        id_: one.vectors for id_, one in old.items()
    }
    report = again.add(path)
    assert (report.n_unchanged, report.n_read) == (41, 41)


@pytest.mark.parametrize("precision", ["float16", "float32", "int8"])
@pytest.mark.parametrize("format_", FORMATS)
def test_vectors_are_the_stored_ones(tmp_path: Path, precision: str, format_: str) -> None:
    index = Index.create(tmp_path / "index", model=WordEncoder(), precision=precision)
    index.add(corpus(20))
    index.add([{"id": "d2", "text": "changed"}])
    index.delete("d5", "d11")
    path = tmp_path / f"v.{format_}"
    index.export(path, layers="0,3", where="size>1")
    live = read_live(index._open.store.path)
    ids = [f"d{i}" for i in range(2, 20) if i not in {5, 11}]
    if format_ == "parquet":
        table = pq.read_table(path)
        rows = table.to_pylist()
        for layer in (0, 3):
            type_ = table.schema.field(f"vector_{layer}").type
            assert type_.list_size == 16
            assert str(type_.value_type) == ("halffloat" if precision == "float16" else "float")
    else:
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [row["id"] for row in rows] == ids
    assert "vector_1" not in rows[0]
    for row in rows:
        for layer in (0, 3):
            stored = live[row["id"]].vectors[layer]
            found = np.array(row[f"vector_{layer}"])
            if precision == "int8":
                kept = np.frombuffer(stored, np.float32).astype(np.float64)
                np.testing.assert_allclose(found, kept / np.linalg.norm(kept), atol=1e-6)
            else:
                kept = np.frombuffer(stored, precision).astype(np.float64)
                np.testing.assert_array_equal(found, kept)


def test_fields_with_values_of_several_types_keep_them(index: Index, tmp_path: Path) -> None:
    values = [1, 1.0, True, "1", None, -0.0, 2**63 - 1]
    rows = [{"id": f"d{i}", "text": f"t{i}", "mixed": v, "n": i} for i, v in enumerate(values)]
    index.add(rows)
    path = tmp_path / "mixed.parquet"
    index.export(path)
    assert pq.read_schema(path).names == ["id", "text", "label", "metadata", "metadata_json"]
    assert [str(one.type) for one in pq.read_schema(path).field("metadata").type] == ["int64"]
    assert _parts(_again(tmp_path / "again", path)) == _parts(index)
    only = Index.create(tmp_path / "only", model=WordEncoder())
    only.add(path, fields=Fields(metadata=("mixed",)))
    assert [repr(d.metadata) for d in only.documents()] == [
        repr({} if v is None else {"mixed": v}) for v in values
    ]


def test_more_fields_than_a_table_has_columns(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_export, "_MAX_TYPED_FIELDS", 5)
    index.add([{"id": f"d{i}", "text": f"t{i}", f"field{i}": i} for i in range(9)])
    path = tmp_path / "wide.parquet"
    index.export(path)
    assert len(pq.read_schema(path).field("metadata").type) == 5
    assert _parts(_again(tmp_path / "again", path)) == _parts(index)


def test_a_column_that_is_only_called_like_that_of_an_export_is_metadata(
    index: Index, tmp_path: Path
) -> None:
    index.add([{"id": "a", "text": "t", "metadata_json": '{"x": 1}', "vector_3": "no list"}])
    for format_ in FORMATS:
        path = tmp_path / f"all.{format_}"
        index.export(path, layers=3)
        (document,) = _again(tmp_path / format_, path).documents()
        assert document.metadata == {"metadata_json": '{"x": 1}', "vector_3": "no list"}


def test_a_row_group_is_bounded(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layerdex.storage.maintenance.export.BATCH_DOCUMENTS", 10)
    monkeypatch.setattr(parquet_export, "_GROUP_BYTES", 2_500)
    index.add(corpus(60))
    steps: list[tuple[int, int | None]] = []
    path = tmp_path / "all.parquet"
    index.export(path, layers="all", on_progress=lambda *one: steps.append(one))
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert groups == [20, 20, 20]
    assert steps == [(n, 60) for n in range(10, 70, 10)]
    assert _parts(_again(tmp_path / "again", path)) == _parts(index)


@pytest.mark.parametrize("format_", FORMATS)
def test_an_empty_index_is_a_file_without_documents(
    index: Index, tmp_path: Path, format_: str
) -> None:
    path = tmp_path / f"none.{format_}"
    assert index.export(path, layers="all") == 0
    assert _parts(_again(tmp_path / "again", path)) == []


@pytest.mark.parametrize("format_", FORMATS)
def test_an_export_is_of_one_commit_whatever_others_do_meanwhile(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_: str
) -> None:
    monkeypatch.setattr("layerdex.storage.maintenance.export.BATCH_DOCUMENTS", 4)
    index.add(corpus(20))
    quiet, busy = tmp_path / f"quiet.{format_}", tmp_path / f"busy.{format_}"
    index.export(quiet, layers="all")
    reader, other = reopen(index), reopen(index)

    def disturb(done: int, _total: int | None) -> None:
        if done == 4:
            other.add([{"id": "d15", "text": "changed"}, {"id": "new", "text": "new"}])
            other.delete("d12")
            other.compact()
            assert len(reader) == 20  # which forgets the files of the commit before

    assert reader.export(busy, layers="all", on_progress=disturb) == 20
    assert busy.read_bytes() == quiet.read_bytes()


def test_a_compaction_that_comes_between_is_read_instead(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add(corpus(20))
    other, opened, n_opened = reopen(index), store.Store.open_file, 0

    def compact_first(*arguments: Any) -> LayerFile:
        nonlocal n_opened
        n_opened += 1
        if n_opened == 3:
            other.delete("d3")
            other.compact()
        return opened(*arguments)

    monkeypatch.setattr(store.Store, "open_file", compact_first)
    assert reopen(index).export(tmp_path / "all.jsonl", layers="all") == 19


def test_damaged_vectors_and_missing_files_are_no_export(index: Index, tmp_path: Path) -> None:
    index.add(corpus(20))
    target = tmp_path / "all.parquet"
    flip_byte(layer_paths(index._open.store.path)[6])
    with pytest.raises(DamagedIndexError, match="wrong checksum"):
        reopen(index).export(target, layers="all")
    damaged = Index.open(index._open.store.path, damaged=True)
    layer_paths(index._open.store.path)[7].unlink()
    with pytest.raises(DamagedIndexError, match="is missing"):
        damaged.export(target, layers=3)
    assert sorted(one.name for one in tmp_path.iterdir() if one != index._open.store.path) == []
    assert damaged.export(target) == 20


@pytest.mark.parametrize("format_", FORMATS)
def test_a_full_disk_leaves_no_file(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_: str
) -> None:
    index.add(corpus(5))
    target = tmp_path / f"all.{format_}"
    target.write_text("before", encoding="utf-8")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match="No space left on device"):
        index.export(target)
    assert target.read_text("utf-8") == "before"
    assert {one.name for one in tmp_path.iterdir()} == {"index", target.name}
    with pytest.raises(StorageError, match="No space left on device"):
        index.export(Path("/dev/full"), format=format_)


def test_any_stream_can_be_written_to(index: Index, tmp_path: Path) -> None:
    index.add(corpus(5))
    for format_ in FORMATS:
        stream = io.BytesIO()
        assert index.export(stream, format=format_) == 5
        path = tmp_path / f"all.{format_}"
        index.export(path)
        assert stream.getvalue() == path.read_bytes()


def test_parquet_goes_through_a_pipe(index: Index, tmp_path: Path) -> None:
    index.add(corpus(5))
    read, written = os.pipe()
    found: list[bytes] = []

    def drain() -> None:
        with os.fdopen(read, "rb") as reader:
            found.append(reader.read())

    thread = threading.Thread(target=drain)
    thread.start()
    try:
        index.export(f"/dev/fd/{written}", format="parquet")
    finally:
        os.close(written)
        thread.join()
    (tmp_path / "piped.parquet").write_bytes(found[0])
    assert _parts(_again(tmp_path / "again", tmp_path / "piped.parquet")) == _parts(index)


def test_what_cannot_be_asked_for_is_an_error(index: Index, tmp_path: Path) -> None:
    index.add(corpus(2))
    with pytest.raises(LayerError):
        index.export(tmp_path / "x.jsonl", layers=9)
    with pytest.raises(OptionError):
        index.export(tmp_path / "x.jsonl", format="tsv")
    with pytest.raises(OptionError):
        index.export(3)  # type: ignore[arg-type]
    assert not (tmp_path / "x.jsonl").exists()


def test_a_document_writes_itself_as_a_row() -> None:
    document = Document(1, "a", "text", None, {"n": 1})
    row = {"id": "a", "text": "text", "label": None, "metadata": {"n": 1}}
    assert document.as_row() == row
