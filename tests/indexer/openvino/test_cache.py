"""The cache of converted graphs: whatever happens to it, vectors are right."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from layerdex.choices import EngineName, Pooling
from layerdex.errors import ModelError, StorageError
from layerdex.indexer.cache.manifest import Manifest
from layerdex.indexer.engines.openvino import engine as openvino_engine
from layerdex.indexer.engines.openvino.cache import new_graph_folder
from layerdex.indexer.engines.openvino.cached_graph import CachedGraph
from layerdex.indexer.engines.openvino.engine import OpenVinoEngine
from layerdex.indexer.engines.openvino.library import import_openvino
from layerdex.indexer.engines.openvino.requests import Requests
from layerdex.indexer.engines.torch.engine import TorchEngine
from layerdex.indexer.models.model_folder import ModelFolder
from tests.indexer.conftest import TinyModel
from tests.indexer.openvino.graphs import BOUND, LAYERS, TEXTS, cached_folder, load
from tests.indexer.plain import cosines, plain_vectors
from tests.tiny_models import N_POSITIONS, save_tiny_model

if not openvino_engine.is_installed():
    pytest.skip("OpenVINO is not installed", allow_module_level=True)

from layerdex.indexer.engines.openvino import graph


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")


@pytest.mark.usefixtures("no_cache")
def test_where_nothing_can_be_cached_torch_is_used(tiny_model: TinyModel) -> None:
    assert isinstance(load(tiny_model("bert"), engine=EngineName.AUTO).engine, TorchEngine)


@pytest.mark.usefixtures("no_cache")
def test_openvino_that_was_asked_for_converts_aside_where_nothing_can_be_cached(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    encoder = load(tiny_model("bert"))

    assert isinstance(encoder.engine, OpenVinoEngine)
    expected = plain_vectors(tiny_model("bert"), TEXTS, max_length=N_POSITIONS)
    assert cosines(encoder.encode(TEXTS, LAYERS).vectors, expected).min() >= BOUND
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.usefixtures("no_cache")
def test_a_conversion_that_finds_no_room_at_all_is_a_storage_error(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/proc/nowhere")
    with pytest.raises(StorageError, match="cannot write the converted model"):
        load(tiny_model("bert"))


DAMAGED = [
    (name, damage)
    for name in ("manifest.json", "spec.json", "graph.xml", "graph.bin", "probe.npz")
    for damage in ("missing", "empty", "cut", "changed")
]


@pytest.mark.one_in(2)
@pytest.mark.parametrize(("name", "damage"), DAMAGED)
def test_a_damaged_graph_is_converted_again(
    name: str,
    damage: str,
    tiny_model: TinyModel,
    own_copy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tiny_model("bert")
    expected = load(folder).encode(TEXTS, LAYERS).vectors
    intact = shutil.copytree(own_copy, tmp_path / "intact")
    if (name, damage) != DAMAGED[-1]:  # one real conversion is enough

        def copy(_folder: ModelFolder, _pooling: Pooling, target: Path) -> None:
            with new_graph_folder(target) as new:
                shutil.copytree(intact, new, dirs_exist_ok=True)

        monkeypatch.setattr(graph, "convert", copy)
    file = own_copy / name
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "changed":
        content[len(content) // 2] ^= 0x40 if name == "graph.bin" else 0xFF
        file.write_bytes(content)
    else:
        file.write_bytes(content[: len(content) // 2 if damage == "cut" else 0])

    encoder = load(folder, engine=EngineName.AUTO)

    assert isinstance(encoder.engine, OpenVinoEngine)
    assert encoder.encode(TEXTS, LAYERS).vectors.tobytes() == expected.tobytes()
    assert CachedGraph(own_copy).is_converted


@pytest.mark.parametrize(
    ("before", "after"), [('"pads": true', '"pads": false'), ('"unknown_id": 1', '"unknown_id": 2')]
)
def test_another_value_in_what_is_known_of_a_model_is_damage(
    before: str, after: str, own_copy: Path
) -> None:
    file = own_copy / "spec.json"
    content = file.read_text()
    assert before in content
    file.write_text(content.replace(before, after))

    with pytest.raises(ValueError, match="wrong checksum"):
        CachedGraph(own_copy)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.chmod(0o600)
    path.write_bytes(content)


def zero_a_page(path: Path) -> None:
    content = path.read_bytes()
    start = len(content) // 2 // 4_096 * 4_096
    page, rest = content[start:][:4_096], content[start:][4_096:]
    path.chmod(0o600)
    path.write_bytes(content[:start] + bytes(len(page)) + rest)


def empty(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(b"")


def move_another_there(path: Path) -> None:
    (path.parent / "0.blob").write_bytes(path.read_bytes())


@pytest.mark.parametrize("damage", [flip, zero_a_page, empty, move_another_there, Path.unlink])
def test_a_damaged_compilation_is_made_again(
    damage: Callable[[Path], object], tiny_model: TinyModel, own_copy: Path
) -> None:
    folder = tiny_model("bert")
    expected = load(folder).encode(TEXTS, LAYERS).vectors
    compiled = list(own_copy.glob("compiled-*/*.blob"))
    assert compiled
    for file in compiled:
        damage(file)

    assert load(folder).encode(TEXTS, LAYERS).vectors.tobytes() == expected.tobytes()

    graphs = CachedGraph(own_copy)
    assert any(graphs._manifest.holds(file.parent.name) for file in compiled)


@pytest.mark.parametrize("damage", [flip, empty, Path.unlink])
def test_a_damaged_record_of_the_agreement_is_measured_again(
    damage: Callable[[Path], object], tiny_model: TinyModel, own_copy: Path
) -> None:
    recorded = {file: file.read_bytes() for file in own_copy.glob("agreement-*")}
    for file in recorded:
        damage(file)

    engine = load(tiny_model("bert")).engine

    assert isinstance(engine, OpenVinoEngine)
    assert engine._requests.graph.agreement(engine._kind) is not None
    assert any(file.is_file() and file.read_bytes() == recorded[file] for file in recorded)


@pytest.fixture
def of_another_model(another_bert: Path, own_copy: Path) -> Path:
    """A cached graph with another model's weights and with checksums that are right."""
    other = load(another_bert).engine
    assert isinstance(other, OpenVinoEngine)
    for file in ("graph.xml", "graph.bin"):
        shutil.copy(other._requests.graph.folder / file, own_copy / file)
    for compiled in own_copy.glob("compiled-*"):
        shutil.rmtree(compiled)
    Manifest.create(own_copy, name=own_copy.name)
    return own_copy


