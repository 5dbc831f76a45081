"""How many tokens a batch holds on a GPU: chosen once for a device and a model, then recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

# About 2 ms of an H100's matrix units; launching a block's kernels is taken to cost less than half
# of that. Larger batches only lengthen the padding and the last, lonely batch of a window.
_OPERATIONS_A_BLOCK = 1 << 40
_MOST_TOKENS = 131_072
_FEWEST_TOKENS = 512
# Other programs, fragments, and the attention scores of models without a fused kernel for them
# need the rest. What still does not fit is halved when it fails (`replica`).
_SHARE_OF_FREE_MEMORY = 0.5


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What a model's activations depend on; ``item_bytes`` is the size of one number.

    ``intermediate`` is the inner width of a block's feed-forward part.
    """

    width: int
    intermediate: int
    depth: int
    item_bytes: int
    keeps_layers: bool = False

    @property
    def bytes_per_token(self) -> int:
        """Most memory of the activations of one token, an estimate from above.

        In a block: its input, query, key, value, context and output, and four arrays of the inner
        width (a gated feed-forward part has that many). For pooling: two float32 copies of the
        states, as the maximum over padded texts takes; sums and packed texts take less. Every
        layer's states only where the model keeps them all.
        """
        in_block = self.item_bytes * (6 * self.width + 4 * self.intermediate)
        kept = self.item_bytes * self.width * (self.depth + 1) if self.keeps_layers else 0
        return in_block + 2 * 4 * self.width + kept

    @property
    def block_operations_per_token(self) -> int:
        """Operations of one block's linear layers on one token, two a multiply-add."""
        return 2 * (4 * self.width**2 + 2 * self.width * self.intermediate)


def gpu_token_budget(shape: ModelShape, *, free_bytes: int) -> int:
    """Return the tokens a batch should hold, padding included: a power of two.

    The largest one from 512 to 131,072 whose activations take at most half of the free memory and
    whose blocks do at most 2**40 operations each. In bfloat16 BERT-base gets 65,536 tokens and
    MiniLM 131,072 on any GPU with 6 GB or more free; in float32 that takes 10 GB, and with 6 GB
    they get half.
    """
    by_memory = int(free_bytes * _SHARE_OF_FREE_MEMORY) // shape.bytes_per_token
    by_work = _OPERATIONS_A_BLOCK // shape.block_operations_per_token
    n_tokens = max(_FEWEST_TOKENS, min(by_memory, by_work, _MOST_TOKENS))
    return 1 << (n_tokens.bit_length() - 1)


def shape_of(model: nn.Module, *, depth: int, width: int, keeps_layers: bool) -> ModelShape:
    """Read a transformers model's shape from its configuration."""
    # The first is DistilBERT's name for it.
    names = ("hidden_dim", "intermediate_size")
    inner = next((one for name in names if (one := getattr(model.config, name, None))), None)
    dtype: torch.dtype = next(model.parameters()).dtype
    return ModelShape(
        width=width,
        intermediate=int(inner) if isinstance(inner, int) else 4 * width,
        depth=depth,
        item_bytes=dtype.itemsize,
        keeps_layers=keeps_layers,
    )
