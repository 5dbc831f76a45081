"""What must keep a model from packing, noticed when it is loaded."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from layerdex.indexer import packed_attention, packing, pooling
from layerdex.indexer.packing import pack
from layerdex.records import Pooling
from tests.indexer.conftest import TinyModel
from tests.indexer.packed import (
    PACKED,
    assert_stays_as_it_was,
    load_model,
    make_replica,
)
from tests.indexer.plain import load_plain
from tests.tiny_models import DEPTH, save_tiny_model

_text_by_text = packed_attention._attend_text_by_text


def test_a_longer_window_is_seen_when_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in ModernBERT itself: 64 tokens to either side.
    folder = save_tiny_model(
        "modernbert", tmp_path, local_attention=128, max_position_embeddings=512
    )
    assert make_replica(load_model(folder)).packs
    monkeypatch.setattr(packed_attention, "_attend_text_by_text", forget_the_window)

    assert not make_replica(load_model(folder)).packs


def forget_the_window(*args: Any, **kwargs: Any) -> Tensor:
    return _text_by_text(*args, **{**kwargs, "window": None})


def see_each_other(query: Tensor, key: Tensor, value: Tensor, **kwargs: Any) -> Tensor:
    whole = {**kwargs, "offsets": torch.tensor([0, len(query)])}
    return _text_by_text(query, key, value, **whole)


def see_the_next(query: Tensor, key: Tensor, value: Tensor, **kwargs: Any) -> Tensor:
    """Give each text a little of the token behind it, too little for any tolerance."""
    attended = _text_by_text(query, key, value, **kwargs)
    for stop in kwargs["offsets"].tolist()[1:-1]:
        attended[stop - 1] += 1e-6 * value[stop]
    return attended


def see_the_last(query: Tensor, key: Tensor, value: Tensor, **kwargs: Any) -> Tensor:
    attended = _text_by_text(query, key, value, **kwargs)
    for start in kwargs["offsets"].tolist()[1:-1]:
        attended[start] += 1e-6 * value[start - 1]
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


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_a_broken_attention_is_noticed_when_the_model_is_loaded(
    family: str, how: str, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_attention, "_attend_text_by_text", BROKEN[how])

    assert_stays_as_it_was(load_model(tiny_model(family)))


def test_a_fault_at_tokens_that_no_vector_shows_is_noticed(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = itertools.cycle(range(1, DEPTH + 1))

    def turn_last_token(query: Tensor, key: Tensor, value: Tensor, **kwargs: Any) -> Tensor:
        attended = _text_by_text(query, key, value, **kwargs)
        if next(blocks) == DEPTH:
            attended[kwargs["offsets"][1:].long() - 1] *= -1
        return attended

    monkeypatch.setattr(packed_attention, "_attend_text_by_text", turn_last_token)

    assert not make_replica(load_model(tiny_model("bert")), pool_by=Pooling.CLS).packs


@pytest.mark.parametrize("family", PACKED)
def test_positions_that_run_on_across_texts_are_noticed(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_on(ids: Any, mask: Any, *, first: int) -> packing.PackedTexts:
        texts = pack(ids, mask, first=first)
        places = np.arange(texts.ids.size)[None] + first
        return packing.PackedTexts(texts.ids, places, texts.offsets, texts.longest)

    monkeypatch.setattr(packing, "pack", run_on)
    monkeypatch.setattr(packing, "n_positions_of", lambda _model: 30)
    model = load_model(save_tiny_model(family, tmp_path, max_position_embeddings=100))
    if family == "modernbert":  # rotary: only distances count, and these are the same
        assert make_replica(model).packs
    else:
        assert_stays_as_it_was(model)


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta"])
def test_positions_that_count_from_0_are_noticed_in_the_roberta_family(
    family: str, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "first_position", lambda _model: 0)

    assert_stays_as_it_was(load_model(tiny_model(family)))


@pytest.mark.parametrize("pool_by", [Pooling.MEAN, Pooling.CLS, Pooling.MAX, Pooling.MASK])
def test_wrong_pooling_is_noticed(
    pool_by: Pooling, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pool_neighbours(states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return pooling.pool_packed(states.roll(-1, 1), *args, **kwargs)

    monkeypatch.setattr(packing, "pool_packed", pool_neighbours)

    assert not make_replica(load_model(tiny_model("bert")), pool_by=pool_by).packs


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
