"""Where a question is asked: at a layer, or at several as one, their vectors or rankings fused."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from layerdex.arguments import check_count
from layerdex.errors import OptionError
from layerdex.layers import describe_layers
from layerdex.records import LayerName, Rows, Vectors
from layerdex.search.neighbors import Neighbors, cosine, find_neighbors, to_steps
from layerdex.search.transforms import TransformedVectors, TransformName, Transforms
from layerdex.storage.vectors import VectorPart, VectorSource

_RANK_OFFSET = 60
_QUERIES = 64  # ranked at once: 50 MB a layer of 100,000 documents


class Fuse(StrEnum):
    """How several layers become one.

    ``mean`` is the weighted mean of the unit vectors, at unit length again. ``concat`` puts them
    side by side, each times its weight, so that a similarity is Σ w² s / Σ w² over the layers.
    ``rrf`` fuses rankings instead, for search only: a document counts Σ w / (60 + rank) (reciprocal
    rank fusion: Cormack, Clarke and Büttcher, SIGIR 2009).
    """

    MEAN = "mean"
    CONCAT = "concat"
    RRF = "rrf"


@dataclass(frozen=True, slots=True)
class Fusion:
    """Layers (ascending) to be fused, and a positive weight for each.

    Raises `OptionError` for weights that are not positive and finite.
    """

    how: Fuse
    layers: tuple[int, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        """Hold the weights to their range."""
        for weight in self.weights:
            if not (math.isfinite(weight) and weight > 0):
                raise OptionError(f"a layer's weight is above 0, not {weight:g}")

    def __str__(self) -> str:
        if len(set(self.weights)) == 1:
            return f"{self.how.value}({describe_layers(self.layers)})"
        pairs = zip(self.layers, self.weights, strict=True)
        return f"{self.how.value}({','.join(f'{layer}:{weight:g}' for layer, weight in pairs)})"

    def fuse(self, vectors: Sequence[Vectors]) -> Vectors:
        """Return one unit vector for the unit vectors of each layer, all (n, width).

        The result is (n, width), with ``concat`` (n, n_layers * width). Where a mean is zero, as
        of opposite vectors, it stays zero.
        """
        # Only their proportions matter, and float32 loses what is far from 1.
        weights = (np.asarray(self.weights) / max(self.weights)).astype(np.float32)
        if self.how is Fuse.CONCAT:
            weights /= np.linalg.norm(weights)
            parts = [w * one for w, one in zip(weights, vectors, strict=True)]
            return np.concatenate(parts, axis=1)
        total = np.zeros_like(vectors[0])
        for weight, one in zip(weights, vectors, strict=True):
            total += weight * one
        lengths = np.linalg.norm(total, axis=1, keepdims=True)
        total /= np.maximum(lengths, np.finfo(np.float32).tiny)
        return total


@dataclass(frozen=True, slots=True)
class Transformed:
    """A layer, or several fused, whose vectors are transformed first, layer by layer."""

    place: int | Fusion
    how: TransformName
    transforms: Transforms = field(repr=False, compare=False)

    def sources(self, get_layer: Callable[[int], VectorSource]) -> Callable[[int], VectorSource]:
        """Return the transformed vectors of documents in place of the stored ones."""
        return lambda layer: TransformedVectors(self.transforms[layer], get_layer(layer))

    def queries(self, vectors: Mapping[int, Vectors]) -> dict[int, Vectors]:
        """Return the transformed vectors of questions, at the layers of the place."""
        return {one: self.transforms[one].apply(vectors[one]) for one in layers_of(self.place)}


Place = int | Fusion | Transformed
"""Where a question is asked: at a layer, or at several of them fused, transformed or not."""


class FusedVectors:
    """The fused vectors of documents, computed as they are read; see `VectorSource`."""

    def __init__(self, fusion: Fusion, layers: Sequence[VectorSource]) -> None:
        self._fusion = fusion
        self._layers = layers
        self.n_documents = layers[0].n_documents
        is_concat = fusion.how is Fuse.CONCAT
        self.width = sum(one.width for one in layers) if is_concat else layers[0].width

    def parts(self, rows: Rows | None = None) -> Iterator[VectorPart]:
        """Yield the live documents, or those of ``rows``, by segment."""
        for parts in zip(*(layer.parts(rows) for layer in self._layers), strict=True):
            yield _FusedPart(self._fusion, parts)

    def gather(self, rows: Rows) -> Vectors:
        """Return the unit vectors of ``rows``, in any order, as (len(rows), width) float32."""
        return self._fusion.fuse([layer.gather(rows) for layer in self._layers])


class _FusedPart:
    def __init__(self, fusion: Fusion, parts: Sequence[VectorPart]) -> None:
        self._fusion = fusion
        self._parts = parts

    @property
    def rows(self) -> Rows:
        return self._parts[0].rows

    def decode(self, start: int, stop: int) -> Vectors:
        return self._fusion.fuse([part.decode(start, stop) for part in self._parts])


def rank_fused(
    layers: Sequence[VectorSource],
    queries: Sequence[Vectors],
    fusion: Fusion,
    k: int,
    *,
    rows: Rows | None = None,
) -> Neighbors:
    """Return the k documents with the highest reciprocal ranks over full rankings.

    ``queries`` hold the vectors (n, width) of the same n questions at each layer. The result's
    ``similarities`` are Σ w / (60 + rank) / Σ w, ranks counting from 1. At each layer, documents
    of equal similarity are ranked by row, as in a search there; so are equal fused ones.
    """
    weights = np.asarray(fusion.weights)
    k = min(check_count("k", k), layers[0].n_documents if rows is None else len(rows))
    found = [Neighbors(np.empty((0, k), np.int64), np.empty((0, k), np.float32))]
    for start in range(0, len(queries[0]), _QUERIES):
        block = [one[start : start + _QUERIES] for one in queries]
        fused: NDArray[np.float64] | float = 0.0
        for weight, layer, vectors in zip(weights / weights.sum(), layers, block, strict=True):
            at, ranks = _rank(layer, vectors, rows)
            fused = fused + weight / (_RANK_OFFSET + ranks)
        fused = np.asarray(fused)
        best = np.lexsort((np.broadcast_to(at, fused.shape), -fused), axis=-1)[:, :k]
        similarities = np.take_along_axis(fused, best, axis=1).astype(np.float32)
        found.append(Neighbors(at[best], similarities))
    return Neighbors(
        np.concatenate([one.rows for one in found]),
        np.concatenate([one.similarities for one in found]),
    )


def _rank(
    layer: VectorSource, queries: Vectors, rows: Rows | None
) -> tuple[Rows, NDArray[np.int64]]:
    """Return all rows (n,), and the rank of each for each query, (n_queries, n) from 1."""
    at, similarities = [np.empty(0, np.int64)], [np.empty((len(queries), 0), np.float32)]
    for part in layer.parts(rows):
        at.append(part.rows)
        similarities.append(cosine(queries, part.decode(0, len(part.rows))))
    every_row, every_one = np.concatenate(at), np.concatenate(similarities, axis=1)
    order = np.argsort(-to_steps(every_one), axis=1, kind="stable")  # rows ascend
    ranks = np.empty(order.shape, dtype=np.int64)
    np.put_along_axis(ranks, order, np.arange(1, order.shape[1] + 1)[None], axis=1)
    return every_row, ranks


def vectors_at(get_layer: Callable[[int], VectorSource], place: Place) -> VectorSource:
    """Return the vectors of all documents at a layer, or at several fused."""
    if isinstance(place, Transformed):
        return vectors_at(place.sources(get_layer), place.place)
    if isinstance(place, int):
        return get_layer(place)
    return FusedVectors(place, [get_layer(layer) for layer in place.layers])


def queries_at(vectors: Mapping[int, Vectors], place: Place) -> Vectors:
    """Return the vectors of questions at a place, from the plain ones at each of its layers."""
    if isinstance(place, Transformed):
        return queries_at(place.queries(vectors), place.place)
    if isinstance(place, int):
        return vectors[place]
    return place.fuse([vectors[layer] for layer in place.layers])


def find_at(
    get_layer: Callable[[int], VectorSource],
    vectors: Mapping[int, Vectors],
    place: Place,
    k: int,
    *,
    rows: Rows | None,
) -> Neighbors:
    """Return the k nearest documents of n questions at a place; see `find_neighbors`.

    ``vectors`` are the questions' plain ones, (n, width) float32, by layer.
    """
    if isinstance(place, Transformed):
        given = place.sources(get_layer), place.queries(vectors)
        return find_at(*given, place.place, k, rows=rows)
    if isinstance(place, Fusion) and place.how is Fuse.RRF:
        layers = [get_layer(layer) for layer in place.layers]
        return rank_fused(layers, [vectors[layer] for layer in place.layers], place, k, rows=rows)
    return find_neighbors(vectors_at(get_layer, place), queries_at(vectors, place), k, rows=rows)


def is_ranking(place: Place) -> bool:
    """Say whether a place has ranks only, and no vectors."""
    plain = plain_place(place)
    return isinstance(plain, Fusion) and plain.how is Fuse.RRF


def layers_of(place: Place) -> tuple[int, ...]:
    """Return the layers that a place takes vectors from."""
    plain = plain_place(place)
    return (plain,) if isinstance(plain, int) else plain.layers


def name_of(place: Place) -> LayerName:
    """Return how answers name a place: a layer's number, or such as ``mean(3-4)``."""
    plain = plain_place(place)
    return plain if isinstance(plain, int) else str(plain)


def plain_place(place: Place) -> int | Fusion:
    """Return a place as it is without a transform."""
    return place.place if isinstance(place, Transformed) else place
