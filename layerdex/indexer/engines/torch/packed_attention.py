"""Attention over texts that lie end to end in one row, as one of transformers' implementations.

transformers hands whatever it does not know itself through to the attention function, so that the
texts' offsets reach it under the names that its own flash attention uses
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
# What changes scores in ways that a kernel for packed texts has no argument for.
_NOT_HONOURED = ("position_bias", "softcap", "s_aux", "cache")
# Of random values, in bfloat16 rounding costs 4e-6 at most. At the worst token a scale that is a
# tenth too large costs 0.01 (heads of 64), a token more or less on both sides of 128 others 0.1.
_LEAST_COSINE = 0.999

_Attend = Callable[..., Tensor]
_of_thread = threading.local()


def packed_inputs(
    ids: Tensor, positions: Tensor, offsets: Tensor, *, longest: int
) -> dict[str, Tensor | int]:
    """Return a model's arguments for texts laid end to end.

    ``ids`` and ``positions`` are (1, n_tokens) int64; text i is the tokens from ``offsets[i]`` to
    ``offsets[i + 1]``, (n + 1,) int32, and ``longest`` the most tokens of one. There is no mask.
    """
    return {
        "input_ids": ids,
        "position_ids": positions,
        "cu_seq_lens_q": offsets,
        "cu_seq_lens_k": offsets,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def use_packed_attention(model: nn.Module) -> None:
    """Have a model attend within texts where it is given offsets; else nothing changes for it.

    Raises ValueError for a model whose attention is not sdpa's.
    """
    if _implementation(model) != _PADDED:
        raise ValueError(f"its attention is {_implementation(model)!r}")
    AttentionInterface.register(_NAME, _attend)
    AttentionMaskInterface.register(_NAME, _make_mask)
    _set_implementation(model, _NAME)


def restore_attention(model: nn.Module) -> None:
    """Undo `use_packed_attention`, also where that came to nothing."""
    if _implementation(model) == _NAME:
        _set_implementation(model, _PADDED)


@contextmanager
def checked_attention() -> Iterator[None]:
    """Have packed passes of this thread compare the kernel with attention text by text.

    Each call is compared on random values laid out as its own are, as a model's may not tell a
    window or a scale that is slightly off. Passes raise ValueError where the two differ.
    """
    _of_thread.is_checked = True
    try:
        yield
    finally:
        _of_thread.is_checked = False


def _implementation(model: nn.Module) -> str | None:
    return getattr(getattr(model, "config", None), "_attn_implementation", None)


def _set_implementation(model: Any, name: str) -> None:
    with quiet():  # a model without the interface is only warned about
        model.set_attn_implementation(name)


def _make_mask(
    *,
    attention_mask: Tensor | None = None,
    allow_is_bidirectional_skip: bool = False,
    **kwargs: Any,
) -> Tensor | None:
    """Return sdpa's mask of a padded batch, and none where the model was given no mask.

    sdpa's own for a sliding window would be (1, 1, n_tokens, n_tokens), gigabytes of a packed
    batch; `_attend` is told the window anyway.
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
    """Attend within texts, or as sdpa does where no offsets are given.

    ``query``, ``key`` and ``value`` are (n, n_heads, n_tokens, head_width), with offsets n is 1.
    Returns (n, n_tokens, n_heads, head_width). Raises ValueError for what it cannot honour.
    """
    offsets: Tensor | None = kwargs.get("cu_seq_lens_q")
    window: int | None = kwargs.get("sliding_window")
    if offsets is None:
        # Layerdex gives every padded batch a mask, and so transformers makes one with the window.
        # Without any, `_make_mask` left the window out, as it is not told about offsets: who calls
        # the module on bare ids must not get full attention.
        if attention_mask is None and window is not None:
            attention_mask = _band(query.shape[2], window, device=query.device)
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)  # type: ignore[no-any-return]
    _refuse_unknown(module, query, key, attention_mask, kwargs)
    of_texts: dict[str, Any] = {
        "offsets": offsets,
        "longest": kwargs["max_length_q"],
        "scale": kwargs.get("scaling"),
        "window": window,
    }
    attend = partial(_kernel_for(query.device), **of_texts)
    # (n_tokens, n_heads, head_width) each
    query, key, value = (one[0].transpose(0, 1) for one in (query, key, value))
    if getattr(_of_thread, "is_checked", False):
        _check(attend, partial(_attend_text_by_text, **of_texts), query, key, value)
    return attend(query, key, value)[None], None


def _kernel_for(device: torch.device) -> _Attend:
    return _attend_by_kernel if device.type == "cuda" else _attend_text_by_text


def _check(attend: _Attend, reference: _Attend, *like: Tensor) -> None:
    """Raise ValueError where the two differ on random values laid out as ``like``."""
    generator = torch.Generator(like[0].device).manual_seed(0)
    values = [
        torch.empty_strided(one.shape, one.stride(), dtype=one.dtype, device=one.device).normal_(
            generator=generator
        )
        for one in like
    ]
    found = attend(*values).float()
    expected = reference(*(one.float() for one in values))
    # Not "any below": a cosine that is not a number shall fail, too.
    if not bool((torch.cosine_similarity(found, expected, dim=-1) >= _LEAST_COSINE).all()):
        raise ValueError("the attention kernel does not attend as each text alone")


def _refuse_unknown(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    attention_mask: Tensor | None,
    kwargs: dict[str, Any],
) -> None:
    unknown = [name for name in _NOT_HONOURED if kwargs.get(name) is not None]
    if attention_mask is not None:
        unknown.append("a mask")
    is_causal = kwargs.get("is_causal")
    # As in transformers, where attention is causal unless a module says that it is not.
    if getattr(module, "is_causal", True) if is_causal is None else is_causal:
        unknown.append("causal attention")
    if query.shape != key.shape:
        unknown.append("grouped heads")
    if kwargs.get("dropout"):
        unknown.append("dropout")
    if unknown:
        raise ValueError(f"packed attention does not know {', '.join(unknown)}")


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
    """Attend on a GPU in half precision, the only one that the kernel takes."""
    # Neither this nor its arguments are in every torch that Layerdex takes; what is missing shows
    # when the model is loaded.
    from torch.nn.attention.varlen import varlen_attn

    # The kernel's window counts the tokens on either side; transformers' the token itself too.
    sides = (-1, -1) if window is None else (window - 1, window - 1)
    attended = varlen_attn(
        query, key, value, offsets, offsets, longest, longest, scale=scale, window_size=sides
    )
    return cast("Tensor", attended)  # a pair only where more is asked for


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
    """Attend without the kernel: slow, but the same, so that a CPU can test what is around it."""
    attended = torch.empty_like(query)
    for start, stop in pairwise(offsets.tolist()):
        of_text = slice(start, stop)
        attended[of_text] = torch.nn.functional.scaled_dot_product_attention(
            query[of_text].transpose(0, 1),
            key[of_text].transpose(0, 1),
            value[of_text].transpose(0, 1),
            attn_mask=None if window is None else _band(stop - start, window, device=query.device),
            scale=scale,
        ).transpose(0, 1)
    return attended


def _band(n_tokens: int, window: int, *, device: torch.device) -> Tensor:
    """Return a (n_tokens, n_tokens) bool mask of the pairs less than ``window`` tokens apart."""
    places = torch.arange(n_tokens, device=device)
    return (places[:, None] - places).abs() < window
