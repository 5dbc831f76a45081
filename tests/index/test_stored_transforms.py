"""The transforms that an index keeps: stored whole, checked, and fitted anew by the rule."""

from __future__ import annotations

import logging
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from layerdex import Index
from layerdex.errors import (
    DamagedIndexError,
    IndexMismatchError,
    LayerdexError,
    OptionError,
)
from layerdex.search.vectors.transform import find_axes
from layerdex.storage.artifacts import TRANSFORM
from tests.encoders import WordEncoder
from tests.index.expectations import WIDTH, corpus, texts_of, vectors_of
from tests.results import first

ROWS = corpus(60)
DELETED = ["d3", "d4", "d5", "d6", "d7"]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fitted") / "index"
    index = Index.create(path, model=WordEncoder())
    index.add(ROWS)
    index.fit_transforms(shrinkage=0.4)
    return path


@pytest.fixture
def path(fitted: Path, tmp_path: Path) -> Path:
    """The path of an index of `ROWS` with transforms."""
    return Path(shutil.copytree(fitted, tmp_path / "index"))


def open_(path: Path) -> Index:
    return Index.open(path, encoder=WordEncoder())


def kept_file(path: Path) -> Path:
    [file] = (path / TRANSFORM.folder).iterdir()
    return file


def record_of(path: Path) -> dict[str, Any]:
    with open_(path)._open.store.read() as snapshot:
        return dict(snapshot.setting(TRANSFORM.name))


def change(path: Path, **record: object) -> None:
    with open_(path)._open.store.write() as writer:
        writer.set(TRANSFORM.name, {**record_of(path), **record})


def query(path: Path) -> list[tuple[str, float | None]]:
    hits = first(open_(path).search("word1 word2", layer=2, transform="whiten", k=9))
    return [(hit.id, hit.similarity) for hit in hits]


def test_what_is_kept_is_what_was_fitted_at_each_layer(path: Path) -> None:
    tensors = load_file(kept_file(path))
    for at in range(4):
        vectors = vectors_of(texts_of(ROWS), at).astype(np.float32)
        whiten = find_axes(vectors).whiten(0.4)
        asked = vectors_of(["word1 word2"], at)
        moved = (asked - tensors["means"][at]) @ tensors["matrices"][at].T
        expected = whiten.apply(asked.astype(np.float32))
        np.testing.assert_allclose(moved / np.linalg.norm(moved), expected, atol=1e-4)


def test_answers_are_the_same_after_reopening_and_in_a_backup(path: Path, tmp_path: Path) -> None:
    before = query(path)
    assert query(path) == before
    open_(path).backup(tmp_path / "backup")
    assert query(tmp_path / "backup") == before
    assert open_(tmp_path / "backup").verify() == []


def test_two_fits_of_the_same_documents_have_the_same_bytes(path: Path) -> None:
    before = kept_file(path).read_bytes()
    open_(path).fit_transforms(shrinkage=0.4)
    assert kept_file(path).read_bytes() == before


def test_an_open_index_notices_what_another_has_kept(path: Path) -> None:
    reader = open_(path)
    before = first(reader.search("word1 word2", layer=2, transform="whiten", k=9))
    open_(path).fit_transforms(shrinkage=0.9)
    after = first(reader.search("word1 word2", layer=2, transform="whiten", k=9))
    assert after != before
    assert [(hit.id, hit.similarity) for hit in after] == query(path)
    open_(path).remove_transforms()
    with pytest.raises(OptionError, match="run 'layerdex transform INDEX' first"):
        first(reader.search("word1 word2", transform="whiten"))
    assert not (path / TRANSFORM.folder).exists()
    assert open_(path).info().transform is None
    assert open_(path).verify() == []
    open_(path).remove_transforms()  # once more does no harm


def more(n: int) -> list[dict[str, object]]:
    return [{"id": f"new{i}", "text": f"word{i} word{i + 1} fresh{i}"} for i in range(n)]


def changed_texts(n: int) -> list[dict[str, object]]:
    return [{"id": f"d{i}", "text": f"word{i} updated{i}"} for i in range(n)]


def relabelled(n: int) -> list[dict[str, object]]:
    return [{**row, "label": "other"} for row in ROWS[:n]]


