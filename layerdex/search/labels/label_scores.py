"""How well each document's label fits the labels of its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from layerdex.arguments import check_count
from layerdex.records import OnProgress, progress_of_parts
from layerdex.search.evaluation.folds import two_labels
from layerdex.search.evaluation.held_out import nearest_with_other_text
from layerdex.search.evaluation.metrics import Codes
from layerdex.search.knn.neighbors import Neighbors
from layerdex.search.knn.vector_space import GetLayer, VectorSpace
from layerdex.search.knn.voting import NO_LABEL, labels_of
from layerdex.storage.snapshot import DocumentTable

N_NEIGHBORS = 40
N_LISTED = 5
"""Nearest neighbours that are kept to be listed beside a document."""

# A neighbour counts exp(-d / (0.2 * d_k)), with d its distance and d_k that of the k-th: the
# nearest few decide, in dense and in sparse regions. With k = 40 and the score below it was
# picked among many settings by finding 5 % changed labels, in docstrings (20 kernels and ks, where
# even votes and 1 / d did worse) and in Banking77 (6): figures on these two sets flatter it.
_BANDWIDTH = 0.2
# Shares below this are no evidence: one far neighbour with the document's label does not defend it.
_FLOOR = 1e-3
_N_CELLS = 4_000_000  # of documents times labels at once: 32 MB


@dataclass(frozen=True, slots=True)
class LabelScores:
    """How well the labels of n documents fit their neighbours; all arrays are (n,).

    ``codes`` are the documents' labels as codes into ``label_names``, ``suggested`` the likeliest
    other ones. ``own_share`` and ``suggested_share`` are the neighbours' weighted shares with these
    labels, averaged over the spaces. ``n_against`` counts the spaces where some other label
    outweighs the document's. ``nearest`` are (n, `N_LISTED`) neighbours at the listed space.
    """

    label_names: tuple[str, ...]
    codes: Codes
    suggested: Codes
    own_share: NDArray[np.float64]
    suggested_share: NDArray[np.float64]
    n_against: NDArray[np.int64]
    n_spaces: int
    nearest: Neighbors = field(repr=False)

    @property
    def scores(self) -> NDArray[np.float64]:
        """ln((suggested_share + 0.001) / (own_share + 0.001)): the higher, the more suspect.

        Above 0 the neighbours favour the other label.
        """
        scores: NDArray[np.float64] = np.log(self.suggested_share + _FLOOR)
        return scores - np.log(self.own_share + _FLOOR)

    def ranked(self) -> NDArray[np.int64]:
        """Return the positions that most spaces, and all together, are against; the worst first."""
        scores = self.scores
        at = np.flatnonzero((2 * self.n_against > self.n_spaces) & (scores > 0))
        return at[np.argsort(-scores[at], kind="stable")]


def score_labels(
    get_layer: GetLayer,
    table: DocumentTable,
    *,
    spaces: Sequence[VectorSpace],
    k: int = N_NEIGHBORS,
    listed: int = -1,
    on_progress: OnProgress | None = None,
) -> LabelScores:
    """Compare each label with those of the k nearest documents, at each space.

    Only documents with another text judge a document, so that the shares are out of sample, as
    confident learning requires of class probabilities (Northcutt, Jiang and Chuang, *JAIR* 70,
    2021); the score is their normalised margin on a log scale. ``listed`` is the position in
    ``spaces`` whose neighbours are kept. Raises `NoLabelsError` for fewer than two labels,
    `OptionError` for k < 1.
    """
    k = min(check_count("k", k), len(table.rows))
    scores = _empty_scores(*two_labels(table), n_spaces=len(spaces), n_listed=min(N_LISTED, k))
    per_space = (
        nearest_with_other_text(space.vectors(get_layer), table, k, on_progress=tell)
        for tell, space in zip(progress_of_parts(on_progress, len(spaces)), spaces, strict=True)
    )
    for blocks in zip(*per_space, strict=True):
        positions, neighbors = blocks[listed]
        width = min(scores.nearest.rows.shape[1], neighbors.rows.shape[1])
        scores.nearest.rows[positions, :width] = neighbors.rows[:, :width]
        scores.nearest.similarities[positions, :width] = neighbors.similarities[:, :width]
        votes = [
            (labels_of(near, table.rows, scores.codes), near.similarities) for _, near in blocks
        ]
        size = max(1, _N_CELLS // len(scores.label_names))
        for start in range(0, len(positions), size):
            part = slice(start, start + size)
            _judge(scores, positions[part], [(labels[part], near[part]) for labels, near in votes])
    return scores


def _empty_scores(
    names: tuple[str, ...], codes: Codes, *, n_spaces: int, n_listed: int
) -> LabelScores:
    n = len(codes)
    return LabelScores(
        label_names=names,
        codes=codes,
        suggested=np.full(n, NO_LABEL, dtype=np.int64),
        own_share=np.zeros(n),
        suggested_share=np.zeros(n),
        n_against=np.zeros(n, dtype=np.int64),
        n_spaces=n_spaces,
        nearest=Neighbors(
            np.full((n, n_listed), -1, dtype=np.int64), np.full((n, n_listed), -np.inf, np.float32)
        ),
    )


def _judge(
    scores: LabelScores, positions: Codes, votes: Sequence[tuple[Codes, NDArray[np.float32]]]
) -> None:
    """Fill in the scores at ``positions`` (n,), by the labels and similarities (n, k) per space."""
    at, codes = np.arange(len(positions)), scores.codes[positions]
    total = np.zeros((len(positions), len(scores.label_names)))
    for labels, similarities in votes:
        shares = _shares(labels, similarities, total.shape[1])
        total += shares
        own = shares[at, codes]
        shares[at, codes] = -1
        scores.n_against[positions] += shares.max(axis=1) > own
    total /= len(votes)
    scores.own_share[positions] = total[at, codes]
    total[at, codes] = -1
    scores.suggested[positions] = suggested = total.argmax(axis=1)
    scores.suggested_share[positions] = total[at, suggested]


def _shares(labels: Codes, similarities: NDArray[np.float32], n_labels: int) -> NDArray[np.float64]:
    """Return the weighted share of each label among neighbours (n, k), (n, n_labels)."""
    present = labels != NO_LABEL
    distances = np.where(present, 1 - similarities.astype(np.float64), 0)
    scale = np.maximum(_BANDWIDTH * distances.max(axis=1, keepdims=True, initial=0), 1e-9)
    weights = np.where(present, np.exp(-np.maximum(distances, 0) / scale), 0)
    cells = np.arange(len(labels))[:, None] * n_labels + np.where(present, labels, 0)
    sums = np.bincount(cells.ravel(), weights.ravel(), minlength=len(labels) * n_labels)
    shares = sums.reshape(len(labels), n_labels)
    totals: NDArray[np.float64] = shares.sum(axis=1, keepdims=True)
    return shares / np.where(totals > 0, totals, 1)
