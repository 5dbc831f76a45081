"""What must keep a model from packing, noticed when it is loaded."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import EsmConfig, EsmModel

from layerdex.choices import Pooling
from layerdex.indexer.engines.torch import packed_attention, packing, pooling
from layerdex.indexer.engines.torch.packed_attention import restore_attention
from layerdex.indexer.engines.torch.packing import _other_texts, pack
from tests.indexer.conftest import TinyModel
from tests.indexer.packed import (
    PACKED,
    SPECIAL_IDS,
    assert_stays_as_it_was,
    load_model,
    make_replica,
    random_batch,
    vectors_of,
)
from tests.indexer.plain import load_plain
from tests.tiny_models import DEPTH, N_POSITIONS, save_tiny_model

_text_by_text = packed_attention._attend_text_by_text
DTYPES = [torch.float32, torch.bfloat16]


def replace_kernel(monkeypatch: pytest.MonkeyPatch, attend: Callable[..., Tensor]) -> None:
    monkeypatch.setattr(packed_attention, "_kernel_for", lambda _device: attend)


def with_other(name: str, change: Callable[[Any], Any]) -> Callable[..., Tensor]:
    """Return an attention to which an argument is something else, where it is anything."""

    def attend(*args: Any, **kwargs: Any) -> Tensor:
        value = kwargs[name]
        return _text_by_text(*args, **{**kwargs, name: None if value is None else change(value)})

    return attend


SLIGHTLY_OFF = {
    "a window one too long": with_other("window", lambda window: window + 1),
    "a window one too short": with_other("window", lambda window: window - 1),
    "a forgotten window": with_other("window", lambda _window: None),
    "a tenth too large a scale": with_other("scale", lambda scale: 1.1 * scale),
}


@pytest.mark.parametrize("how", SLIGHTLY_OFF)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_kernel_that_is_slightly_off_is_noticed_though_the_model_hardly_shows_it(
    dtype: torch.dtype, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in ModernBERT itself: 64 tokens to either side.
    folder = save_tiny_model(
        "modernbert", tmp_path, local_attention=128, max_position_embeddings=512
    )
    model = load_model(folder, dtype=dtype)
    for weights in model.parameters():
        if weights.ndim == 2:
            weights.data.mul_(0.1)  # to 0.02, the usual size
    assert make_replica(model, n_positions=512).packs
    restore_attention(model)
    replace_kernel(monkeypatch, SLIGHTLY_OFF[how])

    assert_stays_as_it_was(model, n_positions=512)


def see_each_other(query: Tensor, key: Tensor, value: Tensor, **kwargs: Any) -> Tensor:
    whole = {**kwargs, "offsets": torch.tensor([0, len(query)])}
    return _text_by_text(query, key, value, **whole)


def _a_little(like: Tensor) -> float:
    # Rounding to bfloat16 would undo what is less.
    return 1e-6 if like.dtype is torch.float32 else 4e-3


def see_the_next(query: Tensor, key: Tensor, value: Tensor, **kwargs: Any) -> Tensor:
    """Give each text a little of the token behind it, too little for any tolerance."""
    attended = _text_by_text(query, key, value, **kwargs)
    for stop in kwargs["offsets"].tolist()[1:-1]:
        attended[stop - 1] += _a_little(value) * value[stop]
    return attended


def see_the_last(query: Tensor, key: Tensor, value: Tensor, **kwargs: Any) -> Tensor:
    attended = _text_by_text(query, key, value, **kwargs)
    for start in kwargs["offsets"].tolist()[1:-1]:
        attended[start] += _a_little(value) * value[start - 1]
    return attended


def scale_otherwise(query: Tensor, key: Tensor, value: Tensor, **kwargs: Any) -> Tensor:
    return _text_by_text(query, key, value, **{**kwargs, "scale": 1.0})


def give_no_numbers(query: Tensor, key: Tensor, value: Tensor, **kwargs: Any) -> Tensor:
    return torch.full_like(query, torch.nan)


def fail(query: Tensor, key: Tensor, value: Tensor, **kwargs: Any) -> Tensor:
    raise RuntimeError("no kernel image is available for execution on the device")


def run_out_of_memory(query: Tensor, key: Tensor, value: Tensor, **kwargs: Any) -> Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory")


BROKEN = {
    "texts see each other": see_each_other,
    "texts see the next one's first token": see_the_next,
    "texts see the last one's last token": see_the_last,
    "other scores": scale_otherwise,
    "not a number": give_no_numbers,
    "no kernel": fail,
    "no memory": run_out_of_memory,
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("family", ["bert", "modernbert"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_broken_attention_is_noticed_when_the_model_is_loaded(
    dtype: torch.dtype,
    family: str,
    how: str,
    tiny_model: TinyModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replace_kernel(monkeypatch, BROKEN[how])

    assert_stays_as_it_was(load_model(tiny_model(family), dtype=dtype))


def test_the_kernel_is_checked_only_in_the_check_and_only_in_its_thread(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_calls = itertools.count()

    def count(*args: Any, **kwargs: Any) -> Tensor:
        next(n_calls)
        return _text_by_text(*args, **kwargs)

    replace_kernel(monkeypatch, count)
    replica = make_replica(load_model(tiny_model("bert")))
    assert next(n_calls) == 4 * DEPTH  # three passes, and the first one's check

    vectors_of(replica, random_batch([5, 7]))
    assert next(n_calls) == 5 * DEPTH + 1
    with packed_attention.checked_attention():
        vectors_of(replica, random_batch([5, 7]))  # by a worker, another thread
    assert next(n_calls) == 6 * DEPTH + 2


def test_after_a_failed_check_the_kernel_is_not_checked_any_more(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        replace_kernel(patch, fail)
        assert not make_replica(load_model(tiny_model("bert"))).packs

    assert not packed_attention._thread_state.is_checked


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_fault_at_tokens_that_no_vector_shows_is_noticed(
    dtype: torch.dtype, tiny_model: TinyModel
) -> None:
    model = load_model(tiny_model("bert"), dtype=dtype)

    def turn_last_token(_block: Any, _args: Any, kwargs: dict[str, Any], states: Tensor) -> Tensor:
        if "cu_seq_lens_q" not in kwargs:
            return states
        turned = states.clone()
        turned[:, kwargs["cu_seq_lens_q"][1:].long() - 1] *= -1
        return turned

    model.encoder.layer[-1].register_forward_hook(turn_last_token, with_kwargs=True)

    assert not make_replica(model, pool_by=Pooling.CLS).packs


@pytest.mark.parametrize("token_dropout", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_model_that_counts_mask_tokens_across_texts_stays_padded(
    dtype: torch.dtype, token_dropout: bool
) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = EsmConfig(
        **sizes,
        vocab_size=4096,  # of which random ids hardly ever hit the mask token
        intermediate_size=48,
        max_position_embeddings=N_POSITIONS + 2,
        pad_token_id=1,
        mask_token_id=int(SPECIAL_IDS[-1]),
        token_dropout=token_dropout,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = EsmModel(config, add_pooling_layer=False).to(dtype).eval()
    assert model.config._attn_implementation == "sdpa"

    if token_dropout:
        assert_stays_as_it_was(model)
    else:  # nothing else keeps it from packing
        assert make_replica(model).packs


def test_texts_are_checked_beside_all_special_ids_and_others_of_the_whole_vocabulary() -> None:
    texts = [np.resize([2, 7, 8, 3], 30), np.resize([3, 8], 12)]
    special_ids = np.array([0, 2, 3, 999, 5, 4])  # one has no embedding

    others = _other_texts(texts, special_ids, n_ids=600)

    for text, other in zip(texts, others, strict=True):
        assert len(other) == len(text)
        assert not (other == text).any()
        assert set(other) >= {0, 2, 3, 4, 5} - set(text)
        assert other.max() < 600
    assert max(map(max, others)) > 500
    assert len(set(others[0])) > 15  # half of them are not special
    np.testing.assert_array_equal(_other_texts(texts, special_ids, n_ids=600)[0], others[0])


@pytest.mark.one_in(3)
@pytest.mark.parametrize("family", PACKED)
@pytest.mark.parametrize("dtype", DTYPES)
def test_positions_that_run_on_across_texts_are_noticed(
    dtype: torch.dtype, family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_on(ids: Any, mask: Any, *, first: int) -> packing.PackedTexts:
        texts = pack(ids, mask, first=first)
        indices = np.arange(texts.ids.size)[None] + first
        return packing.PackedTexts(texts.ids, indices, texts.offsets, texts.longest)

    monkeypatch.setattr(packing, "pack", run_on)
    folder = save_tiny_model(family, tmp_path, max_position_embeddings=100)
    model = load_model(folder, dtype=dtype)
    if family == "modernbert":  # rotary: only distances count, and these are the same
        assert make_replica(model).packs
    else:
        assert_stays_as_it_was(model)


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_positions_that_count_from_0_are_noticed_in_the_roberta_family(
    dtype: torch.dtype, family: str, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "first_position", lambda _model: 0)

    assert_stays_as_it_was(load_model(tiny_model(family), dtype=dtype))


@pytest.mark.one_in(3)
@pytest.mark.parametrize("pool_by", [Pooling.MEAN, Pooling.CLS, Pooling.MAX, Pooling.MASK])
@pytest.mark.parametrize("dtype", DTYPES)
def test_wrong_pooling_is_noticed(
    dtype: torch.dtype, pool_by: Pooling, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pool_neighbours(states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return pooling.pool_packed(states.roll(-1, 1), *args, **kwargs)

    monkeypatch.setattr(packing, "pool_packed", pool_neighbours)

    model = load_model(tiny_model("bert"), dtype=dtype)
    assert not make_replica(model, pool_by=pool_by).packs


def test_a_model_that_takes_no_position_ids_stays_padded(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(tiny_model("bert"))
    forward = model.forward

    def refuse(*args: Any, **kwargs: Any) -> Any:
        if "position_ids" in kwargs:
            raise TypeError("forward() got an unexpected keyword argument 'position_ids'")
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", refuse)

    assert_stays_as_it_was(model)


def test_a_model_that_keeps_the_offsets_to_itself_stays_padded(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(tiny_model("bert"))
    forward = model.forward

    def drop(*args: Any, **kwargs: Any) -> Any:
        return forward(*args, **{k: v for k, v in kwargs.items() if "_len" not in k})

    monkeypatch.setattr(model, "forward", drop)

    assert_stays_as_it_was(model)


def test_an_attention_that_was_chosen_otherwise_is_left_alone(tiny_model: TinyModel) -> None:
    model = load_plain(tiny_model("bert"))

    assert not make_replica(model).packs
    assert model.config._attn_implementation == "eager"