@pytest.mark.parametrize(
    ("run", "n_changed"),
    [
        (lambda index: index.add(more(6)), 6),
        (lambda index: index.add(changed_texts(3)), 6),
        (lambda index: index.add(relabelled(60)), 0),
        (lambda index: index.delete(*(f"d{i}" for i in range(6))), 6),
        (lambda index: index.add(ROWS[6:], sync=True, max_removed=1.0), 6),
        (lambda index: index.add(more(30)), 30),
        (lambda index: index.delete(*(f"d{i}" for i in range(20))), 20),
        (lambda index: index.add(ROWS), 0),
        (lambda index: index.add(more(20), dry_run=True), 0),
    ],
)
def test_a_run_counts_changes_leaves_the_fit_and_warns_beyond_a_tenth(
    path: Path,
    run: Callable[[Index], object],
    n_changed: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before, record = kept_file(path).read_bytes(), record_of(path)
    with caplog.at_level(logging.WARNING):
        run(open_(path))
    assert (f"{n_changed} documents have been added or removed" in caplog.text) == (n_changed > 6)
    assert (kept_file(path).read_bytes(), record_of(path)) == (before, record)
    info = open_(path).info().transform
    assert info is not None
    assert (info["n"], info["n_changed"]) == (60, n_changed)


def test_changes_add_up_over_runs_and_compaction_does_not_count(path: Path) -> None:
    for i in range(6):
        open_(path).add([more(7)[i]])
    open_(path).compact()
    info = open_(path).info().transform
    assert info is not None
    assert (info["n"], info["n_changed"]) == (60, 6)
    open_(path).add([more(7)[6]])
    info = open_(path).info().transform
    assert info is not None
    assert (info["n"], info["n_changed"]) == (60, 7)


def test_the_fit_serves_new_documents_too(path: Path) -> None:
    index = open_(path)
    [row, *_] = more(1)
    index.add([row])
    [hit, *_] = first(index.search(str(row["text"]), layer=1, transform="whiten", k=1))
    assert hit.id == row["id"]
    assert hit.similarity == pytest.approx(1, abs=1e-5)


def test_others_write_while_it_is_fitted(path: Path) -> None:
    def on_progress(done: int, _: int | None) -> None:
        if done == 1:  # a merge would have the fit start again
            open_(path).add(more(20), lock_timeout_s=0, auto_compact=False)

    index = open_(path)
    assert index.fit_transforms(shrinkage=0.7, on_progress=on_progress).n == 60
    info = index.info().transform
    assert info is not None
    assert (info["n"], info["n_changed"]) == (60, 20)
    assert set(info["shrinkages"].values()) == {0.7}


def test_a_writer_that_dies_before_the_commit_leaves_the_old_fit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = query(path)

    def dies(*_: object) -> None:
        raise RuntimeError("dies")

    with monkeypatch.context() as patched:
        patched.setattr("layerdex.storage.writer.Writer.set", dies)
        with pytest.raises(RuntimeError, match="dies"):
            open_(path).fit_transforms(shrinkage=0.9)
    assert query(path) == before
    open_(path).fit_transforms(shrinkage=0.9)
    assert kept_file(path).is_file()  # the one, and nothing left over
    assert query(path) != before


@pytest.mark.parametrize(
    ("step", "is_new"), [("writer.Writer.set", False), ("artifact_changes.remove_tree", True)]
)
def test_what_a_killed_writer_left_is_removed_by_the_next(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: str, is_new: bool
) -> None:
    before = record_of(path)

    def dies(*_: object) -> None:
        raise RuntimeError("dies")

    with monkeypatch.context() as patched:
        patched.setattr(f"layerdex.storage.{step}", dies)
        with pytest.raises(RuntimeError, match="dies"):
            open_(path).fit_transforms(shrinkage=0.9)
    folder = path / TRANSFORM.folder
    assert len(list(folder.iterdir())) == 2
    (folder / "notes.txt").write_text("not ours")
    open_(path).delete("d3")
    assert (record_of(path) != before) == is_new
    assert {one.name for one in folder.iterdir()} == {record_of(path)["file"], "notes.txt"}
    assert query(path)


def test_a_damaged_setting_costs_no_file(path: Path) -> None:
    file = kept_file(path)
    change(path, file=None)
    open_(path).delete("d3")
    assert kept_file(path) == file


@pytest.mark.parametrize("harm", ["flip", "cut", "longer", "gone", "link", "pipe", "folder link"])
def test_a_damaged_file_is_found_and_never_used(path: Path, harm: str) -> None:
    file = kept_file(path)
    data = bytearray(file.read_bytes())
    file.unlink()
    if harm == "flip":
        data[-3] ^= 1
        file.write_bytes(data)
    elif harm == "cut":
        file.write_bytes(data[:-5])
    elif harm == "longer":
        file.write_bytes(bytes(data) + b"x")
    elif harm == "pipe":
        os.mkfifo(file)
    elif harm == "link":
        (path / "elsewhere").write_bytes(data)
        file.symlink_to(path / "elsewhere")
    elif harm == "folder link":
        file.write_bytes(data)
        file.parent.rename(path / "elsewhere")
        file.parent.symlink_to(path / "elsewhere")
    with pytest.raises(DamagedIndexError, match="run 'layerdex transform' again"):
        query(path)
    [problem] = open_(path).verify()
    assert (problem.path, problem.artifact) == (file, TRANSFORM)
    with pytest.raises(DamagedIndexError, match="transform"):
        open_(path).backup(path.parent / "backup")
    assert first(open_(path).search("word1", k=1))  # plain vectors are none the worse


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    "record",
    [
        {"file": None},
        {"file": "../../outside.safetensors"},
        {"size_bytes": 1 << 50},
        {"crc32": -1},
        {"n": "x"},
        {"next_row": 1.5},
        {"layers": None},
        {"layers": [0, 1]},
        {"shrinkages": [0.4, 0.4, 0.4, 0]},
        {"shrinkages": ["x"] * 4},
    ],
)
def test_forged_facts_are_found_by_all_who_read_them(path: Path, record: dict[str, object]) -> None:
    change(path, **record)
    with pytest.raises(DamagedIndexError):
        query(path)
    assert [problem.artifact for problem in open_(path).verify()] == [TRANSFORM]
    with pytest.raises(DamagedIndexError):
        open_(path).backup(path.parent / "backup")
    report = open_(path).add(more(30))  # documents are not held up by it
    assert report.n_new == 30


