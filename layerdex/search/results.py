"""Answers as users see them: documents by their own ids, similarities rounded to 1e-5."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from layerdex.choices import Keep
from layerdex.records import LayerName, Scalar
from layerdex.search.targets import SearchTarget


@dataclass(frozen=True, slots=True)
class Hit:
    """A document near a query; ``rank`` counts from 1, a higher ``similarity`` (cosine) is closer.

    Reciprocal rank fusion has no similarity: ``similarity`` is None, and ``score`` is what hits
    are ranked by, a weighted mean of 1 / (60 + rank) over the layers. Elsewhere ``score`` is None.
    """

    rank: int
    id: str
    similarity: float | None
    label: str | None
    text: str
    metadata: dict[str, Scalar]
    score: float | None = None


@dataclass(frozen=True, slots=True)
class SearchResult(Sequence[Hit]):
    """The hits of one query at one target, the nearest first; itself a sequence of them.

    ``query`` is the text, or the id of the document that was searched by.
    """

    query: str
    target: SearchTarget
    hits: tuple[Hit, ...]

    @property
    def layer(self) -> LayerName:
        """The layer, or the name of the layers fused."""
        return self.target.name

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[index]


@dataclass(frozen=True, slots=True)
class LabelledNeighbor:
    """A neighbour whose label counts."""

    id: str
    label: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """The predicted label of a text, None where ``confidence`` is below the minimum asked for.

    ``confidence`` is the label's share of the vote, or a head's calibrated probability, for which
    there are no ``neighbors`` but ``likeliest``: at most three labels with their probabilities, the
    first of them the predicted one. ``label_field`` is the field whose values count as labels.
    """

    text: str
    label: str | None
    confidence: float
    target: SearchTarget
    neighbors: tuple[LabelledNeighbor, ...]
    label_field: str = "label"
    likeliest: tuple[tuple[str, float], ...] = ()

    @property
    def layer(self) -> LayerName:
        """The layer, or the name of the layers fused."""
        return self.target.name


@dataclass(frozen=True, slots=True)
class Removal:
    """A duplicate to remove, and the kept document that it is most similar to.

    ``is_exact`` says that a document before it in keep order has the same text. Where that
    document is itself a near duplicate, ``kept`` has another text.
    """

    id: str
    kept: str
    similarity: float
    is_exact: bool
    label: str | None = None
    kept_label: str | None = None

    @property
    def is_conflict(self) -> bool:
        """Whether both have a label and the labels differ."""
        return None not in (self.label, self.kept_label) and self.label != self.kept_label


@dataclass(frozen=True, slots=True)
class Deduplication:
    """Which of ``n`` documents to keep (ids in input order) and which to remove.

    ``n_unreadable`` were compared by their text only, as the tokenizer knows no token of it.
    """

    target: SearchTarget
    threshold: float
    keep: Keep
    n: int
    kept: tuple[str, ...]
    removed: tuple[Removal, ...]
    n_unreadable: int = 0

    @property
    def layer(self) -> LayerName:
        """The layer, or the name of the layers fused."""
        return self.target.name

    @property
    def n_exact(self) -> int:
        """How many are removed because a document before them has the same text."""
        return sum(removal.is_exact for removal in self.removed)

    @property
    def n_near(self) -> int:
        """How many are removed for a similar document with another text."""
        return len(self.removed) - self.n_exact

    @property
    def n_conflicts(self) -> int:
        """How many are removed in favour of a document with another label."""
        return sum(removal.is_conflict for removal in self.removed)

    @property
    def clusters(self) -> dict[str, tuple[Removal, ...]]:
        """The removals by the id of the kept document, in input order of the latter."""
        clusters: dict[str, list[Removal]] = {}
        for removal in self.removed:
            clusters.setdefault(removal.kept, []).append(removal)
        return {kept: tuple(clusters[kept]) for kept in self.kept if kept in clusters}
