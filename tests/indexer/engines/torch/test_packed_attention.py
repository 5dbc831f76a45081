"""Attention within packed texts: the arguments of the kernel, and what stays unchanged."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from layerdex.indexer.engines.torch import packed_attention
from tests.indexer.conftest import TinyModel
from tests.indexer.packed import (
    LENGTHS,
    PACKED,
    assert_stays_as_it_was,
    load_model,
    make_replica,
    random_batch,
    vectors_of,
)
from tests.indexer.plain import load_plain
from tests.tiny_models import DEPTH, N_POSITIONS, save_tiny_model


@pytest.mark.parametrize("family", PACKED)
def test_a_model_that_packs_still_takes_padded_batches(family: str, tiny_model: TinyModel) -> None:
    model = load_model(tiny_model(family))
    batch = random_batch(LENGTHS)
    inputs = {
        "input_ids": torch.from_numpy(batch.ids),
        "attention_mask": torch.from_numpy(batch.mask),
    }
    alone = {"input_ids": inputs["input_ids"][:1]}  # no mask, and longer than the local attention
    with torch.inference_mode():
        expected = [model(**one).last_hidden_state for one in (inputs, alone)]
        assert make_replica(model).packs
        found = [model(**one).last_hidden_state for one in (inputs, alone)]

    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


@pytest.mark.parametrize("local_attention", [2, 8, 24, 2 * N_POSITIONS])
def test_a_sliding_window_is_honoured(local_attention: int, tmp_path: Path) -> None:
    folder = save_tiny_model("modernbert", tmp_path, local_attention=local_attention)
    batch = random_batch(LENGTHS)
    replica = make_replica(load_model(folder))
    eager = make_replica(load_plain(folder), packs=False)

    assert replica.packs
    np.testing.assert_allclose(vectors_of(replica, batch), vectors_of(eager, batch), atol=5e-6)


class Kernel:
    """Checks what torch's kernel is called with, and computes it in NumPy."""

    def __init__(self) -> None:
        self.windows: list[tuple[int, int]] = []

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_seq_q: Tensor,
        cu_seq_k: Tensor,
        max_q: int,
        max_k: int,
        *,
        scale: float,
        window_size: tuple[int, int],
    ) -> Tensor:
        assert query.shape == key.shape == value.shape
        assert query.stride(-1) == key.stride(-1) == value.stride(-1) == 1
        assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
        bounds = cu_seq_q.tolist()
        assert bounds == cu_seq_k.tolist()
        assert bounds[-1] == len(query)
        assert max_q == max_k == max(stop - start for start, stop in itertools.pairwise(bounds))
        assert isinstance(max_q, int)
        self.windows.append(window_size)
        attended = np.zeros(query.shape, dtype=np.float32)
        for start, stop in itertools.pairwise(bounds):
            q, k, v = (one[start:stop].numpy().swapaxes(0, 1) for one in (query, key, value))
            scores = scale * (q @ k.swapaxes(1, 2))
            apart = np.arange(stop - start)[None] - np.arange(stop - start)[:, None]
            left, right = (side if side >= 0 else stop for side in window_size)
            scores[:, (apart < -left) | (apart > right)] = -np.inf
            weights = np.exp(scores - scores.max(axis=2, keepdims=True))
            weights /= weights.sum(axis=2, keepdims=True)
            attended[start:stop] = (weights @ v).swapaxes(0, 1)
        return torch.from_numpy(attended)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """A kernel that runs on the CPU, and is called there as on a GPU."""
    varlen = pytest.importorskip("torch.nn.attention.varlen")
    made = Kernel()
    monkeypatch.setattr(varlen, "varlen_attn", made)
    by_kernel = packed_attention._attend_by_kernel
    monkeypatch.setattr(packed_attention, "_kernel_for", lambda _device: by_kernel)
    return made


@pytest.mark.parametrize("family", PACKED)
def test_the_kernel_is_called_as_torch_describes_it(
    family: str, tiny_model: TinyModel, kernel: Kernel
) -> None:
    model = load_model(tiny_model(family))
    batch = random_batch(LENGTHS)
    expected = vectors_of(make_replica(model, packs=False), batch)
    replica = make_replica(model)
    assert replica.packs
    kernel.windows.clear()

    found = vectors_of(replica, batch)

    np.testing.assert_allclose(found, expected, atol=5e-6)
    is_local = family == "modernbert"  # every other layer, 8 // 2 tokens to either side
    assert kernel.windows == [(-1, -1), (4, 4) if is_local else (-1, -1)] * (DEPTH // 2)


def test_a_torch_whose_kernel_knows_no_windows_leaves_models_padded(
    tiny_model: TinyModel, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.nn.attention import varlen

    def without_windows(*args: Any, scale: float) -> Tensor:
        return kernel(*args, scale=scale, window_size=(-1, -1))

    monkeypatch.setattr(varlen, "varlen_attn", without_windows)

    assert_stays_as_it_was(load_model(tiny_model("modernbert")))


def test_a_torch_without_the_kernel_leaves_models_padded(
    tiny_model: TinyModel, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.nn.attention import varlen

    monkeypatch.delattr(varlen, "varlen_attn")

    assert_stays_as_it_was(load_model(tiny_model("bert")))


class Module:
    is_causal = False


@pytest.mark.parametrize(
    ("kwargs", "reason"),
    [
        ({"position_bias": torch.zeros(1)}, "position_bias"),
        ({"softcap": 30.0}, "softcap"),
        ({"s_aux": torch.zeros(1)}, "s_aux"),
        ({"is_causal": True}, "causal attention"),
        ({"dropout": 0.1}, "dropout"),
        ({"attention_mask": torch.ones(1, 1, 6, 6)}, "a mask"),
        ({"key": torch.zeros(1, 1, 6, 4)}, "grouped heads"),
    ],
)
def test_what_cannot_be_honoured_is_refused(kwargs: dict[str, Any], reason: str) -> None:
    given: dict[str, Any] = {
        **{name: torch.zeros(1, 2, 6, 4) for name in ("query", "key", "value")},
        "attention_mask": None,
        "cu_seq_lens_q": torch.tensor([0, 2, 6], dtype=torch.int32),
        "max_length_q": 4,
    }
    attend = partial(packed_attention._attend, Module())  # type: ignore[arg-type]
    attend(**given)

    with pytest.raises(ValueError, match=f"does not support {reason}$"):
        attend(**{**given, **kwargs})
