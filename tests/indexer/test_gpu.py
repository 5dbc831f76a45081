"""What only a real GPU can show: streams, pinned copies, its memory, several cards, its kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from layerdex.choices import Dtype, Pooling
from layerdex.indexer.encoder import TransformerEncoder
from layerdex.indexer.engines.torch.budget import shape_of
from layerdex.indexer.engines.torch.packed_attention import _attend_by_kernel, _attend_text_by_text
from tests.indexer import loaded
from tests.indexer.conftest import TinyModel
from tests.indexer.plain import cosines, torch_engine
from tests.tiny_models import DEPTH, FAMILIES, WIDTH, save_tiny_model, sentence

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

TEXTS = [sentence(1 + i % 37, seed=i) for i in range(2_000)]
LAYERS = range(DEPTH + 1)


def load(
    folder: Path,
    device: str,
    dtype: Dtype,
    *,
    token_budget: int | None = None,
    **options: Any,
) -> TransformerEncoder:
    return loaded.load(folder, device=device, dtype=dtype, token_budget=token_budget, **options)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [Dtype.FLOAT32, Dtype.BFLOAT16])
def test_batches_in_flight_give_the_cpus_vectors_and_the_same_bytes_again(
    dtype: Dtype, family: str, tiny_model: TinyModel
) -> None:
    folder = tiny_model(family)
    expected = load(folder, "cpu", Dtype.FLOAT32).encode(TEXTS, LAYERS).vectors
    encoder = load(folder, "cuda:0", dtype, token_budget=512)

    found = [encoder.encode(TEXTS, LAYERS).vectors for _ in range(3)]

    packs = FAMILIES[family].packs and dtype is Dtype.BFLOAT16
    assert torch_engine(encoder).packs is packs
    bound = 0.99999 if dtype is Dtype.FLOAT32 else 0.99
    assert cosines(found[0], expected).min() >= bound
    for one in found[1:]:
        np.testing.assert_array_equal(one, found[0])


@pytest.mark.parametrize("family", [name for name, one in FAMILIES.items() if one.packs])
@pytest.mark.parametrize("pooling", [Pooling.CLS, Pooling.MAX, Pooling.MASK])
def test_packed_texts_have_the_cpus_vectors_however_pooled(
    pooling: Pooling, family: str, tiny_model: TinyModel
) -> None:
    mask = "<mask>" if "roberta" in family else "[MASK]"
    template = f"{{text}} {mask}" if pooling is Pooling.MASK else "{text}"
    folder = tiny_model(family)
    options: dict[str, Any] = {"pooling": pooling, "template": template}
    expected = load(folder, "cpu", Dtype.FLOAT32, **options).encode(TEXTS, LAYERS).vectors
    encoder = load(folder, "cuda:0", Dtype.BFLOAT16, token_budget=4_096, **options)

    found = encoder.encode(TEXTS, LAYERS).vectors

    assert torch_engine(encoder).packs
    assert cosines(found, expected).min() >= 0.99


@pytest.mark.parametrize("window", [None, 1, 2, 9, 65])
def test_the_kernel_attends_as_text_by_text(window: int | None) -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    query, key, value = (
        torch.randn(500, 4, 64, generator=generator, device="cuda").bfloat16() for _ in range(3)
    )
    bounds = [0, 1, 3, 200, 264, 500]
    options: Any = {
        "offsets": torch.tensor(bounds, dtype=torch.int32, device="cuda"),
        "longest": 236,
        "scale": 64**-0.5,
        "window": window,
    }

    found = _attend_by_kernel(query, key, value, **options)

    expected = _attend_text_by_text(query.float(), key.float(), value.float(), **options)
    # One token more or less in a window would move these by tenths.
    torch.testing.assert_close(found.float(), expected, atol=0.03, rtol=0.03)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_all_gpus_give_the_bytes_of_one(tiny_model: TinyModel) -> None:
    folder = tiny_model("bert")
    names = {torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}
    if len(names) > 1:
        pytest.skip("cards of two kinds round differently")
    alone = load(folder, "cuda:0", Dtype.AUTO, token_budget=512)
    together = load(folder, "cuda", Dtype.AUTO, token_budget=512)

    expected, found = (one.encode(TEXTS, LAYERS).vectors for one in (alone, together))

    assert len(torch_engine(together)._replicas) == torch.cuda.device_count()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_a_full_batch_keeps_to_the_estimate_of_memory(family: str, tmp_path: Path) -> None:
    sizes = {"hidden_size": 384, "intermediate_size": 1_536, "num_attention_heads": 12}
    folder = save_tiny_model(family, tmp_path / family, **sizes)
    budget = 32_768
    encoder = load(folder, "cuda:0", Dtype.BFLOAT16, token_budget=budget)
    texts = [sentence(36, seed=i) for i in range(3_000)]
    encoder.encode(texts[:40], LAYERS)
    shape = shape_of(torch_engine(encoder).module, depth=DEPTH, width=384, keeps_layers=False)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()

    encoder.encode(texts, LAYERS)

    assert torch.cuda.max_memory_allocated() - before < budget * shape.bytes_per_token


def test_the_real_end_of_memory_halves_batches(tiny_model: TinyModel) -> None:
    folder = tiny_model("bert")
    expected = load(folder, "cuda:0", Dtype.FLOAT32).encode(TEXTS, LAYERS).vectors
    encoder = load(folder, "cuda:0", Dtype.FLOAT32, token_budget=65_536)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    # Room for about a tenth of the largest batch: 65,536 tokens of WIDTH floats are 8 MB an array.
    room = torch.cuda.memory_allocated(0) + 2 * 65_536 * WIDTH * 4
    torch.cuda.set_per_process_memory_fraction(room / total, 0)
    try:
        found = encoder.encode(TEXTS, LAYERS).vectors
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, 0)

    assert torch_engine(encoder)._replicas[0]._max_tokens is not None
    assert cosines(found, expected).min() > 0.99999
