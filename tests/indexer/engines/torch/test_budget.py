from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch

from layerdex.choices import Dtype
from layerdex.indexer.engines.torch import engine as torch_engine_file
from layerdex.indexer.engines.torch.budget import ModelShape, gpu_token_budget, shape_of
from tests.indexer import loaded
from tests.indexer.conftest import TinyModel
from tests.indexer.plain import load_plain
from tests.tiny_models import DEPTH, WIDTH

GB = 10**9
BERT_BASE = ModelShape(width=768, intermediate=3_072, depth=12, item_bytes=2)
BERT_LARGE = ModelShape(width=1_024, intermediate=4_096, depth=24, item_bytes=2)
MINILM = ModelShape(width=384, intermediate=1_536, depth=6, item_bytes=2)


def test_activations_are_counted_by_width_inner_width_and_size_of_a_number() -> None:
    assert BERT_BASE.bytes_per_token == 2 * (6 * 768 + 4 * 3_072) + 8 * 768


def test_layers_that_are_all_kept_count_by_depth() -> None:
    keeps = ModelShape(width=768, intermediate=3_072, depth=12, item_bytes=2, keeps_layers=True)

    assert keeps.bytes_per_token - BERT_BASE.bytes_per_token == 2 * 13 * 768


def test_operations_are_those_of_the_linear_layers() -> None:
    # MiniLM's six blocks: 21.2 million operations a token.
    assert 6 * MINILM.block_operations_per_token == pytest.approx(21.2e6, rel=0.01)


@pytest.mark.parametrize("free_bytes", [6 * GB, 24 * GB, 80 * GB, 140 * GB])
@pytest.mark.parametrize(
    ("shape", "expected"), [(BERT_BASE, 65_536), (BERT_LARGE, 32_768), (MINILM, 131_072)]
)
def test_where_memory_suffices_the_work_of_a_block_decides(
    shape: ModelShape, expected: int, free_bytes: int
) -> None:
    assert gpu_token_budget(shape, free_bytes=free_bytes) == expected


@pytest.mark.parametrize(("shape", "expected"), [(BERT_BASE, 65_536), (MINILM, 131_072)])
def test_float32_needs_more_memory_for_the_same(shape: ModelShape, expected: int) -> None:
    float32 = replace(shape, item_bytes=4)

    assert gpu_token_budget(float32, free_bytes=6 * GB) == expected // 2
    assert gpu_token_budget(float32, free_bytes=10 * GB) == expected


@pytest.mark.parametrize("shape", [BERT_BASE, BERT_LARGE, MINILM])
def test_activations_take_at_most_half_of_the_free_memory(shape: ModelShape) -> None:
    sizes = [gpu_token_budget(shape, free_bytes=n * GB // 8) for n in range(1, 64)]

    assert all(
        budget * shape.bytes_per_token <= n * GB / 16 for n, budget in enumerate(sizes, start=1)
    )
    assert all(one <= other for one, other in itertools.pairwise(sizes))
    assert all(budget.bit_count() == 1 for budget in sizes)


def test_a_full_gpu_still_gets_a_batch() -> None:
    assert gpu_token_budget(BERT_BASE, free_bytes=0) == 512


@pytest.mark.parametrize("family", ["bert", "distilbert", "modernbert"])
def test_a_shape_is_read_from_the_model(family: str, tiny_model: TinyModel) -> None:
    model = load_plain(tiny_model(family))

    shape = shape_of(model, depth=DEPTH, width=WIDTH, keeps_layers=False)

    inner = model.config.hidden_dim if family == "distilbert" else 48
    assert shape == ModelShape(width=WIDTH, intermediate=inner, depth=DEPTH, item_bytes=4)


def test_a_cpu_engine_never_asks_for_gpu_memory(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from layerdex.indexer.engines.devices import CPU_TOKEN_BUDGET

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: 1 / 0)
    encoder = loaded.load(tiny_model("bert"), dtype=Dtype.AUTO)
    assert encoder.settings.token_budget == CPU_TOKEN_BUDGET

    engine = encoder.engine
    assert isinstance(engine, torch_engine_file.TorchEngine)
    monkeypatch.setattr(engine, "_devices", (torch.device("cuda", 1),))
    asked: list[torch.device] = []

    def free_memory(device: torch.device) -> tuple[int, int]:
        asked.append(device)
        return 80 * GB, 80 * GB

    monkeypatch.setattr(torch.cuda, "mem_get_info", free_memory)
    assert engine._choose_budget() == 131_072
    assert asked == [torch.device("cuda", 1)]
