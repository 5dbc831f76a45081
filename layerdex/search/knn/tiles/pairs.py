"""Which pairs of documents are within a similarity, each pair once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from layerdex.records import OnProgress, Rows
from layerdex.search.knn.tiles.codes import PLAIN, choose_encoding
from layerdex.search.knn.tiles.tile import N_ROWS, Pairs, find_pairs, run_in_threads
from layerdex.search.knn.tiles.vectors import CodedVectors, ManyVectors
from layerdex.search.vectors.similarity import SIMILARITY_STEP
from layerdex.storage.vectors.layer_vectors import VectorSource

N_CODED = 16_384
"""Fewer vectors are compared before shorter codes of them are made."""

_N_SAMPLED_ROWS = 256


def encode_for_pairs(
    source: VectorSource,
    rows: Rows,
    min_similarity: float,
    *,
    arithmetic: str | None = None,
    n_threads: int | None = None,
) -> CodedVectors:
    """Return n documents, ``rows`` in any order, with codes for pairs above a similarity."""
    vectors = ManyVectors(source, rows)
    if len(vectors) < N_CODED and arithmetic is None:
        return CodedVectors(PLAIN, vectors, vectors.encode(PLAIN, n_threads))
    sample = vectors.sample()
    encoding = choose_encoding(sample[:_N_SAMPLED_ROWS], sample, min_similarity, arithmetic)
    return CodedVectors(encoding, vectors, vectors.encode(encoding, n_threads))


def each_pair(
    coded: CodedVectors,
    min_step: Callable[[], int],
    take: Callable[[Pairs], None],
    *,
    n_threads: int | None = None,
    on_progress: OnProgress | None = None,
) -> None:
    """Hand over all pairs, the later position as the row, whose similarity reaches a step.

    ``min_step``, in steps of `SIMILARITY_STEP`, may rise meanwhile. Both functions are called by
    several threads.
    """
    n = len(coded)
    # The longest first, so that no thread is left with one when the others are done.
    blocks = [slice(start, min(start + N_ROWS, n)) for start in reversed(range(0, n, N_ROWS))]

    def compare(block: slice) -> None:
        side = coded.side(block)
        for first, panel in coded.panels(block.stop):
            floors = np.full(len(side.codes), (min_step() - 0.5) * SIMILARITY_STEP)
            found = find_pairs(coded.encoding, side, panel, floors)
            pairs = Pairs(found.rows + block.start, found.columns + first, found.similarities)
            is_later = pairs.rows > pairs.columns
            if is_later.any():
                take(Pairs(*(column[is_later] for column in pairs)))

    def tell(n_done: int) -> None:
        if on_progress is not None:
            on_progress(n * n - blocks[n_done - 1].start ** 2, n * n)

    run_in_threads((partial(compare, block) for block in blocks), n_threads, tell)
