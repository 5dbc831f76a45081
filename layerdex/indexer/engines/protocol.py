"""The seam between the encoder and what computes: what an engine takes, gives and knows."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from layerdex.choices import Dtype
from layerdex.indexer.text.tokenizer import TokenizerSpec, Tokens
from layerdex.records import Vectors


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What must be known of a model beside its weights.

    ``n_positions`` is the most tokens that a text may have, special ones included.
    """

    depth: int
    width: int
    n_positions: int
    tokenizer: TokenizerSpec


@dataclass(frozen=True, slots=True)
class Batch:
    """Some texts' tokens, padded: ``ids`` and ``mask`` are (n, n_tokens) int64.

    ``places`` (n,) says which of the texts tokenised together these are; ``mask_positions`` (n,)
    where the template's mask token stands, for `Pooling.MASK`.
    """

    places: NDArray[np.int64]
    ids: NDArray[np.int64]
    mask: NDArray[np.int64]
    mask_positions: NDArray[np.int64] | None


Pooled = tuple[NDArray[np.int64], Sequence[Vectors]]
"""The places of a batch, and its unit vectors by layer, (n, width) float32 each."""


class Engine(Protocol):
    """Runs batches through the model and pools each chosen layer."""

    @property
    def spec(self) -> ModelSpec:
        """What is known of the model."""
        ...

    @property
    def dtype(self) -> Dtype:
        """The dtype it computes in, never `Dtype.AUTO`."""
        ...

    @property
    def token_budget(self) -> int:
        """How many tokens a batch should hold to keep this engine's caches or cores filled."""
        ...

    def pool(self, batches: Iterable[Batch], layers: tuple[int, ...]) -> Generator[Pooled]:
        """Yield the batches' vectors at ``layers`` (ascending), in the batches' order."""
        ...


def make_batch(tokens: Tokens, places: NDArray[np.int64], *, pad_id: int) -> Batch:
    """Pad the tokens of some texts to the longest of them."""
    rows = [tokens.ids[place] for place in places]
    shape = (len(rows), max(map(len, rows)))
    ids, mask = np.full(shape, pad_id, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    positions = tokens.mask_positions
    return Batch(places, ids, mask, None if positions is None else positions[places])
