"""What a similarity means at a layer: the distribution of similarities of random pairs.

A cosine has no scale of its own. In a layer whose vectors lie in a narrow cone, most pairs are at
0.9 (Ethayarajh, EMNLP 2019), so a threshold is better given as a percentile of random pairs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerdex.arguments import check_between, format_value
from layerdex.errors import OptionError
from layerdex.records import Rows
from layerdex.search.knn.sampling import sample_texts
from layerdex.search.knn.vector_space import VectorSpace
from layerdex.search.vectors.similarity import cosine
from layerdex.storage.snapshot import Snapshot
from layerdex.storage.vectors.layer_vectors import VectorSource

N_PAIRED = 2_000
"""Sampled documents; all two million pairs of them are compared (0.1 s per layer)."""

PERCENTS = (50.0, 90.0, 99.0, 99.9, 99.99)

_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?)")


@dataclass(frozen=True, slots=True)
class Percentile:
    """A similarity that ``percent`` of random pairs of different texts are below."""

    percent: float

    def __str__(self) -> str:
        return f"p{self.percent:g}"


MinSimilarity = float | Percentile
"""A similarity, or the percentile of random pairs that stands for one at each layer."""


def parse_min_similarity(value: float | str, *, what: str = "a similarity") -> MinSimilarity:
    """Return a similarity from -1 to 1, or the percentile that a word such as ``p99`` names.

    Raises `OptionError` for any other word or number.
    """
    if not isinstance(value, str):
        return check_between(what, value, -1, 1)
    if match := _PERCENTILE.fullmatch(value):
        return Percentile(float(match[1]))
    raise OptionError(
        f"{what} is a number from -1 to 1, or a percentile of random pairs such as p99 or p99.9 "
        f"(below p100), not {format_value(value)}"
    )


def resolve_min_similarity(
    snapshot: Snapshot, space: VectorSpace, min_similarity: MinSimilarity
) -> float:
    """Return the similarity that ``min_similarity`` stands for in a vector space.

    A percentile is of random pairs among all documents. Raises `OptionError` for a fusion of
    rankings, which has no similarities, and for a percentile where there are fewer than two texts.
    """
    if space.is_ranking:
        raise OptionError(
            "rrf fuses rankings, which have no similarity: --min-similarity does not apply"
        )
    if not isinstance(min_similarity, Percentile):
        return min_similarity
    sample = sample_texts(snapshot, n=N_PAIRED)
    similarities = compare_pairs(space.vectors(snapshot.layer), sample.rows)
    return float(np.percentile(similarities, min_similarity.percent))


def compare_pairs(source: VectorSource, rows: Rows) -> NDArray[np.float32]:
    """Return the similarity of each pair of n documents once, (n * (n - 1) / 2,) float32."""
    vectors = source.gather(rows)
    pairs: NDArray[np.float32] = cosine(vectors, vectors)[np.triu_indices(len(rows), 1)]
    return pairs


def percentiles_of(similarities: NDArray[np.float32]) -> Mapping[str, float]:
    """Return the similarity at each of `PERCENTS`, by names such as ``p99.9``."""
    found = np.percentile(similarities, PERCENTS)
    return {str(Percentile(one)): float(value) for one, value in zip(PERCENTS, found, strict=True)}
