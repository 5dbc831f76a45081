"""The OpenVINO engine: held to plain transformers, or not used at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from layerdex.errors import MissingPackageError, OptionError
from layerdex.indexer import openvino_engine
from layerdex.indexer.devices import Precision
from layerdex.indexer.encoder import TransformerEncoder
from layerdex.indexer.engine import EngineName
from layerdex.indexer.openvino_cache import import_openvino
from layerdex.indexer.openvino_engine import OpenVinoEngine
from layerdex.indexer.torch_engine import TorchEngine
from layerdex.records import Pooling
from tests.indexer.conftest import TinyModel
from tests.indexer.plain import cosines, plain_vectors
from tests.tiny_models import DEPTH, FAMILIES, N_POSITIONS, save_tiny_model, sentence

if not openvino_engine.is_installed():
    pytest.skip("OpenVINO is not installed", allow_module_level=True)

LAYERS = range(DEPTH + 1)
NOT_CONVERTED = ("modernbert",)  # OpenVINO gives NaN for its local attention
BOUND = 1 - 1e-6
TEXTS = [sentence(n, seed=n) for n in (9, 2, 38, 70, 1, 25, 17, 9, 33)]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that these tests share: converting takes seconds."""
    return tmp_path_factory.mktemp("converted")


@pytest.fixture(autouse=True)
def _shared_cache(
    _own_cache: None, converted: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(converted))
    yield
    assert "openvino_telemetry" not in sys.modules or sys.modules["openvino_telemetry"] is None


def load(
    folder: Path,
    *,
    pooling: Pooling = Pooling.MEAN,
    template: str = "{text}",
    token_budget: int = 64,
    engine: EngineName = EngineName.OPENVINO,
    precision: Precision = Precision.FLOAT32,
) -> TransformerEncoder:
    return TransformerEncoder(
        str(folder),
        pooling=pooling,
        template=template,
        token_budget=token_budget,
        engine=engine,
        precision=precision,
    )


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
    (request, *_) = encoder.engine._requests[layers]
    names = " ".join(
        op.get_friendly_name() for op in request.get_compiled_model().get_runtime_model().get_ops()
    )
    assert len(request.output_tensors) == len(layers)
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
    expected = load(folder).encode(TEXTS, LAYERS).vectors
    script = """
import json, sys
from pathlib import Path
from layerdex.indexer.encoder import TransformerEncoder
from layerdex.indexer.engine import EngineName
encoder = TransformerEncoder(sys.argv[1], token_budget=64, engine=EngineName.AUTO, device="cpu")
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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_tiny_model("bert", tmp_path, seed=5)
    with monkeypatch.context() as patched:
        patched.setattr(OpenVinoEngine, "measure_agreement", lambda _self: 0.98)
        with pytest.raises(OptionError, match=r"does not compute the model.*--engine torch"):
            load(folder)

    # It is remembered, not measured again.
    assert isinstance(load(folder, engine=EngineName.AUTO).engine, TorchEngine)


@pytest.mark.parametrize("family", NOT_CONVERTED)
def test_an_architecture_that_openvino_gets_wrong_runs_on_torch(
    family: str, tiny_model: TinyModel
) -> None:
    engine = load(tiny_model(family), engine=EngineName.AUTO).engine

    assert isinstance(engine, TorchEngine)


def test_the_check_against_torch_sees_a_graph_of_another_model(
    tmp_path: Path, converted: Path
) -> None:
    load(save_tiny_model("bert", tmp_path / "a", seed=6))
    load(save_tiny_model("bert", tmp_path / "b", seed=7))
    newest = sorted((converted / "layerdex/openvino").iterdir(), key=lambda p: p.stat().st_mtime)
    first, second = newest[-2:]
    facts = json.loads((first / "facts.json").read_text())
    (first / "facts.json").write_text(json.dumps({**facts, "cosines": {}}))
    (first / "graph.bin").write_bytes((second / "graph.bin").read_bytes())

    found = {type(load(tmp_path / name, engine=EngineName.AUTO).engine) for name in ("a", "b")}

    assert found == {OpenVinoEngine, TorchEngine}


def test_a_model_that_cannot_be_converted_runs_on_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise RuntimeError("no such operation")

    monkeypatch.setattr(import_openvino(), "convert_model", fail)

    folder = save_tiny_model("bert", tmp_path, seed=8)
    assert isinstance(load(folder, engine=EngineName.AUTO).engine, TorchEngine)


def test_a_home_that_cannot_be_written_is_no_error(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")

    assert isinstance(load(tiny_model("bert")).engine, OpenVinoEngine)


def test_openvino_runs_on_the_cpu_only(tiny_model: TinyModel) -> None:
    with pytest.raises(OptionError, match="the openvino engine runs on the CPU, not on 'cuda'"):
        TransformerEncoder(str(tiny_model("bert")), engine=EngineName.OPENVINO, device="cuda")


def test_without_openvino_torch_is_used_or_the_extra_named(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_engine, "is_installed", lambda: False)

    assert isinstance(load(tiny_model("bert"), engine=EngineName.AUTO).engine, TorchEngine)
    with pytest.raises(MissingPackageError, match=r"layerdex\[openvino\]"):
        load(tiny_model("bert"))
