"""Suspicious labels as rows for people to decide about."""

from __future__ import annotations

from collections.abc import Iterator

from layerdex.index.facade import Index
from layerdex.index.label_changes import LabelConflict
from layerdex.indexer.readers.reviews import DECISION, Review
from layerdex.records import Document
from layerdex.search.labels.label_issues import LabelIssue, LabelIssues
from layerdex.storage.snapshot import Snapshot

REVIEW_COLUMNS = (
    "id",
    "text",
    "label",
    "suggested",
    DECISION,
    "score",
    "label_confidence",
    "suggested_confidence",
    "n_against",
    "evidence",
)
_N_NEIGHBORS = 3
_N_CHARACTERS = 100


def review_rows(index: Index, issues: LabelIssues) -> Iterator[dict[str, object]]:
    """Yield a row for each issue, with the columns `REVIEW_COLUMNS` and no decision.

    The evidence is one line for each of the three nearest neighbours: its label and its text.
    """
    ids = dict.fromkeys(
        neighbor.id for issue in issues.issues for neighbor in issue.neighbors[:_N_NEIGHBORS]
    )
    texts = _texts(index, [*ids])
    for issue in issues.issues:
        yield {
            **{name: getattr(issue, name, None) for name in REVIEW_COLUMNS},
            "evidence": _evidence(issue, texts),
        }


def find_other_texts(index: Index, review: Review) -> tuple[LabelConflict, ...]:
    """Return the documents with another text than a review's, blanks aside, as conflicts.

    A spreadsheet makes ``7`` of the id ``007``, which may be that of another document.
    """
    return tuple(
        LabelConflict(found.id, review.expected.get(found.id, found.label), found.label)
        for found in _documents(index, [*review.texts])
        if review.texts[found.id].split() != found.text.split()
    )


def _evidence(issue: LabelIssue, texts: dict[str, str]) -> str:
    lines = []
    for neighbor in issue.neighbors[:_N_NEIGHBORS]:
        text = " ".join(texts.get(neighbor.id, "").split())
        short = text if len(text) <= _N_CHARACTERS else text[: _N_CHARACTERS - 1] + "…"
        lines.append(f"{neighbor.label} ({neighbor.similarity:.3f}): {short}")
    return "\n".join(lines)


def _texts(index: Index, ids: list[str]) -> dict[str, str]:
    """Return the texts of the documents that are still there."""
    return {each.id: each.text for each in _documents(index, ids)}


def _documents(index: Index, ids: list[str]) -> list[Document]:
    def question(snapshot: Snapshot) -> list[Document]:
        rows = [version.row for version in snapshot.versions(ids).values()]
        return [*snapshot.documents(rows).values()]

    return index._open.store.query(question)