def test_a_file_too_large_to_be_ours_is_not_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layerdex.storage.artifacts.MAX_BYTES", kept_file(path).stat().st_size - 1)
    with pytest.raises(DamagedIndexError, match="run 'layerdex transform' again"):
        query(path)


def test_info_says_the_rest_where_the_setting_is_forged(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    change(path, shrinkages=None)
    info = open_(path).info()
    assert (info.n_documents, info.transform) == (60, None)
    assert "transform, if there is one, is left out: the setting 'transform'" in caplog.text


@pytest.mark.parametrize(
    "record", [{"fingerprint": "other"}, {"layers": [0, 1, 2, 9]}, {"layers": [3, 2, 1, 0]}]
)
def test_transforms_of_another_model_or_other_layers_are_refused(
    path: Path, record: dict[str, object]
) -> None:
    change(path, **record)
    with pytest.raises(IndexMismatchError, match="run 'layerdex transform INDEX' again"):
        query(path)


def forge(path: Path, data: bytes) -> None:
    """Put other bytes in place of the file, with a checksum that fits."""
    kept_file(path).write_bytes(data)
    change(path, size_bytes=len(data), crc32=zlib.crc32(data))


MEANS, MATRICES = np.zeros((4, WIDTH), np.float32), np.ones((4, WIDTH, WIDTH), np.float32)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no safetensors file",
        b"\xff" * 40,
        save({"means": MEANS}),
        save({"means": MEANS[:3], "matrices": MATRICES}),
        save({"means": MEANS, "matrices": MATRICES[:, :-1]}),
        save({"means": MEANS.astype(np.float64), "matrices": MATRICES}),
        save({"means": MEANS, "matrices": MATRICES * np.float32(np.nan)}),
        save({"means": MEANS + np.float32(np.inf), "matrices": MATRICES}),
        save({"means": MEANS, "matrices": MATRICES, "more": MEANS}),
        save({"means": MEANS.astype(np.float16)})
        .replace(b'"F16"', b'"BF16"')
        .replace(b" ", b"", 1),
    ],
)
def test_a_forged_file_is_an_error_and_no_answer(path: Path, data: bytes) -> None:
    forge(path, data)
    with pytest.raises(LayerdexError, match="run 'layerdex transform"):
        query(path)


def test_a_shrinkage_that_cannot_be_is_refused_before_anything_is_written(path: Path) -> None:
    before = kept_file(path)
    for shrinkage in (0, 1e-40, 1e-80, -1, 2, float("nan")):
        with pytest.raises(OptionError, match=r"shrinkage must be between 0\.001 and 1"):
            open_(path).fit_transforms(shrinkage=shrinkage)
    assert kept_file(path) == before
