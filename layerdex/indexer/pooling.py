"""Token states to one unit vector a text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerdex.records import Pooling

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
            # The sum points where the mean does, and only the direction is kept.
            vectors = (states.float() * mask[..., None]).sum(dim=1)
        case Pooling.CLS:
            vectors = states[:, 0].float()
        case Pooling.MAX:
            vectors = states.float().masked_fill(mask[..., None] == 0, -torch.inf).amax(dim=1)
        case Pooling.MASK:
            if mask_positions is None:
                raise ValueError("mask pooling needs mask positions")
            # Not states[texts, positions]: OpenVINO converts that to something else.
            places = mask_positions[:, None, None].expand(-1, 1, states.shape[2])
            vectors = states.gather(1, places)[:, 0].float()
    return torch.nn.functional.normalize(vectors, dim=1)