def test_vectors_of_another_model_are_noticed_before_the_first_answer(
    tiny_model: TinyModel, of_another_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = plain_vectors(tiny_model("bert"), TEXTS, max_length=N_POSITIONS)
    encoder = load(tiny_model("bert"))
    assert isinstance(encoder.engine, OpenVinoEngine)
    assert encoder.engine.measure_agreement() < 0.9
    encoder.engine._requests.clear()

    assert cosines(encoder.encode(TEXTS, LAYERS).vectors, expected).min() >= BOUND

    assert "vectors of a probe text are wrong" in caplog.text
    assert encoder.engine.measure_agreement() >= BOUND
    caplog.clear()
    again = load(tiny_model("bert"))
    assert cosines(again.encode(TEXTS[:1], LAYERS).vectors, expected[:, :1]).min() >= BOUND
    assert caplog.text == ""


def test_the_whole_graph_of_another_model_is_not_used(
    another_bert: Path, tiny_model: TinyModel, own_copy: Path
) -> None:
    expected = load(tiny_model("bert")).encode(TEXTS, LAYERS).vectors
    other = load(another_bert).engine
    assert isinstance(other, OpenVinoEngine)
    shutil.rmtree(own_copy)
    shutil.copytree(other._requests.graph.folder, own_copy)

    assert load(tiny_model("bert")).encode(TEXTS, LAYERS).vectors.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", ["manifest.json", "spec.json", "probe.npz"])
def test_a_pipe_in_the_cache_is_not_waited_for(
    name: str, tiny_model: TinyModel, own_copy: Path
) -> None:
    (own_copy / name).unlink()
    os.mkfifo(own_copy / name)

    assert isinstance(load(tiny_model("bert"), engine=EngineName.AUTO).engine, TorchEngine)


@pytest.mark.usefixtures("of_another_model")
def test_torch_answers_where_no_new_graph_is_right(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = plain_vectors(tiny_model("bert"), TEXTS, max_length=N_POSITIONS)
    encoder = load(tiny_model("bert"))

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(graph, "convert", fail)

    assert cosines(encoder.encode(TEXTS, LAYERS).vectors, expected).min() >= BOUND
    assert "torch runs the model: OpenVINO's vectors are wrong" in caplog.text


@pytest.mark.usefixtures("of_another_model")
def test_what_was_wrong_is_not_used_later_where_torch_cannot_be_loaded(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load(tiny_model("bert"))

    def fail(*_: object) -> None:
        raise ModelError("no")

    monkeypatch.setattr(graph, "convert", fail)
    monkeypatch.setattr(openvino_engine, "_load_torch", fail)

    for _ in range(2):
        with pytest.raises(ModelError, match=r"^no$"):
            encoder.encode(TEXTS, LAYERS)


def test_a_compilation_of_another_process_is_used_and_not_called_damaged(
    tiny_model: TinyModel, own_copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = load(tiny_model("bert")), load(tiny_model("bert"))
    expected = second.encode(TEXTS, [1]).vectors
    compiled = {path: path.stat().st_mtime_ns for path in own_copy.glob("compiled-*/*")}

    assert first.encode(TEXTS, [1]).vectors.tobytes() == expected.tobytes()

    assert {path: path.stat().st_mtime_ns for path in own_copy.glob("compiled-*/*")} == compiled
    assert caplog.text == ""


@pytest.mark.usefixtures("own_copy")
def test_a_full_disk_leaves_a_graph_compiled_for_this_process_alone(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = load(tiny_model("bert")).encode(TEXTS, [2]).vectors
    encoder = load(tiny_model("bert"))
    assert isinstance(encoder.engine, OpenVinoEngine)
    encoder.engine._requests.graph.forget_compilations()

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryDirectory", fail)
    assert encoder.encode(TEXTS, [2]).vectors.tobytes() == expected.tobytes()
    assert caplog.text == ""


def test_what_fails_for_another_reason_than_the_graph_costs_no_graph(
    tiny_model: TinyModel, own_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load(tiny_model("bert"))
    before = {path: path.read_bytes() for path in own_copy.rglob("*") if path.is_file()}

    def fail(*_: object) -> None:
        raise RuntimeError("std::bad_alloc")

    monkeypatch.setattr(Requests, "_compile", fail)
    with pytest.raises(ModelError, match="bad_alloc"):
        encoder.encode(TEXTS, LAYERS)

    assert {path: path.read_bytes() for path in own_copy.rglob("*") if path.is_file()} == before


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
def test_nobody_else_may_write_to_what_is_cached_whatever_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    load(save_tiny_model("bert", tmp_path / "model")).encode(TEXTS, LAYERS)

    cached = list((tmp_path / "cache" / "layerdex").rglob("*"))
    assert {path.suffix for path in cached} >= {".bin", ".blob", ".json", ".npz", ".xml"}
    assert [path for path in cached if path.stat().st_mode & 0o022] == []


@pytest.mark.parametrize("name", [".", "manifest.json", "spec.json", "graph.bin", "probe.npz"])
def test_a_graph_that_others_may_write_to_is_not_used(
    name: str, tiny_model: TinyModel, own_copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (own_copy / name).chmod(0o777)

    assert isinstance(load(tiny_model("bert"), engine=EngineName.AUTO).engine, TorchEngine)
    assert f"others may write to {own_copy / name}" in caplog.text


def test_a_compilation_that_others_may_write_to_is_made_again(
    tiny_model: TinyModel, own_copy: Path
) -> None:
    load(tiny_model("bert")).encode(TEXTS, LAYERS)
    for path in own_copy.glob("compiled-*"):
        path.chmod(0o777)

    load(tiny_model("bert")).encode(TEXTS, LAYERS)

    modes = {path.stat().st_mode & 0o777 for path in own_copy.glob("compiled-*")}
    assert 0o755 in modes


def test_a_cache_that_others_may_write_to_is_not_used(
    tiny_model: TinyModel, own_copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = sorted(own_copy.rglob("*"))
    own_copy.parent.chmod(0o777)

    engine = load(tiny_model("bert"), engine=EngineName.AUTO).engine

    assert isinstance(engine, TorchEngine)
    assert f"others may write to {own_copy.parent}" in caplog.text
    assert sorted(own_copy.rglob("*")) == before


def test_a_full_disk_while_converting_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_tiny_model("bert", tmp_path, seed=9)

    def fail(*_args: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(import_openvino(), "convert_model", lambda *_args, **_options: object())
        patched.setattr(import_openvino(), "save_model", fail)
        assert isinstance(load(folder, engine=EngineName.AUTO).engine, TorchEngine)
    assert not cached_folder(folder).exists()
    assert isinstance(load(folder, engine=EngineName.AUTO).engine, OpenVinoEngine)
