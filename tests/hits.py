"""What tests read off hits."""

from __future__ import annotations

from collections.abc import Sequence

from layerdex.search.results import Hit


def similarities_of(hits: Sequence[Hit]) -> list[float]:
    """Return the hits' similarities, which all of them must have."""
    found = [hit.similarity for hit in hits if hit.similarity is not None]
    assert len(found) == len(hits)
    return found
