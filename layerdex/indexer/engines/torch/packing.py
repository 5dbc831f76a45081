"""Texts without padding: laid end to end in one row, where a model and its device allow it.

A model is tried when it is loaded. Where the kernel does not attend as each text alone, where
packed states are not those of each text alone, or where one text changes another's by a single
bit, batches stay padded.
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
_MOST_TRIED = 160
# Of tokens and of vectors, which are held to what other engines' are held to. In half precision a
# single token's rounding adds up with depth: in bfloat16, a cosine of 0.9996 after four blocks of
# ModernBERT, which has 22.
_LEAST_COSINES = (0.99999, 0.99999)
_LEAST_COSINES_IN_HALF = (0.99, 0.999)


@dataclass(frozen=True, slots=True)
class Sample:
    """What a model is tried on: ``ids`` (n_tokens,) of some text, at most ``n_positions``.

    ``special_ids`` (n,) are all of the tokenizer's, which any text may hold.
    """

    ids: Ids
    special_ids: Ids
    n_positions: int


@dataclass(frozen=True, slots=True)
class PackedTexts:
    """Texts end to end: ``ids`` and ``positions`` are (1, n_tokens) int64.

    Text i is the tokens from ``offsets[i]`` to ``offsets[i + 1]``, (n + 1,) int32; ``longest`` is
    the most tokens of one.
    """

    ids: Ids
    positions: Ids
    offsets: NDArray[np.int32]
    longest: int


def pack(ids: Ids, mask: Ids, *, first: int) -> PackedTexts:
    """Lay a padded batch's real tokens end to end; ``ids`` and ``mask`` are (n, n_tokens).

    Each text's positions count from ``first``. This happens on the host, as a GPU would have to
    be waited for to know how many tokens there are.
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


class Packer:
    """Makes a model's inputs from padded batches, for one that `make_packer` has found to pack."""

    def __init__(self, model: nn.Module, transfers: Transfers) -> None:
        self._first = first_position(model)
        self._transfers = transfers

    def pack(self, ids: Ids, mask: Ids) -> tuple[Inputs, Tensor]:
        """Return the model's arguments and the texts' offsets (n + 1,) int32, on the device."""
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
    """Try a model on packed texts, and return what packs batches for it.

    Raises ValueError where they change vectors, and whatever a packed pass does, with a kernel or a
    model's argument that is missing, or too little memory; the model then is as it was before.
    """
    packer = Packer(model, transfers)
    trial = _Trial(states, packer, pooling, transfers)
    longer, shorter = _lengths_to_try(sample.n_positions)
    texts = [np.resize(sample.ids, longer), np.resize(sample.ids[::-1], shorter)]
    others = _other_texts(texts, sample.special_ids, n_ids=_n_ids_of(model))
    alone = [trial.run_alone(one) for one in texts]
    try:
        use_packed_attention(model)
        trial.run(texts, alone, others)
    except BaseException:
        restore_attention(model)
        raise
    return packer


def _lengths_to_try(n_positions: int) -> tuple[int, int]:
    longer = min(n_positions, _MOST_TRIED)
    return longer, max(1, longer * 5 // 8)


def _n_ids_of(model: Any) -> int:
    # Not the tokenizer's: an id without an embedding would be the end of a GPU.
    return int(model.get_input_embeddings().num_embeddings)


def _other_texts(texts: Sequence[Ids], special_ids: Ids, *, n_ids: int) -> list[Ids]:
    """Return a text for each, of its length and with none of its tokens in their places.

    Half of its tokens are special ones, all that the text has not itself if there is room, as a
    model may do something else with each; the others are random ones of the model's ``n_ids``.
    """
    rng = np.random.default_rng(0)
    known = special_ids[special_ids < n_ids]
    others = []
    for text in texts:
        n_special = min(len(text), max(len(known), len(text) // 2)) if len(known) else 0
        random = rng.integers(n_ids, size=len(text) - n_special)
        other = rng.permutation(np.concatenate([np.resize(known, n_special), random]))
        others.append(np.where(other == text, (other + 1) % n_ids, other))
    return others


@dataclass(frozen=True, slots=True)
class _Trial:
    """Runs a few texts packed and alone; all states are (n_tokens, width), by layer."""

    states: HiddenStates
    packer: Packer
    pooling: Pooling
    transfers: Transfers

    def run(self, texts: list[Ids], alone: list[_OfText], others: list[Ids]) -> None:
        """Raise ValueError if packing changes two texts (n_tokens,), or others in their place."""
        left, right = texts
        with checked_attention():
            together = self.run_packed(left, right)
        for one, other in zip(together, alone, strict=True):
            if not one.agrees(other):
                raise ValueError("states of packed texts are not those of each text alone")
        beside_another = self.run_packed(left, others[1])[0]
        behind_another = self.run_packed(others[0], right)[1]
        if not (together[0].equals(beside_another) and together[1].equals(behind_another)):
            raise ValueError("packed texts change each other")

    def run_alone(self, ids: Ids) -> _OfText:
        mask = torch.ones_like(self.transfers.upload(ids[None]))
        inputs = {"input_ids": self.transfers.upload(ids[None]), "attention_mask": mask}
        layers = self._run(inputs)
        pooled = [
            pool(one, mask, self.pooling, mask_positions=mask.sum(dim=1) - 1) for one in layers
        ]
        return _OfText([one[0] for one in layers], [one[0] for one in pooled])

    def run_packed(self, *texts: Ids) -> list[_OfText]:
        mask = np.arange(max(map(len, texts))) < np.array([[len(one)] for one in texts])
        ids = np.zeros(mask.shape, dtype=np.int64)
        ids[mask] = np.concatenate(texts)
        inputs, offsets = self.packer.pack(ids, mask.astype(np.int64))
        layers = self._run(inputs)
        pooled = [
            pool_packed(one, offsets, self.pooling, mask_positions=offsets.diff() - 1)
            for one in layers
        ]
        lengths = [len(one) for one in texts]
        by_text = zip(*(torch.split(one[0], lengths) for one in layers), strict=True)
        return [
            _OfText(list(of_layers), [one[i] for one in pooled])
            for i, of_layers in enumerate(by_text)
        ]

    def _run(self, inputs: Inputs) -> list[Tensor]:
        found: list[Tensor] = []
        layers = range(self.states.depth + 1)
        self.states.run(inputs, layers, lambda _, states: found.append(states))
        return found


@dataclass(frozen=True, slots=True)
class _OfText:
    """One text's token states (n_tokens, width) and its vector (width,), both by layer."""

    states: Sequence[Tensor]
    vectors: Sequence[Tensor]

    def agrees(self, other: _OfText) -> bool:
        is_single = self.states[0].dtype is torch.float32
        of_tokens, of_vectors = _LEAST_COSINES if is_single else _LEAST_COSINES_IN_HALF
        return _are_near(self.states, other.states, least=of_tokens) and _are_near(
            self.vectors, other.vectors, least=of_vectors
        )

    def equals(self, other: _OfText) -> bool:
        pairs = zip([*self.states, *self.vectors], [*other.states, *other.vectors], strict=True)
        return all(torch.equal(one, two) for one, two in pairs)


def _are_near(found: Sequence[Tensor], expected: Sequence[Tensor], *, least: float) -> bool:
    # Not "none below": a cosine that is not a number shall fail, too.
    return all(
        bool((torch.cosine_similarity(one.float(), other.float(), dim=-1) >= least).all())
        for one, other in zip(found, expected, strict=True)
    )
