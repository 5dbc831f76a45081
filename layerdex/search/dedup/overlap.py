"""Documents of one index that another has too, such as texts of a test set seen in training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerdex.arguments import check_between
from layerdex.records import LayerName, OnProgress, progress_of_shares
from layerdex.search.knn.neighbors import NeighborSearch
from layerdex.search.knn.vector_space import GetLayer, VectorSpace
from layerdex.search.targets import SearchTarget
from layerdex.search.vectors.similarity import round_similarity, to_steps
from layerdex.storage.snapshot import DocumentTable
from layerdex.tabular import LAYER, NUMBER, TEXT, TRUTH, Brief, Row, Table, Tabular, TabularList
from layerdex.wording import counted

_BLOCK = 4_096
_DTYPES = {
    "layer": LAYER,
    "id": TEXT,
    "other": TEXT,
    "similarity": NUMBER,
    "is_exact": TRUTH,
    "label": TEXT,
    "other_label": TEXT,
}


@dataclass(frozen=True, slots=True, repr=False)
class SharedDocument(Brief):
    """A document, and the document of the other index that it repeats or is most similar to."""

    id: str
    other: str
    similarity: float
    is_exact: bool
    label: str | None
    other_label: str | None

    @property
    def is_conflict(self) -> bool:
        """Whether both have a label and the labels differ."""
        return None not in (self.label, self.other_label) and self.label != self.other_label


@dataclass(frozen=True, slots=True, repr=False)
class Overlap(Tabular):
    """Which of ``n`` documents are among the ``n_other`` of another index, in input order.

    ``rest`` are the ids of the documents that are not.
    """

    target: SearchTarget
    threshold: float
    n: int
    n_other: int
    shared: tuple[SharedDocument, ...]
    rest: tuple[str, ...]

    @property
    def layer(self) -> LayerName:
        """The layer, or the name of the layers fused."""
        return self.target.name

    @property
    def n_exact(self) -> int:
        """How many have a text that is in the other index word for word."""
        return sum(document.is_exact for document in self.shared)

    @property
    def n_near(self) -> int:
        """How many are only similar to a document of the other index."""
        return len(self.shared) - self.n_exact

    @property
    def n_conflicts(self) -> int:
        """How many have another label in the other index."""
        return sum(document.is_conflict for document in self.shared)

    def _summary(self) -> str:
        return (
            f"{len(self.shared):,} of {counted(self.n, 'document')} are also in the other index, "
            f"{self.n_exact:,} exactly (threshold {self.threshold:g}, {self.target.title})"
        )

    def _table(self) -> Table:
        return Table(_DTYPES, len(self.shared), self._rows())

    def _rows(self) -> Iterator[Row]:
        for document in self.shared:
            own = {name: getattr(document, name) for name in _DTYPES if name != "layer"}
            yield {"layer": self.layer, **own}


class Overlaps(TabularList[Overlap]):
    """The overlaps at several layers, in order; a list."""

    __slots__ = ()

    def _summary(self) -> str:
        if len(self) == 1:
            return self[0]._summary()
        first = f", the first {self[0]!r}" if self else ""
        return counted(len(self), "overlap") + first

    def _table(self) -> Table:
        rows = (row for overlap in self for row in overlap._rows())
        return Table(_DTYPES, sum(len(overlap.shared) for overlap in self), rows)


def find_overlap(
    get_layer: GetLayer,
    table: DocumentTable,
    get_other: GetLayer,
    other_table: DocumentTable,
    *,
    space: VectorSpace,
    threshold: float,
    on_progress: OnProgress | None = None,
) -> Overlap:
    """Find each document's nearest document of the other index, if it is within the threshold.

    A document with the same text is found whatever its vector, at similarity 1: the first of the
    other index with the same label, else the first. Unreadable texts are found by their text
    only. Raises `OptionError` for a threshold outside [-1, 1].
    """
    threshold = check_between("a similarity threshold", threshold, -1, 1)
    nearest = _same_text(table, other_table)
    is_exact = nearest >= 0
    similarities = np.ones(len(nearest), dtype=np.float32)
    source, other = space.vectors(get_layer), space.vectors(get_other)
    others = np.flatnonzero(~other_table.unreadable)
    is_compared = ~is_exact & ~table.unreadable if len(others) else np.zeros_like(is_exact)
    compared = np.flatnonzero(is_compared)
    search = NeighborSearch(other, other_table.rows[others], n_queries=len(compared))
    blocks = [compared[start : start + _BLOCK] for start in range(0, len(compared), _BLOCK)]
    told = progress_of_shares(on_progress, [len(block) for block in blocks], len(compared))
    for block, tell in zip(blocks, told, strict=True):
        queries = source.gather(table.rows[block])
        found = search.find(queries, 1, min_similarity=threshold, on_progress=tell)
        is_found = found.rows[:, 0] >= 0
        near = block[is_found]
        nearest[near] = np.searchsorted(other_table.rows, found.rows[is_found, 0])
        similarities[near] = found.similarities[is_found, 0]
    is_near = (nearest >= 0) & (to_steps(similarities) >= to_steps(threshold))
    is_shared = is_exact | is_near
    order = np.argsort(table.ordinals)
    return Overlap(
        target=space.target,
        threshold=threshold,
        n=len(table.rows),
        n_other=len(other_table.rows),
        shared=tuple(
            SharedDocument(
                id=table.ids[i],
                other=other_table.ids[nearest[i]],
                similarity=round_similarity(similarities[i]),
                is_exact=bool(is_exact[i]),
                label=table.labels[i],
                other_label=other_table.labels[nearest[i]],
            )
            for i in order[is_shared[order]].tolist()
        ),
        rest=tuple(table.ids[i] for i in order[~is_shared[order]].tolist()),
    )


def _same_text(table: DocumentTable, other: DocumentTable) -> NDArray[np.int64]:
    """Return the position of an other document with the same text, (n,), -1 for none.

    It is the first with the same label, too, else the first: labels are in conflict only where no
    document agrees.
    """
    each = list(zip(other.content_hashes, other.labels, strict=True))
    backwards = range(len(each) - 1, -1, -1)
    first = {each[i][0]: i for i in backwards}
    first_alike = {each[i]: i for i in backwards}
    own = zip(table.content_hashes, table.labels, strict=True)
    found = (first_alike.get(one, first.get(one[0], -1)) for one in own)
    return np.fromiter(found, np.int64, len(table.content_hashes))
