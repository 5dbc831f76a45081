"""The hits of a query: with their texts at one layer, or side by side at several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layerdex.cli.render.tables import make_cell, make_table, n_side_by_side, print_table
from layerdex.cli.render.text import describe_transform, one_line

if TYPE_CHECKING:
    from rich.console import Group

    from layerdex.search.results import Hit, SearchResult

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


def describe_nothing(subject: str, where: object, min_similarity: float | str | None) -> str:
    """Return why there is no hit; ``subject`` is such as ``no document``."""
    if min_similarity is None:
        return f"{subject} meets --where" if where else f"the index has {subject}"
    meeting = " that meets --where" if where else ""
    return f"{subject}{meeting} reaches --min-similarity {min_similarity}"


def print_answer(results: Sequence[SearchResult]) -> None:
    """Print the hits of one query at each layer."""
    query, target = results[0].query, results[0].target
    layers = ", ".join(str(result.target.name) for result in results)
    title = f"{one_line(query, 60)} · layer {layers}{describe_transform(target)}"
    if len(results) == 1:
        _print_hits(results[0].hits, title=title)
        return
    n = n_side_by_side(_LAYER_WIDTH)
    for start in range(0, len(results), n):
        _print_side_by_side(results[start : start + n], title=None if start else title)


def _print_hits(hits: Sequence[Hit], *, title: str) -> None:
    closeness = ">similarity" if hits[0].score is None else ">score"
    table = make_table(">#", closeness, "id and text", "label", title=title)
    for hit in hits:
        cell = make_cell(one_line(hit.id), one_line(hit.text))
        table.add_row(str(hit.rank), _closeness(hit), cell, one_line(hit.label or "", 30))
    print_table(table)


def _print_side_by_side(results: Sequence[SearchResult], *, title: str | None) -> None:
    table = make_table(">#", *(f"layer {result.target.name}" for result in results), title=title)
    for rank in range(max(len(result.hits) for result in results)):
        table.add_row(str(rank + 1), *(_cell(result.hits, rank) for result in results))
    print_table(table)


def _cell(hits: Sequence[Hit], rank: int) -> Group | str:
    if rank >= len(hits):
        return ""
    hit = hits[rank]
    return make_cell(f"{_closeness(hit)}\n{one_line(hit.id)}", one_line(hit.text))


def _closeness(hit: Hit) -> str:
    # Scores of neighbouring ranks differ in the fourth decimal.
    return f"{hit.similarity:.3f}" if hit.score is None else f"{hit.score:.5f}"
