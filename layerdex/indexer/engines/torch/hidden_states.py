"""Each layer's token states, handed over the moment they exist and kept by nobody.

``output_hidden_states=True`` keeps the token states of all layers alive until the end of the
forward pass and always runs every block. Here the input of block i+1 is layer i: a hook on each
block hands it over, and the pass ends as soon as the deepest wanted layer is there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from layerdex.errors import ModelError

Receive = Callable[[int, Tensor], None]
Inputs = Mapping[str, Tensor | int]


class _DeepestReachedError(Exception):
    """Not an error: leaves the forward pass early."""


@dataclass(slots=True)
class _Pass:
    """A forward pass under way in one thread; ``layer`` is the next one to be handed over."""

    receive: Receive
    wanted: frozenset[int]
    layer: int = 0


class HiddenStates:
    """Runs a transformers encoder and hands over the states of chosen layers."""

    def __init__(self, model: nn.Module, probe: Inputs) -> None:
        """Attach to ``model``; ``probe`` is a tiny input to compare with transformers on.

        Where the hooked states differ from ``hidden_states``, the model is run in the plain way.
        Raises `ModelError` for a model without hidden states.
        """
        self._model = model
        self._local = threading.local()  # several threads may each run a pass
        reference = _plain_states(model, probe)
        self.depth = len(reference) - 1
        self.width = int(reference[-1].shape[-1])
        hooks = [
            block.register_forward_pre_hook(self._on_block, with_kwargs=True)
            for block in find_blocks(model)
        ]
        self.is_hooked = bool(hooks) and self._agrees(probe, reference)
        if not self.is_hooked:
            for hook in hooks:
                hook.remove()

    def run(self, inputs: Inputs, layers: Sequence[int], receive: Receive) -> None:
        """Call ``receive(layer, states)`` for each of ``layers``, ascending.

        ``states`` are (n, n_tokens, width) in the model's dtype, on its device; of packed texts
        (`packed_attention`), n is 1.
        """
        if not self.is_hooked:
            states = _plain_states(self._model, inputs)
            for layer in layers:
                receive(layer, states[layer])
            return
        self._local.current = _Pass(receive, frozenset(layers))
        try:
            # Said outright, as a model's own configuration may ask for all states.
            output = self._model(**inputs, output_hidden_states=False, return_dict=True)
        except _DeepestReachedError:
            return
        finally:
            self._local.current = None
        receive(self.depth, output.last_hidden_state)

    def _on_block(self, _block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        current: _Pass | None = getattr(self._local, "current", None)
        if current is None:
            return
        layer = current.layer
        current.layer += 1
        if layer in current.wanted:
            states: Any = args[0] if args else kwargs.get("hidden_states")
            current.receive(layer, states)
            if layer == max(current.wanted):
                raise _DeepestReachedError

    def _agrees(self, probe: Inputs, reference: Sequence[Tensor]) -> bool:
        found: list[Any] = []
        self.is_hooked = True
        self.run(probe, range(self.depth + 1), lambda _, states: found.append(states))
        return len(found) == len(reference) and all(
            isinstance(one, Tensor) and one.shape == other.shape and torch.allclose(one, other)
            for one, other in zip(found, reference, strict=True)
        )


def _plain_states(model: nn.Module, inputs: Inputs) -> Sequence[Tensor]:
    output = model(**inputs, output_hidden_states=True, return_dict=True)
    states = getattr(output, "hidden_states", None)
    if not states:
        raise ModelError(f"{type(model).__name__} gives no hidden states: not an encoder")
    found: Sequence[Tensor] = states
    return found


def find_blocks(model: nn.Module) -> list[nn.Module]:
    """Return the encoder's blocks in order; shared ones once, none where they cannot be told."""
    recorded = (getattr(model, "_can_record_outputs", None) or {}).get("hidden_states")
    block_class = getattr(recorded, "target_class", recorded)
    if isinstance(block_class, type):
        return [module for module in model.modules() if isinstance(module, block_class)]
    # Older models have no such declaration, but keep their blocks in one list.
    depth = getattr(model.config, "num_hidden_layers", None)
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return list(module)
    return []
