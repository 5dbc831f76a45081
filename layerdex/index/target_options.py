"""The target of a question as users name it, and what it stands for at one commit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypedDict

from layerdex.arguments import to_choice, to_list
from layerdex.choices import Fuse, TransformName
from layerdex.errors import OptionError
from layerdex.index.open_index import OpenIndex
from layerdex.index.stored_transforms import load_transforms
from layerdex.layers import LayerSelection, resolve_weighted
from layerdex.predicates import Predicate
from layerdex.search.filters import Expressions, parse_where
from layerdex.search.knn.vector_space import VectorSpace
from layerdex.search.targets import SearchTarget
from layerdex.storage.catalog.settings import BEST_LAYER, check_best_layer
from layerdex.storage.snapshot import Snapshot


class TargetArguments(TypedDict, total=False):
    """The keyword arguments of `Index.at`, and of the methods that stand for ``at().method()``."""

    layer: LayerSelection | None
    fuse: Fuse | str | None
    transform: TransformName | str
    where: Expressions


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """Layers, fusion, transform and conditions, converted and checked, not yet resolved.

    ``layer`` None is the default of a question: the saved best layer, else the deepest one, or all
    layers where they are compared.
    """

    layer: LayerSelection | None = None
    fuse: Fuse | None = None
    transform: TransformName = TransformName.NONE
    where: tuple[Predicate, ...] = ()

    @classmethod
    def parse(
        cls,
        layer: LayerSelection | None = None,
        fuse: Fuse | str | None = None,
        transform: TransformName | str = TransformName.NONE,
        where: Expressions = None,
    ) -> TargetOptions:
        """Return what a user gave; raises `OptionError` or `FilterError`."""
        if isinstance(layer, Iterable) and not isinstance(layer, str):
            layer = tuple(to_list(layer, what="layers are whole numbers"))
        if fuse is None and isinstance(layer, str) and ":" in layer:
            raise OptionError(f"layers {layer!r} have weights, but are not fused: choose fuse")
        return cls(
            layer,
            None if fuse is None else to_choice(Fuse, fuse),
            to_choice(TransformName, transform),
            parse_where(where),
        )

    @property
    def target_of_layers(self) -> tuple[object, ...]:
        """What decides, with the index, which layers a kind of question needs, and if it can be."""
        return self.layer, self.fuse, self.transform

    def check(self, index: OpenIndex) -> None:
        """Raise `LayerError` or `OptionError` for layers that cannot be asked."""
        if self.fuse is not None:
            self._fused(index)
        elif self.layer is not None:
            index.resolve_layers(self.layer)

    def spaces(self, index: OpenIndex, snapshot: Snapshot) -> list[VectorSpace]:
        """Return the spaces of a search: one per layer, or one of all layers fused."""
        if self.fuse is not None:
            targets = [self._fused(index)]
        elif self.layer is None:
            targets = [self._at_layer(default_layer(index, snapshot))]
        else:
            targets = [self._at_layer(layer) for layer in index.resolve_layers(self.layer)]
        return self._with_stored_transform(index, snapshot, targets)

    def space(self, index: OpenIndex, snapshot: Snapshot) -> VectorSpace:
        """Return the one space of a question that needs vectors at a single target."""
        spaces = self.spaces(index, snapshot)
        if len(spaces) > 1:
            raise OptionError(
                f"one layer is needed here, not {self.layer!r}: fuse them or choose one"
            )
        check_has_vectors(spaces)
        return spaces[0]

    def layer_spaces(self, index: OpenIndex, snapshot: Snapshot) -> list[VectorSpace]:
        """Return a space per layer, all layers by default, for questions that fuse none."""
        if self.fuse is not None:
            raise OptionError("this compares single layers: leave out fuse")
        layers = index.resolve_layers("all" if self.layer is None else self.layer)
        targets = [self._at_layer(layer) for layer in layers]
        return self._with_stored_transform(index, snapshot, targets)

    def stored_spaces(self, index: OpenIndex) -> list[VectorSpace]:
        """Return a space per layer, all by default, for questions about vectors as stored."""
        if self.fuse is not None or self.transform is not TransformName.NONE:
            raise OptionError("this looks at stored layers: leave out fuse and transform")
        return self.compared_spaces(index)

    def compared_spaces(self, index: OpenIndex) -> list[VectorSpace]:
        """Return the spaces of an evaluation, untransformed: the layers, and all of them fused."""
        if self.fuse is None:
            layers = index.resolve_layers("all" if self.layer is None else self.layer)
            return [VectorSpace(self._at_layer(layer)) for layer in layers]
        fused = self._fused(index)
        return [*(VectorSpace(self._at_layer(n)) for n in fused.layers), VectorSpace(fused)]

    def _at_layer(self, layer: int) -> SearchTarget:
        return SearchTarget((layer,), where=self.where)

    def _fused(self, index: OpenIndex) -> SearchTarget:
        if self.layer is None:
            raise OptionError("say which layers to fuse, such as 3,4,5 or all")
        store = index.store
        weights = resolve_weighted(self.layer, stored=store.layers, depth=store.settings.depth)
        return SearchTarget(tuple(weights), self.fuse, tuple(weights.values()), where=self.where)

    def _with_stored_transform(
        self, index: OpenIndex, snapshot: Snapshot, targets: Iterable[SearchTarget]
    ) -> list[VectorSpace]:
        if self.transform is TransformName.NONE:
            return [VectorSpace(target) for target in targets]
        index.transforms = stored = load_transforms(index.store, snapshot, index.transforms)
        transforms = stored.by_name[self.transform]
        return [VectorSpace(target).transformed(self.transform, transforms) for target in targets]


def default_layer(index: OpenIndex, snapshot: Snapshot) -> int:
    """Return the layer that `Index.save_best` saved, else the deepest."""
    layers = index.store.layers
    best = check_best_layer(snapshot.setting(BEST_LAYER), layers)
    return layers[-1] if best is None else int(best["layer"])


def check_has_vectors(spaces: Iterable[VectorSpace]) -> None:
    """Raise `OptionError` for reciprocal rank fusion, which only a search has."""
    if any(space.is_ranking for space in spaces):
        raise OptionError("rrf fuses rankings, which only a search has: take mean or concat")
