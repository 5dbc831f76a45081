"""Pooling of token states to one unit vector per text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerdex.choices import Pooling

if TYPE_CHECKING:
    from torch import Tensor


def pool(
    states: Tensor, mask: Tensor, pooling: Pooling, *, mask_positions: Tensor | None = None
) -> Tensor:
    """Pool token states (n, n_tokens, width) to unit vectors (n, width) float32.

    ``mask`` (n, n_tokens) is 1 at real tokens and 0 at padding. Sums run in float32 whatever the
    states' dtype. ``mask_positions`` (n,) is needed for `Pooling.MASK`.
    """
    import torch

    match pooling:
        case Pooling.MEAN:
            # The sum has the direction of the mean, and normalisation removes the length. The
            # product with 0 or 1 is exact in the states' dtype, and needs half the memory.
            vectors = (states * mask[..., None]).sum(dim=1, dtype=torch.float32)
        case Pooling.CLS:
            vectors = states[:, 0].float()
        case Pooling.MAX:
            vectors = states.float().masked_fill(mask[..., None] == 0, -torch.inf).amax(dim=1)
        case Pooling.MASK:
            if mask_positions is None:
                raise ValueError("mask pooling needs mask positions")
            # Not states[texts, positions], which OpenVINO converts wrongly.
            positions = mask_positions[:, None, None].expand(-1, 1, states.shape[2])
            vectors = states.gather(1, positions)[:, 0].float()
    return torch.nn.functional.normalize(vectors, dim=1)


def pool_spans(states: Tensor, spans: Tensor) -> Tensor:
    """Pool the tokens of spans to unit vectors (n, n_spans, width) float32.

    Of token states (n, n_tokens, width), each span (n, n_spans, 2) has those from its first number
    and below its second. An empty one has the vector zero.
    """
    import torch

    positions = torch.arange(states.shape[1], device=states.device)
    is_within = (positions >= spans[..., :1]) & (positions < spans[..., 1:])
    # As in `pool`, the sum has the direction of the mean.
    return torch.nn.functional.normalize(torch.bmm(is_within.float(), states.float()), dim=2)


def pool_packed_spans(states: Tensor, tokens: Tensor, offsets: Tensor) -> Tensor:
    """Pool spans of packed texts' states (1, n_tokens, width) to unit vectors (n, width) float32.

    Span i has the tokens ``tokens[offsets[i]:offsets[i + 1]]``, at least one; see `pool_packed`.
    """
    import torch

    gathered = states[0].index_select(0, tokens).float()
    vectors = torch.segment_reduce(gathered, "sum", offsets=offsets, unsafe=True)
    return torch.nn.functional.normalize(vectors, dim=1)


def pool_packed(
    states: Tensor, offsets: Tensor, pooling: Pooling, *, mask_positions: Tensor | None = None
) -> Tensor:
    """Pool packed texts' states (1, n_tokens, width) to unit vectors (n, width) float32.

    Text i has the tokens ``offsets[i]`` to ``offsets[i + 1]``, (n + 1,) int32, at least one. Sums
    run in float32, each in one thread and in the order of the tokens, so that a GPU
    gives the same bytes again. ``mask_positions`` (n,) count from a text's first token.
    """
    import torch

    match pooling:
        # ``unsafe`` skips a check of the offsets that would wait for the GPU.
        case Pooling.MEAN:
            vectors = torch.segment_reduce(states[0].float(), "sum", offsets=offsets, unsafe=True)
        case Pooling.CLS:
            vectors = states[0].index_select(0, offsets[:-1]).float()
        case Pooling.MAX:
            vectors = torch.segment_reduce(states[0].float(), "max", offsets=offsets, unsafe=True)
        case Pooling.MASK:
            if mask_positions is None:
                raise ValueError("mask pooling needs mask positions")
            vectors = states[0].index_select(0, offsets[:-1] + mask_positions).float()
    return torch.nn.functional.normalize(vectors, dim=1)
