from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from layerdex.errors import ModelError
from layerdex.indexer.engines.torch import hidden_states
from layerdex.indexer.engines.torch.hidden_states import HiddenStates
from tests.indexer.conftest import TinyModel
from tests.indexer.plain import calls_of, load_plain
from tests.tiny_models import DEPTH, FAMILIES, N_POSITIONS, WIDTH

Inputs = dict[str, Tensor]
FindBlocks = Callable[[Any], list[nn.Module]]


Attach = Callable[[str], tuple[Any, HiddenStates]]


def inputs_of(lengths: Sequence[int], *, pad_id: int) -> Inputs:
    generator = torch.Generator().manual_seed(len(lengths))
    ids = torch.randint(10, 60, (len(lengths), max(lengths)), generator=generator)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": ids.where(mask == 1, torch.tensor(pad_id)), "attention_mask": mask}


def collect(states: HiddenStates, inputs: Inputs, layers: Sequence[int]) -> dict[int, Tensor]:
    found: dict[int, Tensor] = {}
    with torch.inference_mode():
        states.run(inputs, layers, lambda layer, one: found.update({layer: one.clone()}))
    return found


def plain_states(model: Any, inputs: Inputs) -> tuple[Tensor, ...]:
    with torch.inference_mode():
        states: tuple[Tensor, ...] = model(**inputs, output_hidden_states=True).hidden_states
    return states


@pytest.fixture
def attach(tiny_model: TinyModel) -> Attach:
    def build(family: str) -> tuple[Any, HiddenStates]:
        model = load_plain(tiny_model(family))
        pad_id = model.config.pad_token_id
        with torch.inference_mode():
            return model, HiddenStates(model, inputs_of([7], pad_id=pad_id))

    return build


@pytest.mark.parametrize("family", FAMILIES)
def test_hands_over_the_states_that_transformers_reports(family: str, attach: Attach) -> None:
    model, states = attach(family)
    inputs = inputs_of([N_POSITIONS, 3, 17], pad_id=model.config.pad_token_id)
    expected = plain_states(model, inputs)

    found = collect(states, inputs, range(DEPTH + 1))

    assert states.is_hooked
    assert (states.depth, states.width) == (DEPTH, WIDTH)
    assert list(found) == list(range(DEPTH + 1))
    for layer, one in found.items():
        np.testing.assert_array_equal(one.numpy(), expected[layer].numpy())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layers", [(0,), (1,), (0, 2), (DEPTH - 1,), (1, DEPTH)])
def test_runs_only_the_blocks_up_to_the_deepest_layer(
    family: str, layers: tuple[int, ...], attach: Attach
) -> None:
    model, states = attach(family)
    inputs = inputs_of([9, 4], pad_id=model.config.pad_token_id)
    expected = plain_states(model, inputs)

    with calls_of(FAMILIES[family].block) as calls:
        found = collect(states, inputs, layers)

    assert len(calls) == max(layers)
    assert tuple(found) == layers
    for layer, one in found.items():
        np.testing.assert_array_equal(one.numpy(), expected[layer].numpy())


@pytest.mark.parametrize("family", FAMILIES)
def test_an_early_end_leaves_the_model_as_it_was(family: str, attach: Attach) -> None:
    model, states = attach(family)
    inputs = inputs_of([9, 4], pad_id=model.config.pad_token_id)
    before = plain_states(model, inputs)

    collect(states, inputs, [1])

    after = plain_states(model, inputs)
    assert len(after) == DEPTH + 1
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def most_alive(states: HiddenStates, inputs: Inputs) -> int:
    """Run all layers; return how many layers' states were alive at once at most."""
    alive: list[int] = []
    handed: list[weakref.ref[Tensor]] = []

    def receive(_layer: int, one: Tensor) -> None:
        handed.append(weakref.ref(one))
        alive.append(sum(reference() is not None for reference in handed))

    with torch.inference_mode():
        states.run(inputs, range(DEPTH + 1), receive)
    assert [reference() for reference in handed] == [None] * (DEPTH + 1)
    return max(alive)


@pytest.mark.parametrize("family", FAMILIES)
def test_keeps_no_layer_but_the_one_handed_over(family: str, attach: Attach) -> None:
    model, states = attach(family)

    n_alive = most_alive(states, inputs_of([9, 4], pad_id=model.config.pad_token_id))

    # The model's own frame holds the embedding output, or a group its input.
    assert n_alive <= 2


def test_keeps_no_layer_of_a_model_whose_configuration_asks_for_hidden_states(
    attach: Attach,
) -> None:
    model, states = attach("bert")
    model.config.output_hidden_states = True

    assert most_alive(states, inputs_of([9, 4], pad_id=0)) <= 2


def test_the_count_of_living_states_sees_that_the_plain_way_keeps_all(
    attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hidden_states, "find_blocks", lambda _model: [])
    _, states = attach("bert")

    assert most_alive(states, inputs_of([9, 4], pad_id=0)) == DEPTH + 1


def test_an_error_in_receive_does_not_disturb_the_next_run(
    attach: Attach,
) -> None:
    model, states = attach("bert")
    inputs = inputs_of([5], pad_id=0)

    def fail(_layer: int, _states: Tensor) -> None:
        raise RuntimeError("no room")

    with torch.inference_mode(), pytest.raises(RuntimeError, match="no room"):
        states.run(inputs, [2], fail)

    found = collect(states, inputs, [DEPTH])
    np.testing.assert_array_equal(found[DEPTH].numpy(), plain_states(model, inputs)[DEPTH].numpy())


WRONG_BLOCKS: dict[str, FindBlocks] = {
    "none": lambda _model: [],
    "too few": lambda model: list(model.encoder.layer)[:-1],
    "backwards and short": lambda model: list(model.encoder.layer)[:0:-1],
    "linear layers": lambda model: [block.output.dense for block in model.encoder.layer],
    "blocks and their parts": lambda model: [
        module for block in model.encoder.layer for module in (block, block.intermediate)
    ],
    "the pooler": lambda model: [model.pooler],
    "takes no hidden states": lambda model: [model.embeddings],
}


@pytest.mark.parametrize("kind", WRONG_BLOCKS)
def test_falls_back_to_the_plain_way_where_the_blocks_are_not_found(
    kind: str,
    attach: Attach,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hidden_states, "find_blocks", WRONG_BLOCKS[kind])
    model, states = attach("bert")
    inputs = inputs_of([12, 3, 7], pad_id=0)
    expected = plain_states(model, inputs)

    found = collect(states, inputs, [0, 2, DEPTH])

    assert not states.is_hooked
    assert list(found) == [0, 2, DEPTH]
    for layer, one in found.items():
        np.testing.assert_array_equal(one.numpy(), expected[layer].numpy())


def test_a_model_without_hidden_states_is_refused() -> None:
    class Bare(nn.Module):
        def forward(self, **_inputs: Any) -> dict[str, Any]:
            return {}

    with pytest.raises(ModelError, match=r"Bare .*no hidden states"):
        HiddenStates(Bare(), inputs_of([3], pad_id=0))
