"""The token states of chosen layers, passed to a callback as soon as they are computed.

transformers' ``output_hidden_states=True`` keeps the states of all layers until the end of the
forward pass and runs every block. Here a hook on each block passes on its input, as the input of
block i + 1 is layer i, and the pass ends at the deepest chosen layer.
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
    """Ends the forward pass early; not an error."""


@dataclass(slots=True)
class _Pass:
    """A running forward pass of one thread; ``layer`` is the next layer that a hook sees."""

    receive: Receive
    wanted: frozenset[int]
    layer: int = 0


class HiddenStates:
    """Runs a transformers encoder and passes the states of chosen layers to a callback."""

    def __init__(self, model: nn.Module, probe: Inputs) -> None:
        """Attach hooks to ``model``, and compare their states with transformers' on ``probe``.

        Where they differ, `run` uses ``output_hidden_states`` instead. Raises `ModelError` for a
        model without hidden states.
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
        self.is_hooked = bool(hooks) and self._matches(probe, reference)
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
            # Explicit, as the model's configuration may ask for all states.
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

    def _matches(self, probe: Inputs, reference: Sequence[Tensor]) -> bool:
        hooked: list[Any] = []
        self.is_hooked = True
        self.run(probe, range(self.depth + 1), lambda _, states: hooked.append(states))
        return len(hooked) == len(reference) and all(
            isinstance(states, Tensor)
            and states.shape == expected.shape
            and torch.allclose(states, expected)
            for states, expected in zip(hooked, reference, strict=True)
        )


def _plain_states(model: nn.Module, inputs: Inputs) -> Sequence[Tensor]:
    output = model(**inputs, output_hidden_states=True, return_dict=True)
    states: Sequence[Tensor] | None = getattr(output, "hidden_states", None)
    if not states:
        raise ModelError(f"{type(model).__name__} returns no hidden states: it is not an encoder")
    return states


def find_blocks(model: nn.Module) -> list[nn.Module]:
    """Return the encoder's blocks in order, shared ones once; empty if unknown."""
    recorded = (getattr(model, "_can_record_outputs", None) or {}).get("hidden_states")
    block_class = getattr(recorded, "target_class", recorded)
    if isinstance(block_class, type):
        return [module for module in model.modules() if isinstance(module, block_class)]
    # Models without that declaration have their blocks in one list.
    depth = getattr(model.config, "num_hidden_layers", None)
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return list(module)
    return []
