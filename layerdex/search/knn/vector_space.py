"""The vectors that a question compares: of one layer, or of several fused, transformed or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from layerdex.choices import TransformName
from layerdex.records import LayerName, OnProgress, Rows, Vectors
from layerdex.search.knn.neighbors import Neighbors, find_neighbors
from layerdex.search.knn.rank_fusion import rank_fused
from layerdex.search.targets import SearchTarget
from layerdex.search.vectors.fusion import FusedVectors, fuse_vectors
from layerdex.search.vectors.transform import TransformedVectors, Transforms
from layerdex.storage.vectors.layer_vectors import VectorSource

GetLayer = Callable[[int], VectorSource]
"""Returns the stored vectors of all live documents at a layer."""


@dataclass(frozen=True, slots=True)
class VectorSpace:
    """A target, and what turns the stored vectors of its layers into those that are compared.

    ``transforms`` has one for each layer of the target, and is None where it has no transform.
    Layers are transformed before they are fused. Both documents and queries come in plain, so that
    none can be transformed on one side only.
    """

    target: SearchTarget
    transforms: Transforms | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> LayerName:
        """The name of the target."""
        return self.target.name

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that vectors are taken from, ascending."""
        return self.target.layers

    @property
    def is_ranking(self) -> bool:
        """Whether there are rankings only, and no vectors."""
        return self.target.is_ranking

    @property
    def stored_layer(self) -> int | None:
        """The layer whose vectors are compared as they are stored, None if they are changed."""
        is_plain = self.target.fuse is None and self.transforms is None
        return self.layers[0] if is_plain else None

    def transformed(self, name: TransformName, transforms: Transforms) -> VectorSpace:
        """Return this space with its layers transformed, in place of any transform before."""
        return VectorSpace(replace(self.target, transform=name), transforms)

    def vectors(self, get_layer: GetLayer) -> VectorSource:
        """Return the vectors of all documents."""
        sources = [self._document_vectors(get_layer, layer) for layer in self.layers]
        fuse = self.target.fuse
        return sources[0] if fuse is None else FusedVectors(sources, fuse, self.target.weights)

    def queries(self, vectors: Mapping[int, Vectors]) -> Vectors:
        """Return the vectors of n queries, (n, width) float32, from plain ones by layer."""
        per_layer = self._query_vectors(vectors)
        fuse = self.target.fuse
        return per_layer[0] if fuse is None else fuse_vectors(per_layer, fuse, self.target.weights)

    def find(
        self,
        get_layer: GetLayer,
        vectors: Mapping[int, Vectors],
        k: int,
        *,
        rows: Rows | None,
        on_progress: OnProgress | None = None,
    ) -> Neighbors:
        """Return the k nearest documents of n queries; see `find_neighbors`.

        ``vectors`` are the queries' plain ones, (n, width) float32, by layer.
        """
        if self.is_ranking:
            sources = [self._document_vectors(get_layer, layer) for layer in self.layers]
            weights = self.target.weights
            return rank_fused(sources, self._query_vectors(vectors), weights, k, rows=rows)
        source, queries = self.vectors(get_layer), self.queries(vectors)
        return find_neighbors(source, queries, k, rows=rows, on_progress=on_progress)

    def _document_vectors(self, get_layer: GetLayer, layer: int) -> VectorSource:
        stored = get_layer(layer)
        if self.transforms is None:
            return stored
        return TransformedVectors(self.transforms[layer], stored)

    def _query_vectors(self, vectors: Mapping[int, Vectors]) -> list[Vectors]:
        if self.transforms is None:
            return [vectors[layer] for layer in self.layers]
        return [self.transforms[layer].apply(vectors[layer]) for layer in self.layers]


def layer_spaces(layers: Iterable[int]) -> tuple[VectorSpace, ...]:
    """Return the space of each layer, as stored."""
    return tuple(VectorSpace(SearchTarget((layer,))) for layer in layers)
