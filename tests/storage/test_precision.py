"""Indexes at each precision: bytes on disk, foreign files, compaction, repair, old indexes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from layerdex import Index
from layerdex.choices import StoredPrecision
from layerdex.errors import DamagedIndexError, SchemaError
from tests.encoders import WordEncoder
from tests.results import first
from tests.rounding import rounded
from tests.storage.corpora import flip_byte, ids_of, reopen, rows
from tests.storage.redigest import redigest
from tests.storage.stored import contents, layer_paths, put_record, query, read_live

MakeIndex = Callable[[int], Any]  # of a width


@pytest.fixture(scope="module", params=StoredPrecision)
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of three segments, an update and deletions."""
    path = tmp_path_factory.mktemp("sound") / "index"
    made = Index.create(path, model=WordEncoder(), precision=request.param)
    made.add(rows(18))
    made.add([{"id": "d3", "text": "changed three"}])
    made.delete("d0", "d17")
    return made.path


@pytest.fixture
def index(sound: Path, tmp_path: Path) -> Index:
    return Index.open(shutil.copytree(sound, tmp_path / "index"), encoder=WordEncoder())


def test_vectors_on_disk_are_the_encoders_rounded_once(index: Index) -> None:
    texts = {document.id: document.text for document in index.documents()}
    vectors = WordEncoder().encode(list(texts.values()), index.layers).vectors
    expected = rounded(vectors, index._open.store.precision)
    live = read_live(index._open.store.path)
    assert live.keys() == texts.keys()
    for position, identifier in enumerate(texts):
        for layer in index.layers:
            stored = live[identifier].vectors[layer]
            assert stored == expected[layer, position].tobytes()


def test_precision_is_remembered(index: Index) -> None:
    precision = index._open.store.precision
    again = reopen(index)
    assert again._open.store.precision is again.info().precision is precision
    assert query(index._open.store.path, "SELECT value FROM setting WHERE key = 'precision'") == [
        (f'"{precision}"',)
    ]


def test_compaction_copies_codes(index: Index) -> None:
    before, hits = read_live(index._open.store.path), first(index.search("text number5", k=16))
    assert index.compact() == 4
    assert read_live(index._open.store.path) == before
    assert first(index.search("text number5", k=16)) == hits
    assert index.verify() == []


def test_repair_gives_the_same_bytes(index: Index) -> None:
    path = index._open.store.path
    before = contents(path)
    first, second, *_ = layer_paths(path)
    flip_byte(first)
    second.unlink()
    target = Index.open(path, encoder=WordEncoder(), damaged=True)
    assert target.repair(target.verify()) == 2
    assert contents(path) == before
    assert target.verify() == []


def test_repair_after_compaction_rounds_window_by_window(index: Index) -> None:
    index.compact()
    before = contents(index._open.store.path)
    for path in layer_paths(index._open.store.path):
        flip_byte(path)
    target = reopen(index)
    assert target.repair(target.verify()) == 4
    assert contents(index._open.store.path) == before  # this encoder does not depend on windows


def _flat(width: int) -> Any:
    return faiss.IndexFlatIP(width)


def _flat_l2(width: int) -> Any:
    return faiss.IndexFlatL2(width)


def _quantizer(kind: str, metric: int = faiss.METRIC_INNER_PRODUCT) -> MakeIndex:
    def make(width: int) -> Any:
        index = faiss.IndexScalarQuantizer(width, getattr(faiss.ScalarQuantizer, kind), metric)
        index.train(_random(32, width))
        return index

    return make


def _random(n: int, width: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((n, width), dtype=np.float32)


_OWN: dict[StoredPrecision, MakeIndex] = {
    StoredPrecision.FLOAT16: _quantizer("QT_fp16"),
    StoredPrecision.FLOAT32: _flat,
    StoredPrecision.INT8: _quantizer("QT_8bit_direct_signed"),
}
_FOREIGN: dict[str, MakeIndex] = {
    "flat L2": _flat_l2,
    "bf16": _quantizer("QT_bf16"),
    "unsigned bytes": _quantizer("QT_8bit_direct"),
    "trained bytes": _quantizer("QT_8bit"),
    "fp16 L2": _quantizer("QT_fp16", faiss.METRIC_L2),
    "signed L2": _quantizer("QT_8bit_direct_signed", faiss.METRIC_L2),
    "HNSW": lambda width: faiss.IndexHNSWFlat(width, 8, faiss.METRIC_INNER_PRODUCT),
    "PQ": lambda width: _trained(faiss.IndexPQ(width, 4, 4, faiss.METRIC_INNER_PRODUCT)),
}


def _trained(index: Any) -> Any:
    index.train(_random(64, index.d))
    return index


def _put(index: Index, make: MakeIndex, *, n: int, width: int) -> None:
    """Replace the deepest layer of the first segment, size and checksum in order."""
    (name,) = query(index._open.store.path, "SELECT name FROM segment ORDER BY first_row LIMIT 1")[
        0
    ]
    file = index._open.store.path / "segments" / name / "layer-03.faiss"
    foreign = make(width)
    foreign.add(np.rint(100 * _random(n, width)))
    file.write_bytes(faiss.serialize_index(foreign).tobytes())
    put_record(index._open.store.path, file)


@pytest.mark.parametrize("kind", [*StoredPrecision, *_FOREIGN])
def test_layer_file_of_another_type_is_refused(index: Index, kind: str) -> None:
    is_own = kind == index._open.store.precision
    makes: dict[str, MakeIndex] = {str(own): make for own, make in _OWN.items()} | _FOREIGN
    _put(index, makes[kind], n=8, width=16)
    reader = reopen(index)
    if is_own:  # so that the others are refused for their type
        assert len(first(reader.search("text", k=16))) == 16
        return
    with pytest.raises(DamagedIndexError, match="not the index that the catalog describes"):
        first(reader.search("text"))


@pytest.mark.parametrize(("n", "width"), [(7, 16), (9, 16), (8, 8), (16, 8), (4, 32)])
def test_layer_file_of_another_size_is_refused(index: Index, n: int, width: int) -> None:
    _put(index, _OWN[index._open.store.precision], n=n, width=width)
    with pytest.raises(DamagedIndexError, match="not the index that the catalog describes"):
        first(reopen(index).search("text"))


def test_index_from_before_precisions_is_float16(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", model=WordEncoder())
    index.add(rows(10))
    hits, files = first(index.search("text number5")), contents(index._open.store.path)
    query(index._open.store.path, "DELETE FROM setting WHERE key = 'precision'")
    old = reopen(index)
    assert old.info().precision is StoredPrecision.FLOAT16
    assert first(old.search("text number5")) == hits
    assert old.add(rows(12)).n_new == 2
    assert files.items() <= contents(index._open.store.path).items()
    assert ids_of(old) == [f"d{i}" for i in range(12)]


def test_index_of_a_precision_to_come_is_refused(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", model=WordEncoder())
    query(index._open.store.path, "UPDATE setting SET value = '\"int4\"' WHERE key = 'precision'")
    redigest(index._open.store.path)
    with pytest.raises(SchemaError, match="'int4'"):
        reopen(index)
