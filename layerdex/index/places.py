"""Where questions are asked: at a layer, at several, or at several fused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from layerdex.arguments import to_choice, to_list
from layerdex.errors import OptionError
from layerdex.index.encoders import with_template
from layerdex.index.kept_transforms import KeptTransforms, load_transforms
from layerdex.index.upkeep import Upkeep
from layerdex.layers import LayerSelection, resolve_weighted
from layerdex.records import Encoder, Vectors
from layerdex.search.fusion import (
    Fuse,
    Fusion,
    Place,
    Transformed,
    is_ranking,
    layers_of,
    plain_place,
)
from layerdex.search.transforms import TransformName
from layerdex.storage.codecs import as_kept


class Places(Upkeep):
    """The part of `Index` that knows where to look, and gives questions their vectors."""

    _transforms: KeptTransforms | None = None

    def place(
        self,
        layer: LayerSelection | None,
        fuse: Fuse | str | None,
        transform: TransformName | str = TransformName.NONE,
    ) -> Place:
        """Return the one place for a question that needs vectors."""
        if fuse is None:
            return self.transformed([self.choose_layer(layer)], transform)[0]
        place = self._fusion(layer, to_choice(Fuse, fuse))
        if is_ranking(place):
            raise OptionError("rrf fuses rankings, which only a search has: take mean or concat")
        return self.transformed([place], transform)[0]

    def places(
        self,
        layers: LayerSelection | None,
        fuse: Fuse | str | None,
        transform: TransformName | str = TransformName.NONE,
    ) -> tuple[Place, ...]:
        """Return all places of a search; None stands for the saved or else the deepest layer."""
        found: Sequence[Place]
        if fuse is not None:
            found = [self._fusion(layers, to_choice(Fuse, fuse))]
        else:
            found = [self.choose_layer(None)] if layers is None else self.resolve_layers(layers)
        return self.transformed(found, transform)

    def transformed(
        self, places: Sequence[Place], transform: TransformName | str
    ) -> tuple[Place, ...]:
        """Return places with the transform that the index keeps.

        Raises `OptionError` where it keeps none (see `kept_transforms.load_transforms`).
        """
        how = to_choice(TransformName, transform)
        if how is TransformName.NONE:
            return tuple(places)
        self._transforms = kept = load_transforms(self.store, self._transforms)
        return tuple(Transformed(plain_place(one), how, kept.by_name[how]) for one in places)

    def encode_at(self, texts: Sequence[str], places: Sequence[Place]) -> dict[int, Vectors]:
        """Return the vectors of texts, (n, width), at each layer that the places need."""
        return self._encode(self.encoder, texts, places)

    def _encode(
        self, encoder: Encoder, texts: Sequence[str], places: Sequence[Place]
    ) -> dict[int, Vectors]:
        layers = tuple(sorted({layer for place in places for layer in layers_of(place)}))
        vectors = encoder.encode(texts, layers).vectors
        codec = self.store.codec
        return {layer: as_kept(one, codec) for layer, one in zip(layers, vectors, strict=True)}

    def encode_queries(
        self, texts: Sequence[str], places: Sequence[Place], template: str | None
    ) -> dict[int, Vectors]:
        """Return the vectors of searches' texts; ``template`` replaces the index's own for them."""
        template = self.store.query_template if template is None else template
        if template is None:
            return self.encode_at(texts, places)
        return self._encode(with_template(self.encoder, template), texts, places)

    def _fusion(self, layers: LayerSelection | None, how: Fuse) -> Fusion:
        if layers is None:
            raise OptionError("say which layers to fuse, such as 3,4,5 or all")
        depth = self.store.settings.depth
        weights = resolve_weighted(layers, stored=self.layers, depth=depth)
        return Fusion(how, tuple(weights), tuple(weights.values()))


def read_texts(texts: Iterable[str]) -> list[str]:
    """Return questions as a list, held to the rules for documents' texts."""
    from layerdex.indexer.corpus.values import BadValueError, text_value

    if isinstance(texts, str):
        raise OptionError("give a list of texts, not one string")
    texts = to_list(texts, what="give a list of texts")
    for text in texts:
        try:
            text_value(text, field="a text asked about")
        except BadValueError as error:
            raise OptionError(str(error)) from error
    return texts
