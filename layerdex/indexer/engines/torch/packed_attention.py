"""Attention within packed texts, registered as an attention implementation of transformers.

transformers passes unknown arguments on to the attention function, so that the texts' offsets reach
it, under the names that its flash attention uses
(https://huggingface.co/docs/transformers/attention_interface).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from layerdex.indexer.models.loading import quiet

_NAME = "layerdex_packed"
_PADDED = "sdpa"
# Arguments that change scores in ways that the kernel for packed texts does not support.
_UNSUPPORTED = ("position_bias", "softcap", "s_aux", "cache")
# With random values, rounding to bfloat16 lowers the cosine by at most 4e-6. At the worst token a
# scale that is a tenth too large lowers it by 0.01 (heads of 64), and a window that is off by one
# token on either side of 128 others by 0.1.
_MIN_COSINE = 0.999

_Attend = Callable[..., Tensor]
_thread_state = threading.local()


def packed_inputs(
    ids: Tensor, positions: Tensor, offsets: Tensor, *, longest: int
) -> dict[str, Tensor | int]:
    """Return a model's arguments for packed texts; see `packing.PackedTexts`. There is no mask."""
    return {
        "input_ids": ids,
        "position_ids": positions,
        "cu_seq_lens_q": offsets,
        "cu_seq_lens_k": offsets,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def use_packed_attention(model: nn.Module) -> None:
    """Make a model attend within texts if it gets offsets; without them nothing changes.

    Raises ValueError for a model whose attention implementation is not sdpa.
    """
    if _implementation(model) != _PADDED:
        raise ValueError(f"its attention is {_implementation(model)!r}")
    AttentionInterface.register(_NAME, _attend)
    AttentionMaskInterface.register(_NAME, _make_mask)
    _set_implementation(model, _NAME)


def restore_attention(model: nn.Module) -> None:
    """Undo `use_packed_attention`, if it had an effect."""
    if _implementation(model) == _NAME:
        _set_implementation(model, _PADDED)


@contextmanager
def checked_attention() -> Iterator[None]:
    """Compare the kernel with attention text by text in this thread's packed passes.

    Each call is compared on random values of the same layout, as a model's own values may not show
    a window or a scale that is slightly off. Passes raise ValueError if the two differ.
    """
    _thread_state.is_checked = True
    try:
        yield
    finally:
        _thread_state.is_checked = False


def _implementation(model: nn.Module) -> str | None:
    return getattr(getattr(model, "config", None), "_attn_implementation", None)


def _set_implementation(model: Any, name: str) -> None:
    with quiet():  # transformers warns about models without the interface
        model.set_attn_implementation(name)


def _make_mask(
    *,
    attention_mask: Tensor | None = None,
    allow_is_bidirectional_skip: bool = False,
    **kwargs: Any,
) -> Tensor | None:
    """Return sdpa's mask of a padded batch, and None if the model was called without a mask.

    sdpa's own mask for a sliding window would be (1, 1, n_tokens, n_tokens), gigabytes for a packed
    batch; `_attend` gets the window as an argument.
    """
    if attention_mask is None and allow_is_bidirectional_skip:
        return None
    mask: Tensor | None = sdpa_mask(
        attention_mask=attention_mask,
        allow_is_bidirectional_skip=allow_is_bidirectional_skip,
        **kwargs,
    )
    return mask


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend within texts, or without offsets as sdpa does.

    ``query``, ``key`` and ``value`` are (n, n_heads, n_tokens, head_width); with offsets n is 1.
    Returns (n, n_tokens, n_heads, head_width). Raises ValueError for unsupported arguments.
    """
    offsets: Tensor | None = kwargs.get("cu_seq_lens_q")
    window: int | None = kwargs.get("sliding_window")
    if offsets is None:
        # Layerdex passes a mask for every padded batch, to which transformers adds the window.
        # Without a mask `_make_mask` has left out the window, as it does not know about offsets;
        # a call of the module with ids alone must not get full attention.
        if attention_mask is None and window is not None:
            attention_mask = _window_mask(query.shape[2], window, device=query.device)
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)  # type: ignore[no-any-return]
    _refuse_unsupported(module, query, key, attention_mask, kwargs)
    arguments: dict[str, Any] = {
        "offsets": offsets,
        "longest": kwargs["max_length_q"],
        "scale": kwargs.get("scaling"),
        "window": window,
    }
    attend = partial(_kernel_for(query.device), **arguments)
    # (n_tokens, n_heads, head_width) each
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
    if getattr(_thread_state, "is_checked", False):
        _check(attend, partial(_attend_text_by_text, **arguments), query, key, value)
    return attend(query, key, value)[None], None


def _kernel_for(device: torch.device) -> _Attend:
    return _attend_by_kernel if device.type == "cuda" else _attend_text_by_text


def _check(attend: _Attend, reference: _Attend, *like: Tensor) -> None:
    """Raise ValueError if the two differ on random values of the same layout as ``like``."""
    generator = torch.Generator(like[0].device).manual_seed(0)
    values = [
        torch.empty_strided(
            tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device
        ).normal_(generator=generator)
        for tensor in like
    ]
    attended = attend(*values).float()
    expected = reference(*(tensor.float() for tensor in values))
    # Written so that a cosine that is NaN fails too.
    if not bool((torch.cosine_similarity(attended, expected, dim=-1) >= _MIN_COSINE).all()):
        raise ValueError("the attention kernel differs from attention within each text")


def _refuse_unsupported(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    attention_mask: Tensor | None,
    kwargs: dict[str, Any],
) -> None:
    unsupported = [name for name in _UNSUPPORTED if kwargs.get(name) is not None]
    if attention_mask is not None:
        unsupported.append("a mask")
    is_causal = kwargs.get("is_causal")
    # As in transformers, attention is causal unless the module says otherwise.
    if getattr(module, "is_causal", True) if is_causal is None else is_causal:
        unsupported.append("causal attention")
    if query.shape != key.shape:
        unsupported.append("grouped heads")
    if kwargs.get("dropout"):
        unsupported.append("dropout")
    if unsupported:
        raise ValueError(f"packed attention does not support {', '.join(unsupported)}")


def _attend_by_kernel(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    offsets: Tensor,
    longest: int,
    scale: float | None,
    window: int | None,
) -> Tensor:
    """Attend with torch's kernel, which needs a GPU and half precision."""
    # Not every supported version of torch has this function and these arguments; the check at
    # loading shows whether they exist.
    from torch.nn.attention.varlen import varlen_attn

    # The kernel's window counts the tokens on either side; that of transformers also the token.
    sides = (-1, -1) if window is None else (window - 1, window - 1)
    attended = varlen_attn(
        query, key, value, offsets, offsets, longest, longest, scale=scale, window_size=sides
    )
    return cast("Tensor", attended)  # a tuple only if more is requested


def _attend_text_by_text(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    offsets: Tensor,
    longest: int,  # noqa: ARG001 - a kernel's argument
    scale: float | None,
    window: int | None,
) -> Tensor:
    """Attend without the kernel: slow, but the same result, for checks and for tests on a CPU."""
    attended = torch.empty_like(query)
    for start, stop in pairwise(offsets.tolist()):
        text = slice(start, stop)
        mask = None if window is None else _window_mask(stop - start, window, device=query.device)
        attended[text] = torch.nn.functional.scaled_dot_product_attention(
            query[text].transpose(0, 1),
            key[text].transpose(0, 1),
            value[text].transpose(0, 1),
            attn_mask=mask,
            scale=scale,
        ).transpose(0, 1)
    return attended


def _window_mask(n_tokens: int, window: int, *, device: torch.device) -> Tensor:
    """Return a (n_tokens, n_tokens) bool mask of the pairs less than ``window`` tokens apart."""
    positions = torch.arange(n_tokens, device=device)
    return (positions[:, None] - positions).abs() < window
