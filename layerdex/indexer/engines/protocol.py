"""The interface between the encoder and its engines."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from layerdex.choices import Dtype
from layerdex.indexer.text.tokenizer import TokenizerSpec, Tokens, TokenSpans
from layerdex.records import EncodedVectors, Quantization, Vectors


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

    ``indices`` are those of the vectors: of the n texts among those tokenised together, or of their
    spans. ``mask_positions`` (n,) are the positions of the template's mask token, for
    `Pooling.MASK`. ``spans`` (n, n_spans, 2) are the tokens of each span of a text: its first, and
    the one behind its last; a text with fewer spans has empty ones at the end, which have no
    vector.
    """

    indices: NDArray[np.int64]
    ids: NDArray[np.int64]
    mask: NDArray[np.int64]
    mask_positions: NDArray[np.int64] | None = None
    spans: NDArray[np.int64] | None = None

    def inputs(self) -> dict[str, NDArray[np.int64]]:
        """Return the arrays by the names that a converted model gives its inputs."""
        inputs = {"input_ids": self.ids, "attention_mask": self.mask}
        if self.mask_positions is not None:
            inputs["mask_positions"] = self.mask_positions
        if self.spans is not None:
            inputs["spans"] = self.spans
        return inputs

    def halves(self) -> list[Batch]:
        """Return the batch in two, each padded to its own longest text."""
        middle = (len(self.ids) + 1) // 2
        return [self._slice(slice(middle)), self._slice(slice(middle, None))]

    def _slice(self, texts: slice) -> Batch:
        mask, spans, of_texts = self.mask[texts], self.spans, texts
        n_tokens = int(mask.sum(axis=1).max())
        if spans is not None:
            start, stop, _ = texts.indices(len(self.ids))
            bounds = np.cumsum([0, *is_span(spans).sum(axis=1)])
            of_texts = slice(int(bounds[start]), int(bounds[stop]))
        return Batch(
            indices=self.indices[of_texts],
            ids=np.ascontiguousarray(self.ids[texts, :n_tokens]),
            mask=np.ascontiguousarray(mask[:, :n_tokens]),
            mask_positions=None if self.mask_positions is None else self.mask_positions[texts],
            spans=None if spans is None else spans[texts],
        )


def is_span(spans: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which of the spans (n, n_spans, 2) are not empty, (n, n_spans)."""
    return spans[..., 0] < spans[..., 1]


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

    @property
    def quantization(self) -> Quantization | None:
        """How the model was quantised, or None for an exact engine."""
        ...

    def pool(self, batches: Iterable[Batch], layers: tuple[int, ...]) -> Generator[Pooled]:
        """Yield the batches' vectors at ``layers`` (ascending), in the order of the batches."""
        ...


def collect_vectors(pooled: Iterable[Pooled], spec: ModelSpec, n: int) -> EncodedVectors:
    """Return what `Engine.pool` yields for n texts at all layers, (depth + 1, n, width)."""
    vectors = np.empty((spec.depth + 1, n, spec.width), dtype=np.float32)
    for indices, by_layer in pooled:
        for layer, layer_vectors in enumerate(by_layer):
            vectors[layer, indices] = layer_vectors
    return vectors


def make_batch(tokens: Tokens, indices: NDArray[np.int64], *, pad_id: int) -> Batch:
    """Pad the tokens of some texts to the longest of them."""
    rows = [tokens.ids[i] for i in indices]
    shape = (len(rows), max(map(len, rows)))
    ids, mask = np.full(shape, pad_id, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    if tokens.spans is not None:
        return _batch_of_spans(tokens.spans, indices, ids, mask)
    positions = tokens.mask_positions
    return Batch(indices, ids, mask, None if positions is None else positions[indices])


def _batch_of_spans(
    spans: TokenSpans,
    texts: NDArray[np.int64],
    ids: NDArray[np.int64],
    mask: NDArray[np.int64],
) -> Batch:
    starts, stops = spans.offsets[texts], spans.offsets[texts + 1]
    padded = np.zeros((len(texts), max(int((stops - starts).max()), 1), 2), dtype=np.int64)
    indices = [np.arange(start, stop) for start, stop in zip(starts, stops, strict=True)]
    for i, of_text in enumerate(indices):
        padded[i, : len(of_text)] = spans.tokens[of_text]
    return Batch(np.concatenate(indices), ids, mask, spans=padded)
