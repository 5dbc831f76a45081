"""The OpenVINO engine: it agrees with plain transformers, or is not used."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from layerdex.choices import Dtype, EngineName, Pooling
from layerdex.errors import MissingPackageError, ModelError, OptionError, StorageError
from layerdex.indexer import engine_factory
from layerdex.indexer.cache.manifest import Manifest
from layerdex.indexer.engines.openvino import engine as openvino_engine
from layerdex.indexer.engines.openvino.cache import graph_folder, new_graph_folder
from layerdex.indexer.engines.openvino.cached_graph import CachedGraph
from layerdex.indexer.engines.openvino.engine import OpenVinoEngine
from layerdex.indexer.engines.openvino.library import import_openvino
from layerdex.indexer.engines.openvino.requests import Requests
from layerdex.indexer.engines.protocol import Batch
from layerdex.indexer.engines.torch.engine import TorchEngine
from layerdex.indexer.models.model_folder import ModelFolder, find_model
from tests.indexer import loaded
from tests.indexer.conftest import TinyModel
from tests.indexer.plain import cosines, plain_vectors
from tests.tiny_models import DEPTH, FAMILIES, N_POSITIONS, save_tiny_model, sentence

if not openvino_engine.is_installed():
    pytest.skip("OpenVINO is not installed", allow_module_level=True)

from layerdex.indexer.engines.openvino import graph

LAYERS = range(DEPTH + 1)
NOT_CONVERTED = ("modernbert",)  # OpenVINO gives NaN for its local attention
BOUND = 1 - 1e-6
TEXTS = [sentence(n, seed=n) for n in (9, 2, 38, 70, 1, 25, 17, 9, 33)]


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of converted graphs that these tests share: a conversion takes seconds."""
    return tmp_path_factory.mktemp("converted")


