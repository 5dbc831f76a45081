"""Texts without padding, on the CPU: with attention text by text in place of the GPU's kernel."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from layerdex.choices import Pooling
from layerdex.indexer.encoder import TransformerEncoder
from layerdex.indexer.engines.torch import engine as torch_engine_file
from layerdex.indexer.engines.torch import hidden_states, packed_attention
from layerdex.indexer.engines.torch import replica as replica_file
from layerdex.indexer.engines.torch.engine import TorchEngine
from layerdex.indexer.engines.torch.packing import pack
from layerdex.indexer.engines.torch.replica import Replica, _has_kernel
from layerdex.indexer.models.model_folder import find_model
from tests.indexer import loaded
from tests.indexer.conftest import TinyModel
from tests.indexer.packed import (
    CPU,
    LAYERS,
    LENGTHS,
    PACKED,
    UNPACKED,
    load_model,
    make_replica,
    random_batch,
    vectors_of,
)
from tests.indexer.plain import calls_of, cosines, torch_engine
from tests.tiny_models import FAMILIES, save_tiny_model, sentence


@pytest.mark.parametrize("pool_by", [Pooling.MEAN, Pooling.CLS, Pooling.MAX, Pooling.MASK])
@pytest.mark.parametrize("family", PACKED)
def test_packed_texts_have_the_vectors_of_padded_ones(
    family: str, pool_by: Pooling, tiny_model: TinyModel
) -> None:
    model = load_model(tiny_model(family))
    batch = random_batch(LENGTHS)
    expected = vectors_of(make_replica(model, pool_by=pool_by, packs=False), batch)
    replica = make_replica(model, pool_by=pool_by)

    found = vectors_of(replica, batch)

    assert replica.packs
    assert cosines(found, expected).min() >= 0.999999
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("family", PACKED)
def test_padding_is_not_computed(family: str, tiny_model: TinyModel) -> None:
    replica = make_replica(load_model(tiny_model(family)))

    with calls_of(FAMILIES[family].block) as calls:
        vectors_of(replica, random_batch(LENGTHS), (0, 2))

    assert [shape[:2] for shape in calls] == [(1, sum(LENGTHS))] * 2  # and no block above 2


@pytest.mark.parametrize("family", PACKED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_texts_bytes_do_not_depend_on_what_its_neighbours_say(
    family: str, dtype: torch.dtype, tiny_model: TinyModel
) -> None:
    replica = make_replica(load_model(tiny_model(family), dtype=dtype))
    batch, other = random_batch(LENGTHS), random_batch(LENGTHS, seed=1)
    other.ids[2] = batch.ids[2]

    found, expected = vectors_of(replica, other), vectors_of(replica, batch)

    assert replica.packs
    np.testing.assert_array_equal(found[:, 2], expected[:, 2])
    assert (found[:, [0, 1, 3, 4, 5]] != expected[:, [0, 1, 3, 4, 5]]).any(axis=2).all()


@pytest.mark.parametrize("family", UNPACKED)
def test_a_model_with_an_attention_of_its_own_stays_padded(
    family: str, tiny_model: TinyModel, caplog: pytest.LogCaptureFixture
) -> None:
    model = load_model(tiny_model(family))
    batch = random_batch(LENGTHS)
    expected = vectors_of(make_replica(model, packs=False), batch)

    with caplog.at_level(logging.DEBUG, "layerdex"):
        replica = make_replica(model)

    assert not replica.packs
    np.testing.assert_array_equal(vectors_of(replica, batch), expected)
    assert "MPNetModel on cpu runs on padded batches: its attention is 'eager'" in caplog.text


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cpu_packs_only_when_asked_to(family: str, tiny_model: TinyModel) -> None:
    model = load_model(tiny_model(family), dtype=torch.bfloat16)
    before = model.config._attn_implementation

    assert not make_replica(model, packs=None).packs
    assert model.config._attn_implementation == before


@pytest.mark.parametrize(
    ("device", "dtype", "expected"),
    [
        ("cuda:1", torch.bfloat16, True),
        ("cuda", torch.float16, True),
        ("cuda", torch.float32, False),
        ("cpu", torch.bfloat16, False),
    ],
)
def test_there_is_a_kernel_on_a_gpu_in_half_precision(
    device: str, dtype: torch.dtype, expected: bool
) -> None:
    assert _has_kernel(torch.nn.Linear(2, 2, dtype=dtype), torch.device(device)) is expected


def load_encoder(folder: Path, **options: Any) -> TransformerEncoder:
    return loaded.load(folder, token_budget=256, **options)


@pytest.fixture
def packing_wanted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, engines try to pack on the CPU too."""

    def want() -> None:
        def make(*args: Any, **options: Any) -> Replica:
            return Replica(*args, **{**options, "packs": True})

        monkeypatch.setattr(torch_engine_file, "Replica", make)

    return want


