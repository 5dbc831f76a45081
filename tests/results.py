"""Search results in the shapes that tests compare."""

from __future__ import annotations

from collections.abc import Sequence

from layerdex.records import LayerName
from layerdex.search.results import Hit, SearchResult


def first(results: Sequence[SearchResult]) -> list[Hit]:
    """The hits of the only query at the only layer."""
    [result] = results
    return list(result.hits)


def by_layer(results: Sequence[SearchResult]) -> dict[LayerName, list[list[Hit]]]:
    """The hits of each query, by layer."""
    hits: dict[LayerName, list[list[Hit]]] = {}
    for result in results:
        hits.setdefault(result.layer, []).append(list(result.hits))
    return hits


def hits_by_layer(results: Sequence[SearchResult]) -> dict[LayerName, list[Hit]]:
    """The hits of the only query, by layer."""
    return {result.layer: list(result.hits) for result in results}
