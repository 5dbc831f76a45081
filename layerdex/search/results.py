"""Answers as users see them."""

from __future__ import annotations

from dataclasses import dataclass

from layerdex.choices import Keep
from layerdex.records import LayerName, Scalar


@dataclass(frozen=True, slots=True)
class Hit:
    """A document found; ``rank`` counts from 1, higher ``similarity`` (the cosine) is closer.

    Reciprocal rank fusion has no similarity, which is None then: ``score`` is what it ranks by, a
    weighted mean of 1 / (60 + rank) over the layers (see `fusion.rank_fused`), and None elsewhere.
    """

    rank: int
    id: str
    similarity: float | None
    label: str | None
    text: str
    metadata: dict[str, Scalar]
    layer: LayerName
    score: float | None = None


@dataclass(frozen=True, slots=True)
class LabelledNeighbor:
    """A neighbour that voted."""

    id: str
    label: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """A text's label by its neighbours; None where the vote share was below the minimum."""

    text: str
    label: str | None
    confidence: float
    layer: LayerName
    neighbors: tuple[LabelledNeighbor, ...]


@dataclass(frozen=True, slots=True)
class Removal:
    """A document that goes, and the kept one that it is most similar to.

    ``is_exact`` says that a document before it in keep order has the same text; where that one
    went itself as a near duplicate, ``kept`` has another text.
    """

    id: str
    kept: str
    similarity: float
    is_exact: bool
    label: str | None = None
    kept_label: str | None = None

    @property
    def is_conflict(self) -> bool:
        """Whether the two have different labels; one without a label is in conflict with none."""
        return None not in (self.label, self.kept_label) and self.label != self.kept_label


@dataclass(frozen=True, slots=True)
class Deduplication:
    """What stays (``kept``, ids in input order) and what goes, at one layer and threshold."""

    layer: LayerName
    threshold: float
    keep: Keep
    n: int
    kept: tuple[str, ...]
    removed: tuple[Removal, ...]

    @property
    def n_exact(self) -> int:
        """How many were removed because a document before them has the same text."""
        return sum(removal.is_exact for removal in self.removed)

    @property
    def n_conflicts(self) -> int:
        """How many were removed for a document of another label."""
        return sum(removal.is_conflict for removal in self.removed)

    @property
    def clusters(self) -> dict[str, tuple[Removal, ...]]:
        """The removals by the id of the document kept for them, in input order of the latter."""
        found: dict[str, list[Removal]] = {}
        for removal in self.removed:
            found.setdefault(removal.kept, []).append(removal)
        return {kept: tuple(found[kept]) for kept in self.kept if kept in found}
