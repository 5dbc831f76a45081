"""Which labels look wrong? Each document's label against those of its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from layerdex.arguments import check_count
from layerdex.records import OnProgress
from layerdex.search.answers import labelled_neighbors
from layerdex.search.evaluation.classification import nearest_with_other_text, two_labels
from layerdex.search.evaluation.metrics import Codes
from layerdex.search.knn.neighbors import Neighbors
from layerdex.search.knn.vector_space import GetLayer, VectorSpace
from layerdex.search.knn.voting import NO_LABEL, labels_of
from layerdex.search.results import LabelIssue, LabelIssues
from layerdex.search.vectors.similarity import round_similarity
from layerdex.storage.snapshot import DocumentTable, Snapshot

N_NEIGHBORS = 40
N_SHOWN = 5

# A neighbour counts exp(-d / (0.2 * d_k)), with d its distance and d_k that of the k-th: the
# nearest few decide, in a dense region as in a thin one. With k = 40 and the score below it was
# picked among many settings by finding 5 % changed labels, in docstrings (20 kernels and ks, where
# even votes and 1 / d did worse) and in Banking77 (6): figures on these two sets flatter it.
_BANDWIDTH = 0.2
# Shares below this are no evidence: one far neighbour with the given label is not its defence.
_FLOOR = 1e-3
_N_CELLS = 4_000_000  # of documents times labels at once: 32 MB


@dataclass(frozen=True, slots=True)
class LabelScores:
    """How well the labels of n documents fit their neighbours; all arrays are (n,).

    ``given`` and ``suggested`` are label codes, the latter that of the likeliest other label.
    ``given_share`` and ``suggested_share`` are the neighbours' weighted shares with these labels,
    averaged over the spaces. ``n_against`` counts the spaces at which some other label outweighs
    the given one. ``nearest`` holds (n, N_SHOWN) neighbours at the space to be shown.
    """

    label_names: tuple[str, ...]
    given: Codes
    suggested: Codes
    given_share: NDArray[np.float64]
    suggested_share: NDArray[np.float64]
    n_against: NDArray[np.int64]
    n_spaces: int
    nearest: Neighbors = field(repr=False)

    @property
    def scores(self) -> NDArray[np.float64]:
        """ln((suggested + 0.001) / (given + 0.001)) of the shares: the higher, the more suspect.

        Above 0 the neighbours are for the other label.
        """
        scores: NDArray[np.float64] = np.log(self.suggested_share + _FLOOR)
        return scores - np.log(self.given_share + _FLOOR)

    def ranked(self) -> NDArray[np.int64]:
        """Return the positions that most spaces are against, and all together; the worst first."""
        scores = self.scores
        at = np.flatnonzero((2 * self.n_against > self.n_spaces) & (scores > 0))
        return at[np.argsort(-scores[at], kind="stable")]


def score_labels(
    get_layer: GetLayer,
    table: DocumentTable,
    *,
    spaces: Sequence[VectorSpace],
    k: int = N_NEIGHBORS,
    shown: int = -1,
    on_progress: OnProgress | None = None,
) -> LabelScores:
    """Compare each label with those of the k nearest documents at each space.

    A document is judged by documents of other texts only, so that the shares are out of sample,
    as confident learning asks of class probabilities (Northcutt, Jiang and Chuang, *JAIR* 70,
    2021); the score is their normalised margin on a log scale. ``shown`` is the position among
    ``spaces`` of the one whose neighbours are kept. Raises `NoLabelsError` for fewer than two
    labels, `OptionError` for k < 1.
    """
    k = min(check_count("k", k), len(table.rows))
    found = _unjudged(*two_labels(table), n_spaces=len(spaces), n_kept=min(N_SHOWN, k))
    blocks = (nearest_with_other_text(space.vectors(get_layer), table, k) for space in spaces)
    done = 0
    for at_places in zip(*blocks, strict=True):
        chosen, kept = at_places[shown]
        width = min(found.nearest.rows.shape[1], kept.rows.shape[1])
        found.nearest.rows[chosen, :width] = kept.rows[:, :width]
        found.nearest.similarities[chosen, :width] = kept.similarities[:, :width]
        votes = [
            (labels_of(one, table.rows, found.given), one.similarities) for _, one in at_places
        ]
        size = max(1, _N_CELLS // len(found.label_names))
        for start in range(0, len(chosen), size):
            part = slice(start, start + size)
            _judge(found, chosen[part], [(labels[part], near[part]) for labels, near in votes])
        done += len(chosen)
        if on_progress is not None:
            on_progress(done, len(table.rows))
    return found


def _unjudged(names: tuple[str, ...], given: Codes, *, n_spaces: int, n_kept: int) -> LabelScores:
    n = len(given)
    return LabelScores(
        label_names=names,
        given=given,
        suggested=np.full(n, NO_LABEL, dtype=np.int64),
        given_share=np.zeros(n),
        suggested_share=np.zeros(n),
        n_against=np.zeros(n, dtype=np.int64),
        n_spaces=n_spaces,
        nearest=Neighbors(
            np.full((n, n_kept), -1, dtype=np.int64), np.full((n, n_kept), -np.inf, np.float32)
        ),
    )


def _judge(
    found: LabelScores, chosen: Codes, votes: Sequence[tuple[Codes, NDArray[np.float32]]]
) -> None:
    """Fill in what ``votes``, labels and similarities (n_chosen, k) a space, say of ``chosen``."""
    at, given = np.arange(len(chosen)), found.given[chosen]
    total = np.zeros((len(chosen), len(found.label_names)))
    for labels, similarities in votes:
        shares = _shares(labels, similarities, total.shape[1])
        total += shares
        own = shares[at, given]
        shares[at, given] = -1
        found.n_against[chosen] += shares.max(axis=1) > own
    total /= len(votes)
    found.given_share[chosen] = total[at, given]
    total[at, given] = -1
    found.suggested[chosen] = suggested = total.argmax(axis=1)
    found.suggested_share[chosen] = total[at, suggested]


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


def find_label_issues(
    snapshot: Snapshot,
    table: DocumentTable,
    *,
    spaces: Sequence[VectorSpace],
    shown: int,
    k: int,
    limit: int | None,
    label_field: str,
    on_progress: OnProgress | None = None,
) -> LabelIssues:
    """Return the suspects by the user's ids, with texts; see `score_labels`."""
    scored = score_labels(
        snapshot.layer, table, spaces=spaces, k=k, shown=shown, on_progress=on_progress
    )
    ranked = scored.ranked()
    listed = ranked[:limit]
    texts = snapshot.documents(table.rows[listed].tolist())
    scores = scored.scores
    return LabelIssues(
        layers=tuple(space.name for space in spaces),
        layer=spaces[shown].name,
        k=min(k, len(table.rows)),
        n=len(table.rows),
        label_field=label_field,
        n_found=len(ranked),
        found=tuple(
            LabelIssue(
                id=table.ids[i],
                text=texts[int(table.rows[i])].text,
                label=scored.label_names[scored.given[i]],
                suggested=scored.label_names[scored.suggested[i]],
                score=round_similarity(scores[i]),
                label_confidence=round_similarity(scored.given_share[i]),
                suggested_confidence=round_similarity(scored.suggested_share[i]),
                n_against=int(scored.n_against[i]),
                neighbors=labelled_neighbors(scored.nearest, i, table),
            )
            for i in listed.tolist()
        ),
    )
