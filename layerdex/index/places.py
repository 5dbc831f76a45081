"""Where questions are asked: at a layer, at several, or at several fused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from layerdex.arguments import to_choice, to_list
from layerdex.choices import Fuse, TransformName
from layerdex.errors import OptionError
from layerdex.index.encoders import with_template
from layerdex.index.stored_transforms import StoredTransforms, load_transforms
from layerdex.index.upkeep import Upkeep
from layerdex.layers import LayerSelection, resolve_weighted
from layerdex.records import Encoder, Vectors
from layerdex.search.knn.vector_space import VectorSpace, layer_spaces
from layerdex.search.targets import SearchTarget
from layerdex.storage.vectors.codecs import as_stored


class Places(Upkeep):
    """The part of `Index` that knows where to look, and gives questions their vectors."""

    _transforms: StoredTransforms | None = None

    def space(
        self,
        layer: LayerSelection | None,
        fuse: Fuse | str | None,
        transform: TransformName | str = TransformName.NONE,
    ) -> VectorSpace:
        """Return the one space for a question that needs vectors."""
        if fuse is None:
            return self.transformed(layer_spaces([self.choose_layer(layer)]), transform)[0]
        space = self._fusion(layer, to_choice(Fuse, fuse))
        if space.is_ranking:
            raise OptionError("rrf fuses rankings, which only a search has: take mean or concat")
        return self.transformed([space], transform)[0]

    def spaces(
        self,
        layers: LayerSelection | None,
        fuse: Fuse | str | None,
        transform: TransformName | str = TransformName.NONE,
    ) -> tuple[VectorSpace, ...]:
        """Return all spaces of a search; None stands for the saved or else the deepest layer."""
        if fuse is not None:
            spaces: tuple[VectorSpace, ...] = (self._fusion(layers, to_choice(Fuse, fuse)),)
        elif layers is None:
            spaces = layer_spaces([self.choose_layer(None)])
        else:
            spaces = layer_spaces(self.resolve_layers(layers))
        return self.transformed(spaces, transform)

    def transformed(
        self, spaces: Sequence[VectorSpace], transform: TransformName | str
    ) -> tuple[VectorSpace, ...]:
        """Return spaces with the transform that the index keeps.

        Raises `OptionError` where it keeps none (see `stored_transforms.load_transforms`).
        """
        how = to_choice(TransformName, transform)
        if how is TransformName.NONE:
            return tuple(spaces)
        self._transforms = stored = load_transforms(self.store, self._transforms)
        return tuple(space.transformed(how, stored.by_name[how]) for space in spaces)

    def encode_at(self, texts: Sequence[str], spaces: Sequence[VectorSpace]) -> dict[int, Vectors]:
        """Return the vectors of texts, (n, width), at each layer that the spaces need."""
        return self._encode(self.encoder, texts, spaces)

    def _encode(
        self, encoder: Encoder, texts: Sequence[str], spaces: Sequence[VectorSpace]
    ) -> dict[int, Vectors]:
        layers = tuple(sorted({layer for space in spaces for layer in space.layers}))
        vectors = encoder.encode(texts, layers).vectors
        codec = self.store.codec
        return {layer: as_stored(one, codec) for layer, one in zip(layers, vectors, strict=True)}

    def encode_queries(
        self, texts: Sequence[str], spaces: Sequence[VectorSpace], template: str | None
    ) -> dict[int, Vectors]:
        """Return the vectors of searches' texts; ``template`` replaces the index's own for them."""
        template = self.store.query_template if template is None else template
        if template is None:
            return self.encode_at(texts, spaces)
        return self._encode(with_template(self.encoder, template), texts, spaces)

    def _fusion(self, layers: LayerSelection | None, fuse: Fuse) -> VectorSpace:
        if layers is None:
            raise OptionError("say which layers to fuse, such as 3,4,5 or all")
        depth = self.store.settings.depth
        weights = resolve_weighted(layers, stored=self.layers, depth=depth)
        return VectorSpace(SearchTarget(tuple(weights), fuse, tuple(weights.values())))


def read_texts(texts: Iterable[str]) -> list[str]:
    """Return questions as a list, held to the rules for documents' texts."""
    from layerdex.indexer.readers.values import BadValueError, text_value

    if isinstance(texts, str):
        raise OptionError("give a list of texts, not one string")
    texts = to_list(texts, what="give a list of texts")
    for text in texts:
        try:
            text_value(text, field="a text asked about")
        except BadValueError as error:
            raise OptionError(str(error)) from error
    return texts
