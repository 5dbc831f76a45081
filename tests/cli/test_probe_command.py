"""``layerdex probe``, and ``classify --with head``."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy.special import softmax

from layerdex import Index
from layerdex.errors import DamagedIndexError, IndexMismatchError, LayerError
from layerdex.index.heads import load_head
from layerdex.options import EncoderOptions
from layerdex.search.labels.head import GRID
from layerdex.storage.artifacts import HEAD
from tests.cli.corpus import DOCUMENTS
from tests.cli.runner import Cli
from tests.cli.words import WordTransformer

TEXTS = ["my card is at the bank", "fresh soup and bread"]


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("probed") / "index"
    index = Index.create(path, model=WordTransformer())
    index.add(DOCUMENTS)
    index.save_head(index.at(layer="1,3").probe(k=3))
    return path


@pytest.fixture
def kept(probed: Path, tmp_path: Path) -> Path:
    """The path of an index of `DOCUMENTS` with a head."""
    return Path(shutil.copytree(probed, tmp_path / "kept"))


def head_file(path: Path) -> Path:
    [file] = (path / HEAD.folder).iterdir()
    return file


def test_all_layers_are_beside_neighbours_on_the_same_folds(cli: Cli, path: Path) -> None:
    found = cli.json("probe", path, "-k", 3)
    folds = cli.json("evaluate", path, "-k", 3, "--folds", 3)
    assert [
        (one["layer"], one["knn_accuracy"], one["knn_macro_f1"]) for one in found["layers"]
    ] == [(one["layer"], one["accuracy"], one["macro_f1"]) for one in folds["layers"]]
    best = max(found["layers"], key=lambda one: (one["macro_f1"], -one["layer"]))
    assert found["best_layer"] == best["layer"]
    knn = max(one["macro_f1"] for one in folds["layers"])
    assert found["gain"] == pytest.approx(best["macro_f1"] - knn)
    assert not (path / HEAD.folder).exists()
    page = cli.data("probe", path, "-k", 3)
    assert page.startswith("3 folds, 19 documents, 3 labels; k = 3\n")
    assert all(len(line) <= 80 for line in page.splitlines())
    assert f"Best layer: {found['best_layer']}; macro-F1 " in page


def test_classify_with_the_head_that_was_saved(cli: Cli, path: Path) -> None:
    saved = cli.ok("probe", path, "-k", 3, "--save", "--layers", 2)
    assert "layer 2" in saved.stderr
    assert str(path) in saved.stderr
    found = cli.json("classify", path, *TEXTS, "--with", "head")
    tensors = load_file(head_file(path))
    with Index.open(path)._open.store.read() as snapshot:
        table = snapshot.setting(HEAD.name)
    vectors = WordTransformer().encode(TEXTS, [2]).vectors[0].astype(np.float16).astype(float)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    logits = vectors @ tensors["weights"].T + tensors["biases"]
    shares = softmax(logits / table["temperature"], axis=1)
    expected = [table["labels"][i] for i in shares.argmax(axis=1)]
    assert [one["label"] for one in found] == expected
    assert expected[0] == "card"
    assert [one["confidence"] for one in found] == pytest.approx(shares.max(axis=1), abs=2e-5)
    assert [(one["layer"], one["neighbors"]) for one in found] == [(2, [])] * 2
    floor = str(found[0]["confidence"] + 1e-4)
    unsure = cli.json("classify", path, TEXTS[0], "--with", "head", "--min-confidence", floor)
    assert unsure[0]["label"] is None
    assert expected[1] in cli.data("classify", path, TEXTS[1], "--with", "head")


def test_the_field_that_a_head_predicts_is_named(cli: Cli, path: Path) -> None:
    cli.ok("probe", path, "-k", 3, "--by", "lang", "--save", "--layers", 2)
    [found] = cli.json("classify", path, TEXTS[0], "--with", "head")
    assert (found["label_field"], found["label"] in {"en", "de", "fr"}) == ("lang", True)
    page = cli.data("classify", path, TEXTS[0], "--with", "head")
    assert page.splitlines()[0].strip() == "layer 2 · labels are values of lang"
    [found] = cli.json("classify", path, TEXTS[0])
    assert "label_field" not in found
    assert "lang" not in cli.data("classify", path, TEXTS[0]).splitlines()[0]
    index = Index.open(path)
    with index._open.store.read() as snapshot:
        record = snapshot.setting(HEAD.name)
    with index._open.store.write() as writer:
        writer.set(HEAD.name, {**record, "fingerprint": "another"})
    assert cli.error("classify", path, "x", "--with", "head") == (
        "the head of 'lang' was made for vectors of another model or layer: "
        "run 'layerdex probe INDEX --by lang --save' again"
    )


def test_what_only_neighbours_use_is_refused_beside_a_head(cli: Cli, kept: Path) -> None:
    for words in (("-k", 3), ("--layer", 1), ("--where", "label=card"), ("--weights", "uniform")):
        said = cli.usage("classify", kept, "x", "--with", "head", *words)
        assert {"--with", "head", words[0]} <= set(said.split())


def test_without_a_head_it_says_how_to_get_one(cli: Cli, path: Path) -> None:
    said = cli.error("classify", path, "x", "--with", "head")
    assert said == "this index has no head: run 'layerdex probe INDEX --save' first"


def test_a_new_head_replaces_the_old_one(kept: Path) -> None:
    before, index = head_file(kept), Index.open(kept)
    index.save_head(index.at(layer=0).probe(k=3))
    assert head_file(kept) != before
    assert load_head(index._open).layer == 0


@pytest.mark.parametrize("harm", ["flip", "cut", "longer", "gone", "link"])
def test_a_damaged_head_is_found_and_never_used(cli: Cli, kept: Path, harm: str) -> None:
    file = head_file(kept)
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.unlink()
    match harm:
        case "flip":
            file.write_bytes(data)
        case "cut":
            file.write_bytes(data[:-5])
        case "longer":
            data[-3] ^= 1
            file.write_bytes(bytes(data) + b"x")
        case "link":
            data[-3] ^= 1
            (kept / "elsewhere").write_bytes(data)
            file.symlink_to(kept / "elsewhere")
    with pytest.raises(DamagedIndexError, match="probe --save"):
        load_head(Index.open(kept)._open)
    [problem] = Index.open(kept).verify()
    assert problem.path == file
    with pytest.raises(DamagedIndexError, match="head"):
        Index.open(kept).backup(kept.parent / "backup")
    assert "is damaged" in cli.error("classify", kept, "x", "--with", "head")


def test_a_backup_has_the_head(cli: Cli, kept: Path, tmp_path: Path) -> None:
    cli.ok("backup", kept, tmp_path / "backup")
    copy = Index.open(tmp_path / "backup")
    np.testing.assert_array_equal(
        load_head(copy._open).weights, load_head(Index.open(kept)._open).weights
    )
    assert copy.verify() == []


@pytest.mark.parametrize(
    "change", [{"fingerprint": "other"}, {"layer": 9}, {"labels": ["card", "food"]}]
)
def test_a_head_that_does_not_fit_is_refused(kept: Path, change: dict[str, object]) -> None:
    index = Index.open(kept)
    with index._open.store.read() as snapshot:
        table = snapshot.setting(HEAD.name)
    with index._open.store.write() as writer:
        writer.set(HEAD.name, {**table, **change})
    with pytest.raises(IndexMismatchError, match="probe INDEX --save"):
        load_head(index._open)


def test_a_writer_that_dies_before_the_commit_leaves_the_old_head(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index.open(kept)
    probe, before = index.at(layer=0).probe(k=3), load_head(index._open)
    with monkeypatch.context() as patched:
        patched.setattr("layerdex.storage.writer.Writer.set", _dies)
        with pytest.raises(RuntimeError, match="dies"):
            index.save_head(probe)
    assert load_head(Index.open(kept)._open).layer == before.layer
    Index.open(kept).save_head(probe)
    assert load_head(Index.open(kept)._open).layer == 0
    assert head_file(kept).is_file()  # the one, and nothing left over


@pytest.mark.parametrize(
    ("step", "is_new"), [("writer.Writer.set", False), ("artifact_changes.remove_tree", True)]
)
def test_what_a_killed_writer_left_is_removed_by_the_next(
    kept: Path, monkeypatch: pytest.MonkeyPatch, step: str, is_new: bool
) -> None:
    index = Index.open(kept)
    probe, before = index.at(layer=0).probe(k=3), load_head(index._open).layer
    with monkeypatch.context() as patched:
        patched.setattr(f"layerdex.storage.{step}", _dies)
        with pytest.raises(RuntimeError, match="dies"):
            index.save_head(probe)
    files = set((kept / HEAD.folder).iterdir())
    assert len(files) == 2
    (kept / HEAD.folder / "notes.txt").write_text("not ours")
    Index.open(kept).delete("card-0")
    assert load_head(Index.open(kept)._open).layer == (0 if is_new else before)
    [left] = files & set((kept / HEAD.folder).iterdir())
    with index._open.store.read() as snapshot:
        assert snapshot.setting(HEAD.name)["file"] == left.name
    assert (kept / HEAD.folder / "notes.txt").exists()


def test_a_damaged_setting_of_the_head_costs_no_file(kept: Path) -> None:
    index = Index.open(kept)
    with index._open.store.read() as snapshot:
        table = snapshot.setting(HEAD.name)
    with index._open.store.write() as writer:
        writer.set(HEAD.name, {**table, "file": None})
    index.delete("card-0")
    assert head_file(kept).name == table["file"]


def _dies(*_: object) -> None:
    raise RuntimeError("dies")


def test_the_head_is_of_the_index_it_was_probed_on(kept: Path, tmp_path: Path) -> None:
    other = Index.create(tmp_path / "other", model=WordTransformer(), layers="0-1")
    probe = Index.open(kept).at(layer=3).probe(k=3)
    with pytest.raises(LayerError, match="layer 3 is not in this index"):
        other.save_head(probe)


def test_a_saved_head_is_the_one_in_memory_whatever_its_order(path: Path) -> None:
    index = Index.open(path)
    probe = index.at().probe(folds=2)
    turned = replace(probe.head, weights=np.asfortranarray(probe.head.weights))
    assert not turned.weights.flags.c_contiguous  # three labels and more: as scikit-learn's are
    index.save_head(replace(probe, head=turned))
    np.testing.assert_array_equal(load_head(index._open).weights, probe.head.weights)
    np.testing.assert_array_equal(load_head(index._open).biases, probe.head.biases)


@pytest.mark.parametrize(
    "change",
    [
        {"file": None},
        {"size_bytes": 1 << 50},
        {"labels": None},
        {"temperature": 0},
        {"temperature": "x"},
        {"crc32": -1},
    ],
)
def test_a_forged_head_is_found_by_all_who_read_it(
    kept: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    index = Index.open(kept)
    with index._open.store.read() as snapshot:
        table = snapshot.setting(HEAD.name)
    with index._open.store.write() as writer:
        writer.set(HEAD.name, {**table, **change})
    with pytest.raises(DamagedIndexError):
        load_head(index._open)
    assert [problem.artifact for problem in index.verify()] == [HEAD]
    with pytest.raises(DamagedIndexError):
        index.backup(tmp_path / "backup")


def test_a_head_behind_a_link_or_pipe_is_not_read(kept: Path, tmp_path: Path) -> None:
    file = head_file(kept)
    (kept / HEAD.folder).rename(tmp_path / "elsewhere")
    (kept / HEAD.folder).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DamagedIndexError):
        load_head(Index.open(kept)._open)
    (kept / HEAD.folder).unlink()
    (kept / HEAD.folder).mkdir()
    os.mkfifo(file)
    assert [problem.artifact for problem in Index.open(kept).verify()] == [HEAD]


def test_a_head_of_another_model_is_not_saved(kept: Path, tmp_path: Path) -> None:
    other = Index.create(
        tmp_path / "other", model=WordTransformer(EncoderOptions(template="a {text}"))
    )
    other.add(DOCUMENTS)
    with pytest.raises(IndexMismatchError):
        other.save_head(Index.open(kept).at(layer=[1]).probe(folds=2))


def test_progress_counts_every_fit(path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    view = Index.open(path).at(layer="1,3")
    view.probe(k=3, folds=2, on_progress=lambda done, total: seen.append((done, total)))
    n_fits = 2 * 2 * len(GRID) + 1  # layers, folds, strengths, and the head that is kept
    assert seen == [(i, n_fits) for i in range(1, n_fits + 1)]
