"""Files of approximate indexes: copied, checked, and never trusted before they are compared."""

from __future__ import annotations

import shutil
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from layerdex import Index
from layerdex.errors import DamagedIndexError
from layerdex.index import approximates
from layerdex.storage.artifacts import APPROXIMATES
from layerdex.storage.catalog.validation import are_approximate
from layerdex.storage.store import Store
from layerdex.storage.vectors import approximate as vectors
from layerdex.storage.vectors.approximate import ApproximateIndex
from tests.encoders import WordEncoder
from tests.storage.corpora import flip_byte, rows
from tests.storage.steps import accelerate
from tests.storage.stored import query

N = 40
Tensors = dict[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("approximates") / "index"
    index = Index.create(path, model=WordEncoder())
    index.add(rows(N))
    accelerate(index, 0.5)
    return path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "index"))


def open_(path: Path) -> Index:
    return Index.open(path, encoder=WordEncoder())


def records(path: Path) -> list[dict[str, Any]]:
    with open_(path)._open.store.read() as snapshot:
        return list(snapshot.setting(APPROXIMATES.name))


def file_of(path: Path, layer: int) -> Path:
    [record] = [record for record in records(path) if record["layer"] == layer]
    return path / APPROXIMATES.folder / str(record["file"])


def load(path: Path, layer: int = 2) -> Any:
    index = open_(path)
    return index._open.store.query(
        lambda snapshot: index._open.approximates.find(index._open.store, snapshot, layer)
    )


def forge(path: Path, tensors: Tensors, **changed: Any) -> None:
    """Put other arrays into the file of layer 2, with a record that fits them."""
    data = save({name: np.ascontiguousarray(array) for name, array in tensors.items()})
    file_of(path, 2).write_bytes(data)
    sealed = {"size_bytes": len(data), "crc32": zlib.crc32(data), **changed}
    forged = [{**record, **sealed} if record["layer"] == 2 else record for record in records(path)]
    with open_(path)._open.store.write() as writer:
        writer.set(APPROXIMATES.name, forged)


def test_what_is_loaded_has_every_document_and_answers(path: Path) -> None:
    found = load(path)
    assert found.index.n == N
    assert np.sort(
        found.index.scan(np.eye(16, dtype=np.float32)[:1], N, n_probes=99, selection=None)[0]
    ).tolist() == [*range(N)]
    assert load(path, 1) is None  # it was not asked for


def test_what_was_replaced_or_removed_does_not_stay_loaded(path: Path) -> None:
    index = open_(path)
    loaded = index._open.approximates

    def find(layer: int) -> Any:
        store = index._open.store
        return store.query(lambda snapshot: loaded.find(store, snapshot, layer))

    before = find(2)
    accelerate(open_(path), 0.5)
    assert find(2).name != before.name
    assert [*loaded._by_file] == [file_of(path, 2).name]
    open_(path).remove_approximates()
    assert find(2) is None
    assert not loaded._by_file


