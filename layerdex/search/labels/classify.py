"""Labels of texts by the vote of their nearest labelled documents.

Only the documents that are found are read and checked, not every labelled one: neighbours are taken
among all documents until enough of them have a label. Where labels are rare, the rows that have one
are looked up instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray

from layerdex.arguments import check_between, check_count
from layerdex.choices import Weights
from layerdex.errors import DamagedIndexError, NoLabelsError
from layerdex.records import OnProgress, Rows, Vectors, progress_of_shares, tell_end
from layerdex.search.knn.neighbors import Neighbors
from layerdex.search.knn.vector_space import VectorSpace
from layerdex.search.knn.voting import encode_labels, labels_of, vote
from layerdex.search.results import LabelledNeighbor, Prediction
from layerdex.search.vectors.similarity import round_similarity
from layerdex.storage.snapshot import DocumentTable, Snapshot

_N_ROUNDS = 2
_SHARES = (8.0, 1.0, 1.0)
"""Of the rounds and of the search by labelled rows: mostly the first round is all."""
_N_STEPS = 1_000
_MARGIN = 2
_MOST_FETCHED = 2_048
"""If more neighbours are needed to find k with a label, the rows with one are looked up instead."""


def classify_texts(
    snapshot: Snapshot,
    texts: Sequence[str],
    vectors: Mapping[int, Vectors],
    *,
    space: VectorSpace,
    k: int,
    weights: Weights,
    min_confidence: float = 0.0,
    on_progress: OnProgress | None = None,
) -> list[Prediction]:
    """Return each text's label by the vote of its k nearest labelled documents.

    ``vectors`` (n, width) are the texts' by layer. Raises `NoLabelsError` where no matching
    document has a label.
    """
    check_between("min_confidence", min_confidence, 0, 1)
    if not len(texts):
        return []
    neighbors, table = find_labelled(
        snapshot, vectors, space, check_count("k", k), on_progress=on_progress
    )
    names, codes = encode_labels(table.labels)
    labels = labels_of(neighbors, table.rows, codes)
    votes = vote(labels, neighbors.similarities, weights)
    return [
        Prediction(
            text=text,
            label=names[code] if confidence >= min_confidence else None,
            confidence=round_similarity(confidence),
            target=space.target,
            neighbors=labelled_neighbors(neighbors, i, table),
        )
        for i, (text, code, confidence) in enumerate(
            zip(texts, votes.labels, votes.confidences, strict=True)
        )
    ]


def find_labelled(
    snapshot: Snapshot,
    vectors: Mapping[int, Vectors],
    space: VectorSpace,
    k: int,
    *,
    on_progress: OnProgress | None = None,
) -> tuple[Neighbors, DocumentTable]:
    """Return the k nearest labelled documents of n queries, and the table of those found.

    The neighbours are those of a search among all labelled documents. Raises `NoLabelsError` where
    there are none.
    """
    where = space.target.where
    rows = snapshot.rows(where) if where else None
    n_candidates = snapshot.n_documents if rows is None else len(rows)
    n_fetched = min(k, n_candidates)
    # Each round reads all vectors: after one, the share with a label says how many are enough.
    told = progress_of_shares(on_progress, _SHARES, _N_STEPS)
    for tell in told[:_N_ROUNDS] if n_fetched else []:
        neighbors = space.find(snapshot.layer, vectors, n_fetched, rows=rows, on_progress=tell)
        table = snapshot.table_of(_distinct(neighbors))
        is_labelled = np.array([label is not None for label in table.labels])
        is_candidate = is_labelled[np.searchsorted(table.rows, neighbors.rows)]
        n_found = int(is_candidate.sum(axis=1).min())
        if n_found >= min(k, n_candidates):
            tell_end(told[-1])
            return _first(neighbors, is_candidate, k), table
        n_needed = ceil(_MARGIN * k * n_fetched / max(n_found, 0.5))
        if n_fetched == n_candidates or n_needed > _MOST_FETCHED:
            break
        n_fetched = min(n_needed, n_candidates)
    labelled_rows = snapshot.labelled_rows(where)
    if not len(labelled_rows):
        raise NoLabelsError(
            "no document here has a label (see 'layerdex index --label-field')"
            if not space.target.where
            else "no document that meets the conditions has a label"
        )
    neighbors = space.find(snapshot.layer, vectors, k, rows=labelled_rows, on_progress=told[-1])
    table = snapshot.table_of(_distinct(neighbors))
    if None in table.labels:
        raise DamagedIndexError(
            "the catalog's index of labels disagrees with its rows: restore it from a backup"
        )
    tell_end(told[-1])
    return neighbors, table


def labelled_neighbors(
    neighbors: Neighbors, query: int, table: DocumentTable
) -> tuple[LabelledNeighbor, ...]:
    """Return the neighbours of one query, all of them in ``table``, as users see them."""
    is_real = neighbors.rows[query] >= 0
    positions = np.searchsorted(table.rows, neighbors.rows[query][is_real]).tolist()
    similarities = neighbors.similarities[query][is_real]
    return tuple(
        LabelledNeighbor(table.ids[i], str(table.labels[i]), round_similarity(similarity))
        for i, similarity in zip(positions, similarities, strict=True)
    )


def _distinct(neighbors: Neighbors) -> Rows:
    rows: Rows = np.unique(neighbors.rows)
    return rows


def _first(neighbors: Neighbors, is_candidate: NDArray[np.bool_], k: int) -> Neighbors:
    """Return the first k candidates of each query, in their order."""
    order = np.argsort(~is_candidate, axis=1, kind="stable")[:, :k]
    return Neighbors(
        np.take_along_axis(neighbors.rows, order, axis=1),
        np.take_along_axis(neighbors.similarities, order, axis=1),
    )