@pytest.fixture
def own_copy(
    tiny_model: TinyModel, converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The cached graph of the tiny BERT in a cache of the test's own, to be changed at will."""
    load(tiny_model("bert"))
    cache = shutil.copytree(converted, tmp_path / "cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return _cached_folder(tiny_model("bert"))


@pytest.fixture(autouse=True)
def _shared_cache(
    _own_cache: None, converted: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(converted))
    yield
    assert "openvino_telemetry" not in sys.modules or sys.modules["openvino_telemetry"] is None


# A small budget, for many batches.
load = partial(loaded.load, engine=EngineName.OPENVINO, token_budget=64)


# Converting costs seconds: every family with one pooling, and every pooling with one family.
@pytest.mark.parametrize(
    ("family", "pooling"),
    [
        *((family, Pooling.MEAN) for family in FAMILIES if family not in NOT_CONVERTED),
        ("bert", Pooling.CLS),
        ("bert", Pooling.MAX),
    ],
)
def test_every_layer_equals_pooled_hidden_states(
    family: str, pooling: Pooling, tiny_model: TinyModel
) -> None:
    folder = tiny_model(family)
    expected = plain_vectors(folder, TEXTS, pooling=pooling.value, max_length=N_POSITIONS)

    encoder = load(folder, pooling=pooling)

    assert isinstance(encoder.engine, OpenVinoEngine)
    found = encoder.encode(TEXTS, LAYERS)
    assert cosines(found.vectors, expected).min() >= BOUND
    for i in (0, 3, 4):  # padding and batch-mates change nothing
        alone = encoder.encode([TEXTS[i]], LAYERS).vectors[:, 0]
        assert cosines(found.vectors[:, i], alone).min() >= BOUND


def test_mask_pooling_takes_the_state_at_the_mask(tiny_model: TinyModel) -> None:
    template = '"{text}" means {mask}.'
    folder = tiny_model("bert")
    expected = load(folder, pooling=Pooling.MASK, template=template, engine=EngineName.TORCH)

    encoder = load(folder, pooling=Pooling.MASK, template=template)

    found, wanted = encoder.encode(TEXTS, LAYERS), expected.encode(TEXTS, LAYERS)
    assert cosines(found.vectors, wanted.vectors.astype(np.float64)).min() >= BOUND


@pytest.mark.parametrize("layers", [(0,), (2,), (1, 3), (DEPTH,)])
def test_a_selection_is_cut_after_its_deepest_layer(
    layers: tuple[int, ...], tiny_model: TinyModel
) -> None:
    encoder = load(tiny_model("bert"))
    every = encoder.encode(TEXTS, LAYERS).vectors.astype(np.float64)

    some = encoder.encode(TEXTS, layers).vectors

    assert cosines(some, every[list(layers)]).min() >= BOUND
    assert isinstance(encoder.engine, OpenVinoEngine)
    (request, *_) = encoder.engine._requests.to(max(layers), 1)
    names = " ".join(
        op.get_friendly_name() for op in request.get_compiled_model().get_runtime_model().get_ops()
    )
    assert len(request.output_tensors) == max(layers) + 1
    blocks = [i for i in range(DEPTH) if f"layer.{i}." in names or f"layer.{i}/" in names]
    assert blocks == list(range(max(layers)))


def test_two_runs_give_identical_bytes(tiny_model: TinyModel) -> None:
    folder = tiny_model("bert")
    first = load(folder).encode(TEXTS, LAYERS).vectors

    assert load(folder).encode(TEXTS, LAYERS).vectors.tobytes() == first.tobytes()


def test_once_a_model_is_cached_neither_torch_nor_transformers_is_imported(
    tiny_model: TinyModel, converted: Path
) -> None:
    folder = tiny_model("bert")
    expected = load(folder, dtype=Dtype.AUTO).encode(TEXTS, LAYERS).vectors
    script = """
import json, sys
from pathlib import Path
from layerdex.indexer.encoder import TransformerEncoder
from layerdex.options import EncoderOptions, RuntimeOptions
options, runtime = EncoderOptions(model=sys.argv[1]), RuntimeOptions(device="cpu")
encoder = TransformerEncoder(options, runtime=runtime, token_budget=64)
vectors = encoder.encode(json.loads(sys.argv[2]), range(5)).vectors
heavy = [name for name in ("torch", "transformers") if name in sys.modules]
print(json.dumps([vectors.tobytes().hex(), heavy]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, folder, json.dumps(TEXTS)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "XDG_CACHE_HOME": str(converted)},
    )
    assert json.loads(done.stdout) == [expected.tobytes().hex(), []]


def test_a_graph_that_differs_from_torch_is_not_used(
    tiny_model: TinyModel, own_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_model("bert")
    for agreement in own_copy.glob("agreement-*"):
        agreement.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(OpenVinoEngine, "measure_agreement", lambda _self: 0.98)
        with pytest.raises(OptionError, match=r"differ.*--engine torch"):
            load(folder)

    # The result is in the cache, and is not measured again.
    assert isinstance(load(folder, engine=EngineName.AUTO).engine, TorchEngine)


@pytest.mark.parametrize("family", NOT_CONVERTED)
def test_an_architecture_that_openvino_gets_wrong_runs_on_torch(
    family: str, tiny_model: TinyModel
) -> None:
    engine = load(tiny_model(family), engine=EngineName.AUTO).engine

    assert isinstance(engine, TorchEngine)


def test_the_check_against_torch_sees_other_weights(
    tiny_model: TinyModel, own_copy: Path, tmp_path: Path
) -> None:
    first = load(tiny_model("bert")).engine
    second = load(save_tiny_model("bert", tmp_path, seed=7)).engine
    assert isinstance(first, OpenVinoEngine)
    assert isinstance(second, OpenVinoEngine)
    assert first.measure_agreement() > 0.99999

    for file in ("graph.xml", "graph.bin"):
        shutil.copy(second._requests.graph.folder / file, own_copy / file)
    Manifest.create(own_copy, name=own_copy.name)
    first._requests.use(CachedGraph(own_copy))  # with the probe of the first

    assert first.measure_agreement() < 0.9


def test_a_model_that_cannot_be_converted_runs_on_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise RuntimeError("no such operation")

    monkeypatch.setattr(import_openvino(), "convert_model", fail)

    folder = save_tiny_model("bert", tmp_path, seed=8)
    assert isinstance(load(folder, engine=EngineName.AUTO).engine, TorchEngine)


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


def _cached_folder(model: Path) -> Path:
    return graph_folder(find_model(str(model)), Pooling.MEAN)


DAMAGED = [
    (name, damage)
    for name in ("manifest.json", "spec.json", "graph.xml", "graph.bin", "probe.npz")
    for damage in ("missing", "empty", "cut", "changed")
]


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
def of_another_model(tiny_model: TinyModel, own_copy: Path, tmp_path: Path) -> Path:
    """A cached graph with another model's weights and with checksums that are right."""
    other = load(save_tiny_model("bert", tmp_path / "other", seed=7)).engine
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
    tiny_model: TinyModel, own_copy: Path, tmp_path: Path
) -> None:
    expected = load(tiny_model("bert")).encode(TEXTS, LAYERS).vectors
    other = load(save_tiny_model("bert", tmp_path / "other", seed=7)).engine
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
    assert not _cached_folder(folder).exists()
    assert isinstance(load(folder, engine=EngineName.AUTO).engine, OpenVinoEngine)


def test_bfloat16_is_claimed_only_where_the_cpu_has_it(tiny_model: TinyModel) -> None:
    folder = tiny_model("bert")
    load(folder)
    cached = CachedGraph(_cached_folder(folder))
    capabilities = import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")

    engine = OpenVinoEngine(cached, Dtype.BFLOAT16, find_model(str(folder)), pooling=Pooling.MEAN)

    expected = Dtype.BFLOAT16 if "BF16" in capabilities else Dtype.FLOAT32
    assert engine.dtype is expected
    assert openvino_engine.has_bfloat16() is ("BF16" in capabilities)


def test_bfloat16_asked_for_by_name_is_never_silently_float32(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_engine, "has_bfloat16", lambda: False)
    folder = tiny_model("bert")

    with pytest.raises(OptionError, match="bfloat16 on this CPU: use --dtype float32, or --engine"):
        load(folder, dtype=Dtype.BFLOAT16)
    engine = load(folder, engine=EngineName.AUTO, dtype=Dtype.BFLOAT16).engine

    assert isinstance(engine, TorchEngine)
    assert engine.dtype is Dtype.BFLOAT16


def test_a_question_compiles_one_request_and_has_the_bytes_that_many_give(
    tiny_model: TinyModel,
) -> None:
    encoder, among = load(tiny_model("bert")), load(tiny_model("bert"))
    assert isinstance(encoder.engine, OpenVinoEngine)
    assert isinstance(among.engine, OpenVinoEngine)
    encoder.engine._requests._n_cores = among.engine._requests._n_cores = 3
    encoder.engine._n_requests = among.engine._n_requests = 3
    among.encode(TEXTS, LAYERS)

    for text in TEXTS:
        found, expected = (one.encode([text], LAYERS).vectors for one in (encoder, among))
        assert found.tobytes() == expected.tobytes()

    assert encoder.engine._requests.count(DEPTH) == 1
    assert among.engine._requests.count(DEPTH) == 3
    expected = among.encode(TEXTS, LAYERS).vectors
    assert encoder.encode(TEXTS, LAYERS).vectors.tobytes() == expected.tobytes()
    assert encoder.engine._requests.count(DEPTH) == 3


def test_an_interruption_leaves_the_engine_usable(tiny_model: TinyModel) -> None:
    encoder = load(tiny_model("bert"))
    expected = encoder.encode(TEXTS, LAYERS).vectors

    def interrupted(batches: Iterable[Batch]) -> Iterator[Batch]:
        yield from islice(batches, 3)
        raise KeyboardInterrupt

    pool = encoder.engine.pool
    encoder.engine.pool = (  # type: ignore[method-assign]
        lambda batches, layers: pool(interrupted(batches), layers)
    )
    with pytest.raises(KeyboardInterrupt):
        encoder.encode(TEXTS, LAYERS)
    encoder.engine.pool = pool  # type: ignore[method-assign]
    assert encoder.encode(TEXTS, LAYERS).vectors.tobytes() == expected.tobytes()


@pytest.mark.parametrize("has_gpu", [True, False])
def test_auto_asks_torch_where_there_may_be_a_gpu(
    has_gpu: bool, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def choose(name: str) -> tuple[torch.device, ...]:
        asked.append(name)
        return (torch.device("cuda" if has_gpu else "cpu"),)

    monkeypatch.setattr(engine_factory, "may_have_gpu", lambda: True)
    monkeypatch.setattr(engine_factory, "choose_devices", choose)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    found = load(tiny_model("bert"), engine=EngineName.AUTO, device="auto").engine

    assert isinstance(found, TorchEngine if has_gpu else OpenVinoEngine)
    assert asked == ["auto"]


def test_openvino_runs_on_the_cpu_only(tiny_model: TinyModel) -> None:
    with pytest.raises(OptionError, match="the openvino engine runs on the CPU, not on 'cuda'"):
        load(tiny_model("bert"), device="cuda")


def test_without_openvino_torch_is_used_or_the_extra_named(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_engine, "is_installed", lambda: False)

    assert isinstance(load(tiny_model("bert"), engine=EngineName.AUTO).engine, TorchEngine)
    with pytest.raises(MissingPackageError, match=r"layerdex\[openvino\]"):
        load(tiny_model("bert"))