def test_threads_that_ask_first_load_a_file_once_and_another_file_meanwhile(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, load_file, begun = open_(path), approximates._load, []
    both_load = threading.Barrier(2)

    def load_slowly(store: Store, record: dict[str, Any]) -> Any:
        begun.append(record["layer"])
        both_load.wait(timeout=30)  # raises unless the files of both layers are loaded at once
        time.sleep(0.1)
        return load_file(store, record)

    monkeypatch.setattr(approximates, "_load", load_slowly)

    def find(layer: int) -> Any:
        return index._open.store.query(
            lambda snapshot: index._open.approximates.find(index._open.store, snapshot, layer)
        )

    with ThreadPoolExecutor(8) as threads:
        found = [*threads.map(find, [2, 3] * 4)]
    assert sorted(begun) == [2, 3]
    assert len(set(map(id, found))) == 2


def test_backup_and_restore_carry_all_layers(path: Path, tmp_path: Path) -> None:
    index = open_(path)
    index.delete("d3")
    index.backup(tmp_path / "backup")
    Index.open(tmp_path / "backup").restore(tmp_path / "restored")
    for copy in (tmp_path / "backup", tmp_path / "restored"):
        assert open_(copy).verify() == []
        for layer in (2, 3):
            assert file_of(copy, layer).read_bytes() == file_of(path, layer).read_bytes()
            assert load(copy, layer).index.n == N


def test_compaction_keeps_them_and_the_next_writer_removes_what_no_record_names(
    path: Path,
) -> None:
    index = open_(path)
    before = {file.name for file in (path / "approximate").iterdir()}
    (path / "approximate" / f"{'0' * 32}.safetensors").write_bytes(b"left by a killed writer")
    index.delete("d3")
    index.compact()
    assert {file.name for file in (path / "approximate").iterdir()} == before
    assert load(path).index.n == N


def test_flipped_byte_is_found_and_named_and_exact_search_goes_on(path: Path) -> None:
    file = file_of(path, 2)
    flip_byte(file)
    [problem] = open_(path).verify()
    assert (problem.path, problem.artifact) == (file, APPROXIMATES)
    assert "'layerdex accelerate --layers 2 --recall 0.5'" in problem.reason
    assert problem.remedy == f"layerdex accelerate {path} --layers 2 --recall 0.5"
    with pytest.raises(DamagedIndexError, match="'layerdex accelerate --layers 2 --recall "):
        load(path)
    assert open_(path).search_like("d1", layer=2, exact=True)[0].exact
    assert load(path, 3) is not None
    accelerate(open_(path), 0.5)
    assert open_(path).verify() == []


def test_missing_file_is_damage(path: Path) -> None:
    file_of(path, 2).unlink()
    assert len(open_(path).verify()) == 1
    with pytest.raises(DamagedIndexError, match="'layerdex accelerate --layers 2 --recall "):
        load(path)


def _with(name: str, change: Callable[[Any], Any]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, name: change(tensors[name])}


def _set(at: int, value: float) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        changed = array.copy()
        changed.ravel()[at] = value
        return changed

    return change


FORGED: dict[str, Callable[[Tensors], Tensors]] = {
    "an array less": lambda tensors: {k: v for k, v in tensors.items() if k != "codes"},
    "another array": lambda tensors: {**tensors, "more": np.zeros(1, np.float32)},
    "fewer centroids": _with("centroids", lambda array: array[1:]),
    "centroids of another width": _with("centroids", lambda array: array[:, 1:]),
    "a centroid that is not finite": _with("centroids", _set(0, np.nan)),
    "codebooks that are not finite": _with("codebooks", _set(0, np.inf)),
    "short codebooks": _with("codebooks", lambda array: array[:-1]),
    "lists of a negative size": _with("sizes", lambda array: -array),
    "lists of a huge size": _with("sizes", _set(0, 1 << 62)),
    "sizes of another type": _with("sizes", lambda array: array.astype(np.int32)),
    "sizes that add up to another number": _with("sizes", lambda array: array + 1),
    "sizes in another order": _with(
        "sizes",
        lambda array: np.sort(array)[::-1] * 0 + np.eye(1, len(array), dtype=np.int64)[0] * N,
    ),
    "a number beyond the rows": _with("numbers", _set(0, N)),
    "a number of 32 bits": _with("numbers", _set(0, (1 << 32) - 1)),
    "a number that repeats": _with("numbers", lambda array: np.where(array == 0, 1, array)),
    "fewer numbers": _with("numbers", lambda array: array[1:]),
    "short codes": _with("codes", lambda array: array[:-1]),
    "codes of another type": _with("codes", lambda array: array.astype(np.float32)),
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED.keys())
def test_forged_arrays_with_the_right_checksum_are_damage(
    path: Path, monkeypatch: pytest.MonkeyPatch, forged: Callable[[Tensors], Tensors]
) -> None:
    forge(path, forged(load_file(file_of(path, 2))))
    monkeypatch.setattr(vectors, "load_faiss", None)  # it sees none of them
    with pytest.raises(DamagedIndexError, match="accelerate"):
        load(path)


@pytest.mark.parametrize("width", [1, 2, 3, 16, 18, 33, 384])
def test_codes_have_the_size_that_faiss_has(width: int) -> None:
    rng = np.random.default_rng(0)
    sample = rng.standard_normal((40, width)).astype(np.float32)
    index = ApproximateIndex.train(sample, n_lists=2, span=40)
    index.add(sample, np.arange(40))
    made = index.finish().to_tensors()
    again = ApproximateIndex.from_tensors(made, width=width, n=40, n_lists=2, span=40)
    found = [
        each.scan(sample[:4], 5, n_probes=2, selection=None).tolist() for each in (index, again)
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "changed",
    [
        {"n": N + 1},
        {"n": 1},
        {"n_lists": 1 << 40},
        {"n_lists": 0},
        {"next_row": 1 << 60},
        {"first_row": 2},
        {"size_bytes": 7},
    ],
    ids=str,
)
def test_forged_counts_are_damage(path: Path, changed: dict[str, Any]) -> None:
    forge(path, load_file(file_of(path, 2)), **changed)
    with pytest.raises(DamagedIndexError):
        load(path)


MEASURED = {
    "share": 1,
    "n_probes": 1,
    "n_probes_together": 1,
    "n_candidates": 10,
    "recall": 1.0,
    "bound": 0.9,
}


@pytest.mark.parametrize(
    "changed",
    [
        {"file": 5},
        {"layer": 3},  # twice
        {"target": 2.0},
        {"n": 0},
        {"measured": []},
        {"measured": [{"share": 1}]},
        {"measured": [{**MEASURED, "bound": 1}]},
        {"measured": [{**MEASURED, "another": 1}]},
        {"next_row": 0},
    ],
    ids=str,
)
def test_record_that_is_none_is_damage(path: Path, changed: dict[str, Any]) -> None:
    first, second = records(path)
    assert are_approximate([first, {**second, "measured": [MEASURED]}])
    with open_(path)._open.store.write() as writer:
        writer.set(APPROXIMATES.name, [{**first, **changed}, second])
    with pytest.raises(DamagedIndexError):
        load(path, 3)
    assert open_(path).info().damaged == ("approximate",)
    [problem] = open_(path).verify()
    assert (problem.artifact, problem.remedy) == (
        APPROXIMATES,
        f"layerdex accelerate {path} --drop",
    )


@pytest.mark.parametrize("damage", ["an invalid record", "another digest", "no JSON"])
def test_damaged_record_is_said_before_anything_is_built_and_drop_mends_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    if damage == "an invalid record":
        with open_(path)._open.store.write() as writer:
            writer.set(APPROXIMATES.name, [{"layer": 2}])
    else:
        value = "'[1'" if damage == "no JSON" else "json_set(value, '$[0].n', 39)"
        query(path, f"UPDATE setting SET value = {value} WHERE key = 'approximate'")
    monkeypatch.setattr(approximates, "N_LEAST", 1)
    monkeypatch.setattr(ApproximateIndex, "train", None)  # nothing is built
    delete = partial(Index.delete, purge=True)
    for ask in (partial(Index.search_like, ids="d1", layer=2), Index.accelerate, delete):
        with pytest.raises(DamagedIndexError, match="run 'layerdex accelerate INDEX --drop'"):
            ask(open_(path))
    assert open_(path).search_like("d1", layer=2, exact=True)[0].exact
    assert open_(path).remove_approximates()
    assert not (path / APPROXIMATES.folder).exists()
    assert open_(path).verify() == []
    assert open_(path).search_like("d1", layer=2)[0].exact
    open_(path).delete("d2", purge=True)


def test_forged_rows_that_there_are_not_are_damage(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = load_file(file_of(path, 2))
    forge(path, tensors, first_row=2, next_row=N + 2)
    monkeypatch.setattr("layerdex.search.knn.approximate._ROW_COST", 1e9)
    with pytest.raises(DamagedIndexError, match="accelerate"):
        open_(path).search_like("d1", layer=2)


@pytest.mark.parametrize("name", ["../catalog.sqlite3", "/etc/passwd"])
def test_file_outside_is_not_read(path: Path, name: str) -> None:
    first, second = records(path)
    with open_(path)._open.store.write() as writer:
        writer.set(APPROXIMATES.name, [{**first, "file": name}, second])
    with pytest.raises(DamagedIndexError):
        load(path, int(first["layer"]))


def test_index_that_may_only_be_read_answers_approximately(path: Path) -> None:
    for entry in [path, *path.rglob("*")]:
        entry.chmod(0o555 if entry.is_dir() else 0o444)
    try:
        assert load(path).index.n == N
        assert open_(path).info().approximate is not None
    finally:
        for entry in [path, *path.rglob("*")]:
            entry.chmod(0o755 if entry.is_dir() else 0o644)
