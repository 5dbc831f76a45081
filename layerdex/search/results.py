"""Answers as users see them: documents by their own ids, similarities rounded to 1e-5."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import is_
from typing import TYPE_CHECKING, overload

from layerdex.choices import Keep
from layerdex.records import LayerName, Scalar
from layerdex.search.targets import SearchTarget
from layerdex.tabular import (
    LAYER,
    NUMBER,
    TEXT,
    TRUTH,
    WHOLE,
    Brief,
    Row,
    Table,
    Tabular,
    TabularList,
    series_index,
    shorten_repr,
    with_metadata,
)
from layerdex.wording import counted

if TYPE_CHECKING:
    from pandas import DataFrame

_HIT_DTYPES = {
    "query": TEXT,
    "layer": LAYER,
    "rank": WHOLE,
    "id": TEXT,
    "similarity": NUMBER,
    "score": NUMBER,
    "label": TEXT,
    "text": TEXT,
}
_PREDICTION_DTYPES = {
    "text": TEXT,
    "label": TEXT,
    "confidence": NUMBER,
    "layer": LAYER,
    "nearest_id": TEXT,
    "nearest_label": TEXT,
    "nearest_similarity": NUMBER,
}
_REMOVAL_DTYPES = {
    "id": TEXT,
    "kept": TEXT,
    "similarity": NUMBER,
    "is_exact": TRUTH,
    "label": TEXT,
    "kept_label": TEXT,
}


@dataclass(frozen=True, slots=True, repr=False)
class Hit(Brief):
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


@dataclass(frozen=True, slots=True, repr=False)
class SearchResult(Sequence[Hit], Tabular):
    """The hits of one query at one target, the nearest first; itself a sequence of them.

    ``query`` is the text, or the id of the document that was searched by. ``recall_bound`` is None
    where every document was compared, so that no hit is missed; where an approximate index answered
    (see `Index.accelerate`), it is the lower 95 % bound of recall@10 that was measured for it.
    With a filter, and after documents were deleted, it is that of filters that keep a little more
    and a little less, which can be easier.
    """

    query: str
    target: SearchTarget
    hits: tuple[Hit, ...]
    recall_bound: float | None = None

    @property
    def exact(self) -> bool:
        """Whether every document was compared."""
        return self.recall_bound is None

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

    def _summary(self) -> str:
        shown = ", ".join(
            f"{hit.id!r} {hit.similarity if hit.score is None else hit.score:.3f}"
            for hit in self.hits[:3]
        )
        hits = counted(len(self.hits), "hit")
        more = ", …" if len(self.hits) > 3 else ""
        found = f" ({shown}{more})" if shown else ""
        return f"{hits} for {shorten_repr(self.query)} at {self.target.title}{found}"

    def _table(self) -> Table:
        return Table(_HIT_DTYPES, len(self.hits), self._rows())

    def _rows(self) -> Iterator[Row]:
        for hit in self.hits:
            row = {
                "query": self.query,
                "layer": self.layer,
                "rank": hit.rank,
                "id": hit.id,
                "similarity": hit.similarity,
                "score": hit.score,
                "label": hit.label,
                "text": hit.text,
            }
            yield with_metadata(row, hit.metadata)


class SearchResults(TabularList[SearchResult]):
    """The results of several queries, or of a query at several layers, in order; a list."""

    __slots__ = ()

    def _summary(self) -> str:
        if len(self) == 1:
            return self[0]._summary()
        hits = counted(sum(len(result) for result in self), "hit")
        first = f", the first {self[0]!r}" if self else ""
        return f"{counted(len(self), 'result')}, {hits}{first}"

    def _table(self) -> Table:
        rows = (row for result in self for row in result._rows())
        return Table(_HIT_DTYPES, sum(len(result) for result in self), rows)


@dataclass(frozen=True, slots=True, repr=False)
class LabelledNeighbor(Brief):
    """A neighbour whose label counts."""

    id: str
    label: str
    similarity: float


@dataclass(frozen=True, slots=True, repr=False)
class Prediction(Tabular):
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

    def _summary(self) -> str:
        label = "no label" if self.label is None else shorten_repr(self.label)
        asked = shorten_repr(self.text)
        return f"{label} ({self.confidence:.3f}) for {asked} at {self.target.title}"

    def _table(self) -> Table:
        return Table(_PREDICTION_DTYPES, 1, [self._row()])

    def _row(self) -> Row:
        nearest = self.neighbors[0] if self.neighbors else None
        return {
            "text": self.text,
            "label": self.label,
            "confidence": self.confidence,
            "layer": self.layer,
            "nearest_id": None if nearest is None else nearest.id,
            "nearest_label": None if nearest is None else nearest.label,
            "nearest_similarity": None if nearest is None else nearest.similarity,
        }


class Predictions(TabularList[Prediction]):
    """The predicted labels of several texts, in order; a list.

    ``texts`` are what was asked about: if they are a pandas series, the data frame has its index.
    """

    __slots__ = ("_as_made", "_index")

    def __init__(self, predictions: Iterable[Prediction] = (), *, texts: object = None) -> None:
        super().__init__(predictions)
        self._index = series_index(texts)
        self._as_made = () if self._index is None else tuple(self)

    def to_pandas(self) -> DataFrame:
        """Return a row per text, with the index of the series that the texts came in, if any."""
        frame = super().to_pandas()
        is_as_made = len(self) == len(self._as_made) and all(map(is_, self, self._as_made))
        # A list that was sorted or cut since then is in another order than the index.
        return frame.set_axis(self._index) if self._index is not None and is_as_made else frame

    def _summary(self) -> str:
        labels = Counter(prediction.label for prediction in self if prediction.label is not None)
        shown = ", ".join(f"{shorten_repr(name)} {n:,}" for name, n in labels.most_common(5))
        more = ", …" if len(labels) > 5 else ""
        return counted(len(self), "prediction") + (f" ({shown}{more})" if shown else "")

    def _table(self) -> Table:
        return Table(_PREDICTION_DTYPES, len(self), (each._row() for each in self))


@dataclass(frozen=True, slots=True, repr=False)
class Removal(Brief):
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


@dataclass(frozen=True, slots=True, repr=False)
class Deduplication(Tabular):
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

    def _summary(self) -> str:
        return (
            f"{len(self.kept):,} of {counted(self.n, 'document')} kept, {self.n_exact:,} exact and "
            f"{self.n_near:,} near duplicates (threshold {self.threshold:g}, {self.target.title})"
        )

    def _table(self) -> Table:
        rows = (
            {name: getattr(removal, name) for name in _REMOVAL_DTYPES} for removal in self.removed
        )
        return Table(_REMOVAL_DTYPES, len(self.removed), rows)
