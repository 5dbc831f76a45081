"""What of this is in that? Documents of one index that another has too, such as a test set's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from layerdex.arguments import check_between
from layerdex.records import LayerName, OnProgress
from layerdex.search.answers import round_similarity
from layerdex.search.fusion import Place, name_of, vectors_at
from layerdex.search.neighbors import find_neighbors, to_steps
from layerdex.storage.snapshot import Facts
from layerdex.storage.vectors import VectorSource

_BLOCK = 4_096


@dataclass(frozen=True, slots=True)
class Leak:
    """A document, and the one of the other index that it repeats or is most similar to."""

    id: str
    other: str
    similarity: float
    is_exact: bool
    label: str | None
    other_label: str | None


@dataclass(frozen=True, slots=True)
class Leakage:
    """Which of ``n`` documents are among ``n_other`` others, in input order of the former.

    ``rest`` are the ids of those that are not.
    """

    layer: LayerName
    threshold: float
    n: int
    n_other: int
    found: tuple[Leak, ...]
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


def find_leaks(
    get_layer: Callable[[int], VectorSource],
    facts: Facts,
    get_other: Callable[[int], VectorSource],
    other_facts: Facts,
    *,
    place: Place,
    threshold: float,
    on_progress: OnProgress | None = None,
) -> Leakage:
    """Find each document's nearest in the other index, if it is within the threshold.

    The same text is found whatever its vectors are: the first of the other index, at similarity 1.
    Raises `OptionError` for a threshold outside [-1, 1].
    """
    threshold = check_between("a similarity threshold", threshold, -1, 1)
    source, other = vectors_at(get_layer, place), vectors_at(get_other, place)
    same = {digest: i for i, digest in reversed(list(enumerate(other_facts.content_hashes)))}
    nearest = np.array([same.get(one, -1) for one in facts.content_hashes], dtype=np.int64)
    similarities = np.ones(len(nearest), dtype=np.float32)
    is_exact = nearest >= 0
    others = np.flatnonzero(~is_exact)
    for start in range(0, len(others) if len(other_facts.rows) else 0, _BLOCK):
        block = others[start : start + _BLOCK]
        queries = source.gather(facts.rows[block])
        found = find_neighbors(other, queries, 1, rows=other_facts.rows)
        nearest[block] = np.searchsorted(other_facts.rows, found.rows[:, 0])
        similarities[block] = found.similarities[:, 0]
        if on_progress is not None:
            on_progress(min(start + _BLOCK, len(others)), len(others))
    is_near = (nearest >= 0) & (to_steps(similarities) >= to_steps(threshold))
    is_there = is_exact | is_near
    order = np.argsort(facts.ordinals)
    at, left = order[is_there[order]], order[~is_there[order]]
    return Leakage(
        layer=name_of(place),
        threshold=threshold,
        n=len(facts.rows),
        n_other=len(other_facts.rows),
        found=tuple(
            Leak(
                id=facts.ids[i],
                other=other_facts.ids[nearest[i]],
                similarity=round_similarity(similarities[i]),
                is_exact=bool(is_exact[i]),
                label=facts.labels[i],
                other_label=other_facts.labels[nearest[i]],
            )
            for i in at.tolist()
        ),
        rest=tuple(facts.ids[i] for i in left.tolist()),
    )