# The mask's position depends on the family's tokenizer, the other poolings on no family.
@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("family", "pool_by"),
    [
        *((family, pool_by) for family in FAMILIES for pool_by in (Pooling.MEAN, Pooling.MASK)),
        ("bert", Pooling.CLS),
        ("bert", Pooling.MAX),
    ],
)
def test_an_engine_that_packs_gives_the_vectors_of_one_that_does_not(
    family: str,
    pool_by: Pooling,
    tiny_model: TinyModel,
    packing_wanted: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tiny_model(family)
    mask = "<mask>" if family in ("roberta", "xlm-roberta", "mpnet") else "[MASK]"
    template = f"{{text}} {mask}" if pool_by is Pooling.MASK else "{text}"
    texts = [sentence(1 + i % 37, seed=i) for i in range(90)]
    padded = load_encoder(folder, pooling=pool_by, template=template)
    packing_wanted()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)  # workers at once
    packed = load_encoder(folder, pooling=pool_by, template=template)
    monkeypatch.undo()
    torch.set_num_threads(1)

    assert torch_engine(packed).packs is (family in PACKED)
    assert not torch_engine(padded).packs
    for layers in (LAYERS, (0,), (1, 3)):
        found, expected = (one.encode(texts, layers).vectors for one in (packed, padded))
        assert cosines(found, expected).min() >= 0.999999
        if family in UNPACKED:
            np.testing.assert_array_equal(found, expected)


BATCHES = [random_batch(LENGTHS, seed=seed) for seed in range(6)]


def load_engine(folder: Path, *, packs: bool) -> TorchEngine:
    return TorchEngine(
        find_model(str(folder)),
        pooling=Pooling.MEAN,
        runtime=loaded.TORCH,
        packs=packs,
    )


def run(engine: TorchEngine) -> list[Any]:
    return [np.array(of_batch) for _, of_batch in engine.pool(BATCHES, LAYERS)]


