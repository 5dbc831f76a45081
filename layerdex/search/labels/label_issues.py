"""`LabelIssues`: documents whose label looks wrong, judged by their neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from layerdex.records import OnProgress
from layerdex.search.knn.vector_space import VectorSpace
from layerdex.search.labels.classify import labelled_neighbors
from layerdex.search.labels.label_scores import score_labels
from layerdex.search.results import LabelledNeighbor
from layerdex.search.targets import SearchTarget
from layerdex.search.vectors.similarity import round_similarity
from layerdex.storage.snapshot import DocumentTable, Snapshot
from layerdex.tabular import NUMBER, TEXT, WHOLE, Brief, Table, Tabular
from layerdex.wording import counted


@dataclass(frozen=True, slots=True, repr=False)
class LabelIssue(Brief):
    """A document whose neighbours contradict its label at most targets.

    ``score`` is the log-odds of ``suggested`` against ``label`` among the neighbours (see
    `LabelScores.scores`): the higher, the more suspect. The confidences are the neighbours' shares
    with either label. ``n_against`` counts the targets where some other label outweighs ``label``.
    ``neighbors`` are the nearest at `LabelIssues.neighbors_target`.
    """

    id: str
    text: str
    label: str
    suggested: str
    score: float
    label_confidence: float
    suggested_confidence: float
    n_against: int
    neighbors: tuple[LabelledNeighbor, ...]


@dataclass(frozen=True, slots=True, repr=False)
class LabelIssues(Tabular):
    """The suspects among ``n`` labelled documents, the most suspect first.

    There are ``n_issues``; ``issues`` may be limited to the first of them. The ``k`` nearest
    documents at each of ``targets`` judge a label; those at ``neighbors_target`` are listed.
    """

    targets: tuple[SearchTarget, ...]
    neighbors_target: SearchTarget
    k: int
    n: int
    label_field: str
    n_issues: int
    issues: tuple[LabelIssue, ...]

    def _summary(self) -> str:
        shown = "" if len(self.issues) == self.n_issues else f", {len(self.issues):,} listed"
        documents = counted(self.n, "labelled document")
        return f"{self.n_issues:,} suspects among {documents}{shown} ({self.label_field})"

    def _table(self) -> Table:
        dtypes = {
            "id": TEXT,
            "label": TEXT,
            "suggested": TEXT,
            "score": NUMBER,
            "label_confidence": NUMBER,
            "suggested_confidence": NUMBER,
            "n_against": WHOLE,
            "text": TEXT,
        }
        rows = ({name: getattr(issue, name) for name in dtypes} for issue in self.issues)
        return Table(dtypes, len(self.issues), rows)


def find_label_issues(
    snapshot: Snapshot,
    table: DocumentTable,
    *,
    spaces: Sequence[VectorSpace],
    listed: int,
    k: int,
    limit: int | None,
    label_field: str,
    on_progress: OnProgress | None = None,
) -> LabelIssues:
    """Return the suspects with ids and texts, at most ``limit``; see `score_labels`."""
    scored = score_labels(
        snapshot.layer, table, spaces=spaces, k=k, listed=listed, on_progress=on_progress
    )
    ranked = scored.ranked()
    limited = ranked[:limit]
    documents = snapshot.documents(table.rows[limited].tolist())
    scores = scored.scores
    return LabelIssues(
        targets=tuple(space.target for space in spaces),
        neighbors_target=spaces[listed].target,
        k=min(k, len(table.rows)),
        n=len(table.rows),
        label_field=label_field,
        n_issues=len(ranked),
        issues=tuple(
            LabelIssue(
                id=table.ids[i],
                text=documents[int(table.rows[i])].text,
                label=scored.label_names[scored.codes[i]],
                suggested=scored.label_names[scored.suggested[i]],
                score=round_similarity(scores[i]),
                label_confidence=round_similarity(scored.own_share[i]),
                suggested_confidence=round_similarity(scored.suggested_share[i]),
                n_against=int(scored.n_against[i]),
                neighbors=labelled_neighbors(scored.nearest, i, table),
            )
            for i in limited.tolist()
        ),
    )
