"""The OpenVINO engine: it agrees with plain transformers, or is not used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from layerdex.choices import Dtype, EngineName, Pooling
from layerdex.errors import MissingPackageError, OptionError
from layerdex.indexer import engine_factory
from layerdex.indexer.cache.manifest import Manifest
from layerdex.indexer.engines.openvino import engine as openvino_engine
from layerdex.indexer.engines.openvino.cached_graph import CachedGraph
from layerdex.indexer.engines.openvino.engine import OpenVinoEngine
from layerdex.indexer.engines.openvino.library import import_openvino
from layerdex.indexer.engines.protocol import Batch
from layerdex.indexer.engines.torch.engine import TorchEngine
from layerdex.indexer.models.model_folder import find_model
from tests.indexer.conftest import TinyModel
from tests.indexer.openvino.graphs import BOUND, LAYERS, TEXTS, cached_folder, load
from tests.indexer.plain import cosines, plain_vectors
from tests.tiny_models import DEPTH, FAMILIES, N_POSITIONS, save_tiny_model

if not openvino_engine.is_installed():
    pytest.skip("OpenVINO is not installed", allow_module_level=True)


NOT_CONVERTED = ("modernbert",)  # OpenVINO gives NaN for its local attention


# Converting costs seconds: every family with one pooling, and every pooling with one family.
@pytest.mark.one_in(2)
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
    another_bert: Path, tiny_model: TinyModel, own_copy: Path
) -> None:
    first = load(tiny_model("bert")).engine
    second = load(another_bert).engine
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


def test_bfloat16_is_claimed_only_where_the_cpu_has_it(tiny_model: TinyModel) -> None:
    folder = tiny_model("bert")
    load(folder)
    cached = CachedGraph(cached_folder(folder))
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
