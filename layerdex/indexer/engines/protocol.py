"""The interface between the encoder and its engines."""

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
    """What the encoder needs to know about a model.

    ``n_positions`` is the maximum number of tokens of a text, special tokens included. ``pads``
    says whether texts of different lengths may share a batch; False if padding changes vectors.
    """

    depth: int
    width: int
    n_positions: int
    tokenizer: TokenizerSpec
    pads: bool = True


@dataclass(frozen=True, slots=True)
class Batch:
    """The padded tokens of some texts: ``ids`` and ``mask`` are (n, n_tokens) int64.

    ``indices`` (n,) are the texts' indices among those tokenised together; ``mask_positions`` (n,)
    are the positions of the template's mask token, for `Pooling.MASK`.
    """

    indices: NDArray[np.int64]
    ids: NDArray[np.int64]
    mask: NDArray[np.int64]
    mask_positions: NDArray[np.int64] | None


Pooled = tuple[NDArray[np.int64], Sequence[Vectors]]
"""A batch's indices, and its unit vectors by layer, (n, width) float32 each."""


class Engine(Protocol):
    """Runs batches through the model and pools each chosen layer."""

    @property
    def spec(self) -> ModelSpec:
        """The model's properties."""
        ...

    @property
    def dtype(self) -> Dtype:
        """The dtype it computes in, never `Dtype.AUTO`."""
        ...

    @property
    def token_budget(self) -> int:
        """The number of tokens per batch at which this engine is fastest."""
        ...

    def pool(self, batches: Iterable[Batch], layers: tuple[int, ...]) -> Generator[Pooled]:
        """Yield the batches' vectors at ``layers`` (ascending), in the order of the batches."""
        ...


def make_batch(tokens: Tokens, indices: NDArray[np.int64], *, pad_id: int) -> Batch:
    """Pad the tokens of some texts to the longest of them."""
    rows = [tokens.ids[i] for i in indices]
    shape = (len(rows), max(map(len, rows)))
    ids, mask = np.full(shape, pad_id, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    positions = tokens.mask_positions
    return Batch(indices, ids, mask, None if positions is None else positions[indices])