@pytest.fixture
def three_devices(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, engines take the CPU for three devices."""

    def choose() -> None:
        monkeypatch.setattr(torch_engine_file, "choose_devices", lambda _name: (CPU, CPU, CPU))

    return choose


def test_every_device_packs(tiny_model: TinyModel, three_devices: Callable[[], None]) -> None:
    folder = tiny_model("bert")
    expected = run(load_engine(folder, packs=True))
    three_devices()
    padded, packed = (load_engine(folder, packs=packs) for packs in (False, True))

    run(padded)
    found = run(packed)

    assert [one.packs for one in padded._replicas] == [False] * 3
    assert [one.packs for one in packed._replicas] == [True] * 3
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), logging.WARNING),
        (RuntimeError("no kernel image is available"), logging.DEBUG),
    ],
)
@pytest.mark.parametrize("number", [1, 2])
def test_where_one_device_cannot_pack_none_does(
    number: int,
    error: Exception,
    level: int,
    tiny_model: TinyModel,
    three_devices: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = run(load_engine(tiny_model("bert"), packs=False))
    three_devices()
    engine = load_engine(tiny_model("bert"), packs=True)
    assert engine.packs
    numbers = itertools.count(1)

    def fail(*_args: Any, **_kwargs: Any) -> Tensor:
        raise error

    def make(*args: Any, **options: Any) -> Replica:
        with monkeypatch.context() as patch:
            if next(numbers) == number:
                patch.setattr(packed_attention, "_kernel_for", lambda _device: fail)
            return Replica(*args, **options)

    monkeypatch.setattr(torch_engine_file, "Replica", make)

    with caplog.at_level(logging.DEBUG, "layerdex"):
        found = run(engine)

    assert [one.packs for one in engine._replicas] == [False] * 3
    modules: list[Any] = [one.module for one in engine._replicas]
    assert [one.config._attn_implementation for one in modules] == ["sdpa"] * 3
    np.testing.assert_array_equal(found, expected)  # from the first batch on
    [record] = [one for one in caplog.records if "padded" in one.getMessage()]
    assert record.levelno == level
    assert record.getMessage() == f"BertModel on cpu runs on padded batches: {error}"


def test_where_the_first_device_cannot_pack_no_other_tries(
    tiny_model: TinyModel, three_devices: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    three_devices()
    with monkeypatch.context() as patch:
        patch.delattr(packed_attention, "_kernel_for")
        engine = load_engine(tiny_model("bert"), packs=True)
    tried: list[Any] = []
    monkeypatch.setattr(replica_file, "make_packer", lambda *args: tried.append(args))

    run(engine)

    assert [one.packs for one in engine._replicas] == [False] * 3
    assert not tried


def test_a_model_is_tried_on_no_more_tokens_than_it_has_positions(tmp_path: Path) -> None:
    folder = save_tiny_model("bert", tmp_path, max_position_embeddings=12)

    with calls_of("BertLayer") as calls:
        engine = load_engine(folder, packs=True)

    assert engine.packs
    packed = max(n_tokens for _, n_tokens, _ in calls)
    assert packed == 12 + 7


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_a_model_whose_blocks_are_not_found_packs_too(
    family: str, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hidden_states, "find_blocks", lambda _model: [])
    model = load_model(tiny_model(family))
    batch = random_batch(LENGTHS)
    expected = vectors_of(make_replica(model, packs=False), batch, (0, 2))
    replica = make_replica(model)

    assert replica.packs
    assert not replica.states.is_hooked
    np.testing.assert_allclose(vectors_of(replica, batch, (0, 2)), expected, atol=2e-6)


@pytest.mark.parametrize("n_tokens", [60, 41])
@pytest.mark.parametrize("pool_by", [Pooling.MEAN, Pooling.MASK])
def test_packed_batches_are_halved_when_memory_runs_out(
    pool_by: Pooling, n_tokens: int, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = make_replica(load_model(tiny_model("bert")), pool_by=pool_by)
    batch = random_batch([30, 30, 31, 33, 12, 35, 40, 38])
    expected = vectors_of(replica, batch)
    run = replica.states.run
    sizes: list[int] = []

    def run_small(inputs: dict[str, Tensor], *args: Any) -> None:
        if inputs["input_ids"].numel() > n_tokens:
            raise torch.OutOfMemoryError("CUDA out of memory")
        assert inputs["input_ids"].shape[0] == 1
        sizes.append(inputs["input_ids"].numel())
        run(inputs, *args)

    monkeypatch.setattr(replica.states, "run", run_small)

    found = vectors_of(replica, batch)

    assert len(sizes) > 1
    assert sum(sizes) == batch.mask.sum()
    assert cosines(found, expected).min() >= 0.999999


def test_a_batch_with_a_text_of_no_tokens_is_padded(tiny_model: TinyModel) -> None:
    model = load_model(tiny_model("bert"))
    batch = random_batch([5, 7])
    batch.mask[0] = 0
    expected = vectors_of(make_replica(model, packs=False), batch)

    found = vectors_of(make_replica(model), batch)

    np.testing.assert_array_equal(found, expected)


def test_a_batch_is_laid_end_to_end() -> None:
    ids = np.array([[5, 6, 7], [8, 0, 0], [9, 3, 0]])
    mask = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0]])

    texts = pack(ids, mask, first=2)

    assert texts.ids.tolist() == [[5, 6, 7, 8, 9, 3]]
    assert texts.positions.tolist() == [[2, 3, 4, 2, 2, 3]]
    assert texts.offsets.tolist() == [0, 3, 4, 6]
    assert texts.longest == 3
    dtypes = [one.dtype for one in (texts.ids, texts.positions, texts.offsets)]
    assert dtypes == [np.int64, np.int64, np.int32]
