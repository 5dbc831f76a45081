"""Packing: texts end to end in one row, without padding, where the model and device allow it.

A model is checked when it is loaded. Batches stay padded if the attention kernel differs from
attention within each text, if packed states differ from those of each text alone, or if one text
changes a single bit of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from layerdex.choices import Pooling
from layerdex.indexer.engines.protocol import is_span
from layerdex.indexer.engines.torch.hidden_states import HiddenStates, Inputs
from layerdex.indexer.engines.torch.packed_attention import (
    checked_attention,
    packed_inputs,
    restore_attention,
    use_packed_attention,
)
from layerdex.indexer.engines.torch.pooling import pool, pool_packed
from layerdex.indexer.engines.torch.transfers import Transfers
from layerdex.indexer.models.loading import first_position

Ids = NDArray[np.int64]

# Longer than ModernBERT's local attention reaches (64 tokens to either side).
_MAX_CHECKED_TOKENS = 160
# For tokens and for vectors; the latter is the bound for all engines. In half precision a token's
# rounding errors grow with depth: in bfloat16 to a cosine of 0.9996 after 4 of ModernBERT's 22
# blocks.
_MIN_COSINES = (0.99999, 0.99999)
_MIN_COSINES_IN_HALF = (0.99, 0.999)


@dataclass(frozen=True, slots=True)
class Sample:
    """The input for checking a model: ``ids`` (n_tokens,) of some text, at most ``n_positions``.

    ``special_ids`` (n,) are all special tokens, which any text may contain.
    """

    ids: Ids
    special_ids: Ids
    n_positions: int


@dataclass(frozen=True, slots=True)
class PackedTexts:
    """Texts end to end: ``ids`` and ``positions`` are (1, n_tokens) int64.

    Text i has the tokens ``offsets[i]`` to ``offsets[i + 1]``, (n + 1,) int32; ``longest`` is the
    number of tokens of the longest text.
    """

    ids: Ids
    positions: Ids
    offsets: NDArray[np.int32]
    longest: int


def pack(ids: Ids, mask: Ids, *, first: int) -> PackedTexts:
    """Put a padded batch's real tokens end to end; ``ids`` and ``mask`` are (n, n_tokens).

    Each text's positions count from ``first``. This runs on the host: on a GPU the host would have
    to wait for the number of tokens.
    """
    lengths = mask.sum(axis=1)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    positions = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths) + first
    return PackedTexts(
        ids=ids[mask == 1][None],
        positions=positions[None],
        offsets=offsets.astype(np.int32),
        longest=int(lengths.max()),
    )


def packed_spans(spans: Ids, mask: Ids) -> tuple[Ids, NDArray[np.int32]]:
    """Return the tokens of all spans of a packed batch, and each span's first among these.

    ``spans`` (n, n_spans, 2) are those of a padded batch with the same ``mask``, empty ones left
    out. The tokens of span i are at ``offsets[i]`` to ``offsets[i + 1]``, (n_kept + 1,) int32.
    """
    of_text, at = np.nonzero(is_span(spans))
    first_tokens = np.cumsum([0, *mask.sum(axis=1)])[of_text]
    starts, stops = (spans[of_text, at] + first_tokens[:, None]).T
    offsets = np.concatenate([[0], np.cumsum(stops - starts)])
    tokens = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], stops - starts)
    return tokens, offsets.astype(np.int32)


class Packer:
    """Turns padded batches into packed inputs, for a model that `make_packer` has checked."""

    def __init__(self, model: nn.Module, transfers: Transfers) -> None:
        self._first = first_position(model)
        self._transfers = transfers

    def pack(self, ids: Ids, mask: Ids) -> tuple[Inputs, Tensor]:
        """Return the model's arguments, and the texts' offsets (n + 1,) int32 on the device."""
        texts = pack(ids, mask, first=self._first)
        upload = self._transfers.upload
        offsets = upload(texts.offsets)
        inputs = packed_inputs(
            upload(texts.ids), upload(texts.positions), offsets, longest=texts.longest
        )
        return inputs, offsets


def make_packer(
    model: nn.Module, states: HiddenStates, sample: Sample, pooling: Pooling, transfers: Transfers
) -> Packer:
    """Check a model on packed texts, and return the packer for it.

    Raises ValueError if packing changes vectors, and any error of a packed pass: a missing kernel
    or argument, or too little memory. The model is then restored.
    """
    packer = Packer(model, transfers)
    check = _PackingCheck(states, packer, pooling, transfers)
    longer, shorter = _lengths_to_check(sample.n_positions)
    texts = [np.resize(sample.ids, longer), np.resize(sample.ids[::-1], shorter)]
    others = _other_texts(texts, sample.special_ids, n_ids=_n_ids_of(model))
    alone = [check.run_alone(text) for text in texts]
    try:
        use_packed_attention(model)
        check.run(texts, alone, others)
    except BaseException:
        restore_attention(model)
        raise
    return packer


def _lengths_to_check(n_positions: int) -> tuple[int, int]:
    longer = min(n_positions, _MAX_CHECKED_TOKENS)
    return longer, max(1, longer * 5 // 8)


def _n_ids_of(model: Any) -> int:
    # Not the tokenizer's number: an id without an embedding makes a GPU unusable.
    return int(model.get_input_embeddings().num_embeddings)


def _other_texts(texts: Sequence[Ids], special_ids: Ids, *, n_ids: int) -> list[Ids]:
    """Return another text for each, of the same length and with another token at every position.

    Half of its tokens, and more if there is room for all of them, are special ones, as a model may
    treat each in another way; the others are random ones of the model's ``n_ids``.
    """
    rng = np.random.default_rng(0)
    special_ids = special_ids[special_ids < n_ids]
    others = []
    for text in texts:
        n_special = min(len(text), max(len(special_ids), len(text) // 2)) if len(special_ids) else 0
        random = rng.integers(n_ids, size=len(text) - n_special)
        other = rng.permutation(np.concatenate([np.resize(special_ids, n_special), random]))
        others.append(np.where(other == text, (other + 1) % n_ids, other))
    return others


@dataclass(frozen=True, slots=True)
class _PackingCheck:
    """Compares packed texts with the same texts alone; states are (n_tokens, width), by layer."""

    states: HiddenStates
    packer: Packer
    pooling: Pooling
    transfers: Transfers

    def run(self, texts: list[Ids], alone: list[_TextStates], others: list[Ids]) -> None:
        """Raise ValueError if packing changes the two ``texts``, or if ``others`` change them."""
        left, right = texts
        with checked_attention():
            together = self.run_packed(left, right)
        pairs = zip(together, alone, strict=True)
        if not all(packed.is_near(single) for packed, single in pairs):
            raise ValueError("states of packed texts differ from those of each text alone")
        beside_another = self.run_packed(left, others[1])[0]
        behind_another = self.run_packed(others[0], right)[1]
        if not (together[0].equals(beside_another) and together[1].equals(behind_another)):
            raise ValueError("packed texts change each other")

    def run_alone(self, ids: Ids) -> _TextStates:
        mask = torch.ones_like(self.transfers.upload(ids[None]))
        inputs = {"input_ids": self.transfers.upload(ids[None]), "attention_mask": mask}
        layers = self._run(inputs)
        positions = mask.sum(dim=1) - 1
        vectors = [pool(states, mask, self.pooling, mask_positions=positions) for states in layers]
        return _TextStates([states[0] for states in layers], [rows[0] for rows in vectors])

    def run_packed(self, *texts: Ids) -> list[_TextStates]:
        lengths = [len(text) for text in texts]
        mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
        ids = np.zeros(mask.shape, dtype=np.int64)
        ids[mask] = np.concatenate(texts)
        inputs, offsets = self.packer.pack(ids, mask.astype(np.int64))
        layers = self._run(inputs)
        vectors = [
            pool_packed(states, offsets, self.pooling, mask_positions=offsets.diff() - 1)
            for states in layers
        ]
        by_text = zip(*(torch.split(states[0], lengths) for states in layers), strict=True)
        return [
            _TextStates(list(states), [rows[i] for rows in vectors])
            for i, states in enumerate(by_text)
        ]

    def _run(self, inputs: Inputs) -> list[Tensor]:
        layers: list[Tensor] = []
        numbers = range(self.states.depth + 1)
        self.states.run(inputs, numbers, lambda _, states: layers.append(states))
        return layers


@dataclass(frozen=True, slots=True)
class _TextStates:
    """One text's token states (n_tokens, width) and its vector (width,), both by layer."""

    states: Sequence[Tensor]
    vectors: Sequence[Tensor]

    def is_near(self, other: _TextStates) -> bool:
        is_single = self.states[0].dtype is torch.float32
        for_tokens, for_vectors = _MIN_COSINES if is_single else _MIN_COSINES_IN_HALF
        return _are_near(self.states, other.states, bound=for_tokens) and _are_near(
            self.vectors, other.vectors, bound=for_vectors
        )

    def equals(self, other: _TextStates) -> bool:
        pairs = zip([*self.states, *self.vectors], [*other.states, *other.vectors], strict=True)
        return all(torch.equal(left, right) for left, right in pairs)


def _are_near(left: Sequence[Tensor], right: Sequence[Tensor], *, bound: float) -> bool:
    # Written so that a cosine that is NaN fails too.
    return all(
        bool((torch.cosine_similarity(x.float(), y.float(), dim=-1) >= bound).all())
        for x, y in zip(left, right, strict=True)
    )
