"""The tokens per batch on a GPU, chosen for a device and a model when an index is created."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

# About 2 ms on an H100; launching a block's kernels is assumed to take less than half of that.
# Larger batches only add padding, and lengthen the last batch of a window.
_OPERATIONS_PER_BLOCK = 1 << 40
_MAX_TOKENS = 131_072
_MIN_TOKENS = 512
# The rest is for other programs, fragmentation, and the attention scores of models without a fused
# kernel. A batch that still does not fit is halved (`replica`).
_SHARE_OF_FREE_MEMORY = 0.5


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes that a model's activations depend on.

    ``item_bytes`` is the size of one number, ``intermediate`` the inner width of a block's
    feed-forward layer. ``keeps_layers`` says whether a pass keeps the states of all layers.
    """

    width: int
    intermediate: int
    depth: int
    item_bytes: int
    keeps_layers: bool = False

    @property
    def bytes_per_token(self) -> int:
        """Upper estimate of the memory for one token's activations.

        In a block: input, query, key, value, context and output, and four arrays of the inner width
        (as in a gated feed-forward layer). For pooling: two float32 copies of the states, as the
        maximum over padded texts needs; sums and packed texts need less. With ``keeps_layers``
        every layer's states.
        """
        in_block = self.item_bytes * (6 * self.width + 4 * self.intermediate)
        layers = self.item_bytes * self.width * (self.depth + 1) if self.keeps_layers else 0
        return in_block + 2 * 4 * self.width + layers

    @property
    def block_operations_per_token(self) -> int:
        """Operations of one block's linear layers on one token; a multiply-add counts as two."""
        return 2 * (4 * self.width**2 + 2 * self.width * self.intermediate)


def gpu_token_budget(shape: ModelShape, *, free_bytes: int) -> int:
    """Return the number of tokens per batch, padding included: a power of two.

    The largest one from 512 to 131,072 whose activations take at most half of the free memory and
    whose blocks do at most 2**40 operations each. In bfloat16 BERT-base gets 65,536 tokens and
    MiniLM 131,072 on any GPU with 6 GB or more free; in float32 that takes 10 GB, and with 6 GB
    they get half.
    """
    by_memory = int(free_bytes * _SHARE_OF_FREE_MEMORY) // shape.bytes_per_token
    by_work = _OPERATIONS_PER_BLOCK // shape.block_operations_per_token
    n_tokens = max(_MIN_TOKENS, min(by_memory, by_work, _MAX_TOKENS))
    return 1 << (n_tokens.bit_length() - 1)


def shape_of(model: nn.Module, *, depth: int, width: int, keeps_layers: bool) -> ModelShape:
    """Return the shape of a transformers model, read from its configuration."""
    # DistilBERT calls it hidden_dim.
    config = model.config
    inner = getattr(config, "hidden_dim", None) or getattr(config, "intermediate_size", None)
    dtype: torch.dtype = next(model.parameters()).dtype
    return ModelShape(
        width=width,
        intermediate=int(inner) if isinstance(inner, int) else 4 * width,
        depth=depth,
        item_bytes=dtype.itemsize,
        keeps_layers=keeps_layers,
    )
