"""Forged layer files under a catalog that matches them: they never reach FAISS."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from layerdex import Index
from layerdex.choices import StoredPrecision
from layerdex.errors import DamagedIndexError, StorageError
from layerdex.storage.vectors.codecs import codec_of
from layerdex.storage.vectors.layer_file import serialize_layer
from tests.encoders import WordEncoder
from tests.results import by_layer
from tests.storage.corpora import rows
from tests.storage.hostile import (
    forge_file,
)

N, WIDTH = 8, 16

Make = Callable[[Path], bytes]


def _vectors(n: int = N) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal((n, WIDTH)).astype(np.float32)


def _filled(index: Any) -> bytes:
    index.train(_vectors(200))
    index.add(_vectors())
    return bytes(faiss.serialize_index(index))


def _on_disk_lists(folder: Path) -> bytes:
    """An inverted file whose lists lie in another file, named by a path."""
    index: Any = faiss.index_factory(WIDTH, "PCA8,IVF2,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(_vectors(200))
    inner = faiss.extract_index_ivf(index)
    outside = folder / "outside.lists"
    lists = faiss.OnDiskInvertedLists(inner.nlist, inner.code_size, str(outside))
    inner.replace_invlists(lists, False)
    index.add(_vectors())
    return bytes(faiss.serialize_index(index))


def _layer(n: int = N, width: int = WIDTH) -> bytes:
    codec = codec_of(StoredPrecision.FLOAT16)
    unit = _vectors(n)[:, :width]
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return bytes(serialize_layer(codec.encode(unit), codec))


def _changed(at: int, value: int) -> Make:
    """A sound layer file with a number of 64 bits in its header changed."""

    def make(folder: Path) -> bytes:
        data = bytearray(_layer())
        data[at : at + 8] = value.to_bytes(8, "little")
        return bytes(data)

    return make


class _Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, int]]:
        return os.open, (str(self.path), os.O_CREAT)


FILES: dict[str, Make] = {
    "IVF": lambda _: _filled(faiss.index_factory(WIDTH, "IVF2,Flat", faiss.METRIC_INNER_PRODUCT)),
    "HNSW": lambda _: _filled(faiss.IndexHNSWFlat(WIDTH, 4, faiss.METRIC_INNER_PRODUCT)),
    "PQ": lambda _: _filled(faiss.IndexPQ(WIDTH, 2, 4, faiss.METRIC_INNER_PRODUCT)),
    "a transform and lists on disk": _on_disk_lists,
    "a transform": lambda _: _filled(faiss.index_factory(WIDTH, "PCA8,Flat")),
    "float32": lambda _: _filled(faiss.IndexFlatIP(WIDTH)),
    "another metric": lambda _: _filled(faiss.IndexScalarQuantizer(WIDTH, 4, faiss.METRIC_L2)),
    "fewer vectors": lambda _: _layer(N - 1),
    "another width": lambda _: _layer(width=WIDTH // 2),
    "a huge count of vectors": _changed(8, 1 << 60),
    "a huge width of the quantizer": _changed(49, 1 << 40),
    "a huge code": _changed(57, 1 << 40),
    "a huge trained vector": _changed(65, 1 << 40),
    "a huge count of codes": _changed(73, 1 << 62),
    "more behind the codes": lambda _: _layer() + bytes(8),
    "a pickle": lambda folder: pickle.dumps(_Touch(folder / "ran")),
    "nothing": lambda _: b"",
}


@pytest.mark.parametrize("kind", FILES)
def test_foreign_file_under_a_fitting_catalog_never_reaches_faiss(
    path: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = forge_file(path, FILES[kind](tmp_path))
    read: list[str] = []
    map_index = faiss.read_index

    def record(name: str, *arguments: int) -> Any:
        read.append(name)
        return map_index(name, *arguments)

    monkeypatch.setattr(faiss, "read_index", record)
    index = Index.open(path, encoder=WordEncoder())
    with pytest.raises(DamagedIndexError, match="not the index that the catalog describes"):
        by_layer(index.search(["text number5"], layer="all", k=3))
    assert [str(problem) for problem in index.verify()] == [
        f"{file}: not the index that the catalog describes"
    ]
    others = [layer for layer in index.layers if not file.match(f"*-{layer:02d}.faiss")]
    by_layer(index.search(["text number5"], layer=others, k=3))
    assert read  # sound layers are
    assert str(file) not in read
    assert not (tmp_path / "ran").exists()


def test_pickle_of_the_test_would_make_its_file(tmp_path: Path) -> None:
    os.close(pickle.loads(pickle.dumps(_Touch(tmp_path / "ran"))))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("precision", StoredPrecision)
def test_header_is_what_faiss_writes(precision: StoredPrecision) -> None:
    codec = codec_of(precision)
    for n, width in ((0, 1), (1, 7), (300, 384)):
        codes = np.zeros((n, width * codec.code_bytes), dtype=np.uint8)
        data = bytes(serialize_layer(codes, codec))
        assert data == codec.header(n, width) + codes.tobytes()


def test_format_that_could_not_be_read_is_never_written(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    serialize = faiss.serialize_index

    def another(faiss_index: Any) -> Any:
        data = serialize(faiss_index)
        data[3] ^= 1
        return data

    monkeypatch.setattr(faiss, "serialize_index", another)
    with pytest.raises(StorageError, match="another format"):
        index.add(rows(2))
    assert len(index) == 0


def test_faiss_reads_no_vector_larger_than_the_memory(index: Index) -> None:
    index.add(rows(2))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert faiss.get_deserialization_vector_byte_limit() <= memory


@pytest.mark.parametrize("precision", StoredPrecision)
def test_files_of_a_machine_with_the_other_byte_order_are_refused_and_rebuilt(
    tmp_path: Path, precision: StoredPrecision
) -> None:
    path = tmp_path / "index"
    index = Index.create(path, model=WordEncoder(), precision=precision)
    index.add(rows(8))
    file = forge_file(path, _swapped(min(path.rglob("*.faiss")).read_bytes()))
    reader = Index.open(path, encoder=WordEncoder())
    with pytest.raises(DamagedIndexError, match="written on a machine of the other byte order"):
        reader.search("text", k=1, layer="all")
    problems = reader.verify()
    assert [problem.path for problem in problems] == [file]
    assert reader.repair(problems) == 1
    assert reader.verify() == []


def _swapped(data: bytes) -> bytes:
    """Write the numbers of a layer file's first fields the other way round."""
    # fourcc, width (int), count, two unused numbers (int64); the rest does not matter here.
    sizes, at, swapped = (4, 4, 8, 8, 8), 0, b""
    for size in sizes:
        swapped += data[at : at + size][::-1]
        at += size
    return swapped + data[at:]
