"""What a question is asked of: layers, fused and transformed how, among which documents."""

from __future__ import annotations

import math
from dataclasses import dataclass

from layerdex.choices import Fuse, TransformName
from layerdex.errors import OptionError
from layerdex.layers import format_layers
from layerdex.predicates import Predicate
from layerdex.records import LayerName


@dataclass(frozen=True, slots=True)
class SearchTarget:
    """Where a question was answered; every result carries its own.

    ``layers`` ascend; there is one unless ``fuse`` says how several became one, with a positive
    weight for each in ``weights``. ``transform`` is what was done to the vectors before they were
    compared, ``where`` are the conditions on documents. Raises `OptionError` for a weight that is
    not positive and finite.
    """

    layers: tuple[int, ...]
    fuse: Fuse | None = None
    weights: tuple[float, ...] = ()
    transform: TransformName = TransformName.NONE
    where: tuple[Predicate, ...] = ()

    def __post_init__(self) -> None:
        """Check the weights."""
        for weight in self.weights:
            if not (math.isfinite(weight) and weight > 0):
                raise OptionError(f"a layer's weight must be above 0, got {weight:g}")

    @property
    def name(self) -> LayerName:
        """The layer's number, or the fusion's name, such as ``mean(3-4)`` or ``rrf(3:1,6:0.5)``."""
        if self.fuse is None:
            return self.layers[0]
        if len(set(self.weights)) == 1:
            return f"{self.fuse.value}({format_layers(self.layers)})"
        pairs = zip(self.layers, self.weights, strict=True)
        return f"{self.fuse.value}({','.join(f'{layer}:{weight:g}' for layer, weight in pairs)})"

    @property
    def is_ranking(self) -> bool:
        """Whether rankings are fused, so that there are no vectors and no similarities."""
        return self.fuse is Fuse.RRF

    @property
    def transform_note(self) -> str:
        """What titles add for a transform: `` · whiten``, or nothing."""
        is_plain = self.transform is TransformName.NONE
        return "" if is_plain else f" · {self.transform.value}"

    @property
    def title(self) -> str:
        """The target in words, such as ``layer 4 · whiten``."""
        return f"layer {self.name}{self.transform_note}"
