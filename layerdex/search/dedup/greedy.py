"""Deduplication: exact duplicates by text, near duplicates by similarity."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from layerdex.arguments import check_between
from layerdex.choices import Keep
from layerdex.records import OnProgress, Rows, progress_of_shares, tell_beginning, tell_end
from layerdex.search.knn.neighbors import NeighborSearch
from layerdex.search.knn.tiles.costs import ENCODE_NS, READ_NS, pair_ns
from layerdex.search.knn.tiles.kept import KEPT_BLOCK, keep_greedily
from layerdex.search.knn.tiles.pairs import encode_for_pairs
from layerdex.search.knn.vector_space import VectorSpace
from layerdex.search.results import Deduplication, Removal
from layerdex.search.vectors.similarity import SIMILARITY_STEP, round_similarity, to_steps
from layerdex.storage.snapshot import DocumentTable, Snapshot
from layerdex.storage.vectors.layer_vectors import VectorSource

_BLOCK = 2_048


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Which documents to remove, and what each of them repeats.

    ``kept`` are rows in input order. ``removed``, ``kept_for`` (the kept document that each is
    most similar to), ``similarities`` and ``is_exact`` have one entry per removed document, in
    input order.
    """

    kept: Rows
    removed: Rows
    kept_for: Rows
    similarities: NDArray[np.float32]
    is_exact: NDArray[np.bool_]


def find_duplicates(
    layer: VectorSource,
    table: DocumentTable,
    *,
    threshold: float,
    keep: Keep = Keep.FIRST,
    on_progress: OnProgress | None = None,
) -> Duplicates:
    """Go through the documents in keep order; keep each unless a kept one is within the threshold.

    Documents with the same text are exact duplicates, whatever their vectors; other documents are
    removed at a similarity of at least ``threshold``. Every removed document has a kept one within
    the threshold, never only a removed one (no chains). Blocks are compared with kept documents
    only, so memory is a block times n. Unreadable texts are no near duplicates of any other: their
    vectors are those of unknown tokens. Raises `OptionError` for a threshold outside [-1, 1].
    """
    threshold = check_between("a similarity threshold", threshold, -1, 1)
    leaders = leaders_of(table, keep)
    unreadable = table.unreadable[leaders]
    readable = table.rows[leaders[~unreadable]]
    told = progress_of_shares(on_progress, _shares(len(readable), layer.width), len(readable))
    tell_beginning(told[0])
    kept_readable = np.sort(_keep_greedily(layer, readable, threshold, told[0], told[1]))
    kept = np.union1d(kept_readable, table.rows[leaders[unreadable]])
    is_kept = np.isin(table.rows, kept)
    is_exact = np.ones(len(table.rows), dtype=np.bool_)
    is_exact[leaders] = False
    removed = np.flatnonzero(~is_kept)
    removed = removed[np.argsort(table.ordinals[removed])]
    kept_for, similarities = _nearest_kept(
        layer, table, kept_readable, leaders, removed, threshold, told[2]
    )
    tell_end(told[2])
    input_order = np.flatnonzero(is_kept)
    input_order = input_order[np.argsort(table.ordinals[input_order])]
    return Duplicates(
        kept=table.rows[input_order],
        removed=table.rows[removed],
        kept_for=kept_for,
        similarities=similarities,
        is_exact=is_exact[removed],
    )


def leaders_of(table: DocumentTable, keep: Keep) -> NDArray[np.int64]:
    """Return the first document of each text in keep order, as positions in ``table``."""
    order = _keep_order(table, keep)
    _, first = np.unique(table.content_groups[order], return_index=True)
    return order[np.sort(first)]


def _keep_order(table: DocumentTable, keep: Keep) -> NDArray[np.int64]:
    match keep:
        case Keep.FIRST:
            return np.argsort(table.ordinals)
        case Keep.LAST:
            return np.argsort(-table.ordinals)
        case Keep.LONGEST:
            return np.lexsort((table.ordinals, -table.n_characters))


