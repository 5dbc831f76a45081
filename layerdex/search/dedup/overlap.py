"""What of this is in that? Documents of one index that another has too, such as a test set's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from layerdex.arguments import check_between
from layerdex.records import LayerName, OnProgress
from layerdex.search.knn.neighbors import find_neighbors
from layerdex.search.knn.vector_space import VectorSpace
from layerdex.search.vectors.similarity import round_similarity, to_steps
from layerdex.storage.snapshot import DocumentTable
from layerdex.storage.vectors.layer_vectors import VectorSource

_BLOCK = 4_096


@dataclass(frozen=True, slots=True)
class SharedDocument:
    """A document, and the one of the other index that it repeats or is most similar to."""

    id: str
    other: str
    similarity: float
    is_exact: bool
    label: str | None
    other_label: str | None


@dataclass(frozen=True, slots=True)
class Overlap:
    """Which of ``n`` documents are among ``n_other`` others, in input order of the former.

    ``rest`` are the ids of those that are not.
    """

    layer: LayerName
    threshold: float
    n: int
    n_other: int
    found: tuple[SharedDocument, ...]
    rest: tuple[str, ...]

    @property
    def n_exact(self) -> int:
        """How many have a text that is there word for word."""
        return sum(leak.is_exact for leak in self.found)

    @property
    def n_conflicts(self) -> int:
        """How many have another label there; one without a label is in conflict with none."""
        labels = ((leak.label, leak.other_label) for leak in self.found)
        return sum(own != other for own, other in labels if None not in (own, other))


def find_overlap(
    get_layer: Callable[[int], VectorSource],
    table: DocumentTable,
    get_other: Callable[[int], VectorSource],
    other_table: DocumentTable,
    *,
    space: VectorSpace,
    threshold: float,
    on_progress: OnProgress | None = None,
) -> Overlap:
    """Find each document's nearest in the other index, if it is within the threshold.

    The same text is found whatever its vectors are: the first of the other index, at similarity 1.
    Raises `OptionError` for a threshold outside [-1, 1].
    """
    threshold = check_between("a similarity threshold", threshold, -1, 1)
    source, other = space.vectors(get_layer), space.vectors(get_other)
    same = {digest: i for i, digest in reversed(list(enumerate(other_table.content_hashes)))}
    nearest = np.array([same.get(one, -1) for one in table.content_hashes], dtype=np.int64)
    similarities = np.ones(len(nearest), dtype=np.float32)
    is_exact = nearest >= 0
    others = np.flatnonzero(~is_exact)
    for start in range(0, len(others) if len(other_table.rows) else 0, _BLOCK):
        block = others[start : start + _BLOCK]
        queries = source.gather(table.rows[block])
        found = find_neighbors(other, queries, 1, rows=other_table.rows)
        nearest[block] = np.searchsorted(other_table.rows, found.rows[:, 0])
        similarities[block] = found.similarities[:, 0]
        if on_progress is not None:
            on_progress(min(start + _BLOCK, len(others)), len(others))
    is_near = (nearest >= 0) & (to_steps(similarities) >= to_steps(threshold))
    is_there = is_exact | is_near
    order = np.argsort(table.ordinals)
    at, left = order[is_there[order]], order[~is_there[order]]
    return Overlap(
        layer=space.name,
        threshold=threshold,
        n=len(table.rows),
        n_other=len(other_table.rows),
        found=tuple(
            SharedDocument(
                id=table.ids[i],
                other=other_table.ids[nearest[i]],
                similarity=round_similarity(similarities[i]),
                is_exact=bool(is_exact[i]),
                label=table.labels[i],
                other_label=other_table.labels[nearest[i]],
            )
            for i in at.tolist()
        ),
        rest=tuple(table.ids[i] for i in left.tolist()),
    )
