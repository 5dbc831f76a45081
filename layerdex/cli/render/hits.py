"""The hits of a query: with their texts at one layer, or side by side at several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layerdex.cli.render.cells import Detail, Name, Passage, make_name, stack
from layerdex.cli.render.documents import describe_document, describe_fields
from layerdex.cli.render.tables import make_table, n_side_by_side, print_table
from layerdex.cli.render.text import one_line

if TYPE_CHECKING:
    from rich.console import Group

    from layerdex.records import LayerName
    from layerdex.search.results import Hit, SearchResult

_MEASURED_K = 10
_LAYER_WIDTH = 26  # three layers on 80 columns; in fewer columns, ids are broken too often


@dataclass(frozen=True, slots=True)
class Answer:
    """The results of one query, one for each layer; ``query_id`` is None where it has no id."""

    query_id: str | None
    results: Sequence[SearchResult]

    @classmethod
    def group(
        cls, query_ids: Sequence[str | None], results: Sequence[SearchResult]
    ) -> list[Answer]:
        """Return an answer for each query; ``results`` are in the order of the queries."""
        n_layers = len(results) // len(query_ids)
        return [
            cls(query_id, results[i * n_layers : (i + 1) * n_layers])
            for i, query_id in enumerate(query_ids)
        ]


def describe_nothing(
    subject: str,
    where: object,
    min_similarity: float | str | None,
    results: Sequence[SearchResult],
) -> str:
    """Return why there is no hit; ``subject`` is such as ``no document``."""
    if min_similarity is None:
        return f"{subject} meets --where" if where else f"the index has {subject}"
    if not all(result.exact for result in results):
        subject += " that was compared"
    meeting = " that meets --where" if where else ""
    return f"{subject}{meeting} reaches --min-similarity {min_similarity}"


def describe_recall(answers: Sequence[Answer]) -> str | None:
    """Return which answers are approximate and how good, or None if all are exact."""
    bounds: dict[LayerName, float] = {}
    for answer in answers:
        for result in answer.results:
            if result.recall_bound is not None:
                bound = bounds.setdefault(result.target.name, result.recall_bound)
                bounds[result.target.name] = min(bound, result.recall_bound)
    if not bounds:
        return None
    parts = ", ".join(f"{bound:.4f} at layer {layer}" for layer, bound in bounds.items())
    measured = f"measured as at least {parts}"
    if any(result.target.where for answer in answers for result in answer.results):
        measured = f"measured as {parts} with other filters, and this one can be harder"
    n_hits = max(len(result.hits) for answer in answers for result in answer.results)
    if n_hits > _MEASURED_K:
        measured += f", of the {_MEASURED_K} nearest and not of all {n_hits}"
    return f"Approximate, recall@{_MEASURED_K} {measured}; --exact compares every document"


def print_answer(results: Sequence[SearchResult], detail: Detail = Detail()) -> None:  # noqa: B008 - frozen
    """Print the hits of one query at each layer."""
    query, target = results[0].query, results[0].target
    layers = ", ".join(str(result.target.name) for result in results)
    title = f"{one_line(query, 60)} · layer {layers}{target.transform_note}"
    if len(results) == 1:
        _print_hits(results[0].hits, detail, title=title)
        return
    n = n_side_by_side(_LAYER_WIDTH)
    for start in range(0, len(results), n):
        part = results[start : start + n]
        _print_side_by_side(part, detail, title=None if start else title)


def _print_hits(hits: Sequence[Hit], detail: Detail, *, title: str) -> None:
    closeness = "similarity" if hits[0].score is None else "score"
    table = make_table(">#", f">{closeness}", "document", title=title)
    for hit in hits:
        parts = describe_document(hit.id, hit.label, hit.text, hit.metadata, detail)
        table.add_row(str(hit.rank), _closeness(hit), stack(*parts))
    print_table(table)


def _print_side_by_side(
    results: Sequence[SearchResult], detail: Detail, *, title: str | None
) -> None:
    table = make_table(">#", *(f"layer {result.target.name}" for result in results), title=title)
    for rank in range(max(len(result.hits) for result in results)):
        cells = (
            _cell(result.hits[rank], detail) if rank < len(result.hits) else ""
            for result in results
        )
        table.add_row(str(rank + 1), *cells)
    print_table(table)


def _cell(hit: Hit, detail: Detail) -> Group:
    closeness = _closeness(hit)
    return stack(
        closeness if hit.label is None else Name(hit.label, prefix=f"{closeness} · "),
        make_name(hit.id),
        Passage(hit.text, detail.n_lines),
        *describe_fields(hit.metadata, detail),
    )


def _closeness(hit: Hit) -> str:
    # Scores of neighbouring ranks differ in the fourth decimal.
    return f"{hit.similarity:.3f}" if hit.score is None else f"{hit.score:.5f}"