def _keep_greedily(
    layer: VectorSource,
    rows: Rows,
    threshold: float,
    on_encoded: OnProgress | None,
    on_progress: OnProgress | None,
) -> Rows:
    coded = encode_for_pairs(layer, rows, threshold, on_progress=on_encoded)
    kept: list[NDArray[np.int64]] = []
    n_blocks = ceil(len(rows) / KEPT_BLOCK)
    share, n_kept, n_compared = 0.0, 0, 0
    for of_block in keep_greedily(coded, int(to_steps(threshold))):
        kept.append(of_block)
        # A block is compared with all that were kept before it and with itself. The next ones keep
        # as many, by what this one kept.
        n_compared += n_kept + KEPT_BLOCK
        n_kept += len(of_block)
        n_left = n_blocks - len(kept)
        to_come = n_left * (n_kept + KEPT_BLOCK + n_left * len(of_block) / 2)
        share = max(share, n_compared / (n_compared + to_come))
        if on_progress is not None:
            on_progress(round(share * len(rows)), len(rows))
    positions = np.concatenate([np.empty(0, np.int64), *kept])
    of_kept: Rows = rows[positions]
    return of_kept


def _shares(n: int, width: int) -> tuple[float, float, float]:
    """Return the shares of encoding n documents, comparing them, and the search for each removed.

    That of one in ten is a guess: nobody knows yet how many there will be.
    """
    compare_ns = n / 2 * pair_ns(n, width)
    return READ_NS + ENCODE_NS, compare_ns, 0.2 * compare_ns


def _nearest_kept(
    layer: VectorSource,
    table: DocumentTable,
    kept: Rows,
    leaders: NDArray[np.int64],
    removed: NDArray[np.int64],
    threshold: float,
    on_progress: OnProgress | None,
) -> tuple[Rows, NDArray[np.float32]]:
    """Return the most similar kept document of each removed one, and their similarity.

    ``kept`` are the kept rows that are readable, as every removed leader is. A document with the
    text of a kept one is assigned to that one, at similarity 1. Vectors of the same text may differ
    slightly if they were encoded in different windows, so the first in keep order is compared for
    all repeats.
    """
    if not len(removed):
        return np.empty(0, np.int64), np.empty(0, np.float32)
    leader_of = np.zeros(table.content_groups.max() + 1, dtype=np.int64)
    leader_of[table.content_groups[leaders]] = table.rows[leaders]
    leader, position = np.unique(leader_of[table.content_groups[removed]], return_inverse=True)
    kept_for, similarities = leader.copy(), np.ones(len(leader), dtype=np.float32)
    unreadable = table.rows[leaders[table.unreadable[leaders]]]
    near = np.flatnonzero(~np.isin(leader, np.union1d(kept, unreadable)))
    search = NeighborSearch(layer, kept, n_queries=len(near))
    # A little lower, as vectors may be computed from stored ones with other roundings.
    lowest = max(threshold - 2 * SIMILARITY_STEP, -1)
    blocks = [near[start : start + _BLOCK] for start in range(0, len(near), _BLOCK)]
    told = progress_of_shares(on_progress, [len(block) for block in blocks], len(near))
    for block, tell in zip(blocks, told, strict=True):
        nearest = search.find(
            layer.gather(leader[block]), 1, min_similarity=lowest, on_progress=tell
        )
        kept_for[block], similarities[block] = nearest.rows[:, 0], nearest.similarities[:, 0]
    return kept_for[position], similarities[position]


def deduplicate(
    snapshot: Snapshot,
    *,
    space: VectorSpace,
    threshold: float,
    keep: Keep,
    on_progress: OnProgress | None = None,
) -> Deduplication:
    """Find duplicates among the documents of a target, by the user's ids."""
    table = snapshot.document_table(space.target.where)
    duplicates = find_duplicates(
        space.vectors(snapshot.layer),
        table,
        threshold=threshold,
        keep=keep,
        on_progress=on_progress,
    )

    def positions(rows: Rows) -> list[int]:
        return [int(i) for i in np.searchsorted(table.rows, rows)]

    removed = zip(
        positions(duplicates.removed),
        positions(duplicates.kept_for),
        duplicates.similarities,
        duplicates.is_exact,
        strict=True,
    )
    return Deduplication(
        target=space.target,
        threshold=threshold,
        keep=keep,
        n=len(table.rows),
        n_unreadable=int(table.unreadable.sum()),
        kept=tuple(table.ids[i] for i in positions(duplicates.kept)),
        removed=tuple(
            Removal(
                id=table.ids[i],
                kept=table.ids[j],
                similarity=round_similarity(similarity),
                is_exact=bool(is_exact),
                label=table.labels[i],
                kept_label=table.labels[j],
            )
            for i, j, similarity, is_exact in removed
        ),
    )
