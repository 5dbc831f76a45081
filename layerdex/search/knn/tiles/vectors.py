"""The documents of a comparison: their codes, and their vectors, held if they are few."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from layerdex.records import OnProgress, Rows, Vectors
from layerdex.search.knn.tiles.codes import N_SAMPLED, PLAIN, Codes, Encoding, choose_encoding
from layerdex.search.knn.tiles.tile import N_COLUMNS, Positions, Side, run_in_threads
from layerdex.storage.vectors.layer_vectors import VectorSource

N_CODED = 16_384
"""Fewer vectors are compared before shorter codes of them are made."""

N_CODED_QUERIES = 8_000
"""For fewer queries, plain vectors are compared before their codes are made, which takes some 16 µs
each: in float32, as long as what 8,000 products are shorter by."""

_N_SAMPLED_ROWS = 512
_MOST_HELD_BYTES = 1 << 30
_BLOCK = 16_384


def has_codes(n: int, n_queries: int | None = None) -> bool:
    """Say whether codes are made of n vectors, for queries or to compare each two of them."""
    return n >= N_CODED and (n_queries is None or n_queries >= N_CODED_QUERIES)


class ManyVectors:
    """The unit vectors of n documents, ``rows`` (n,) in any order, by their positions in it.

    All are held in float32 where they take less than a gigabyte, else read from the source when
    they are called for.
    """

    def __init__(
        self, source: VectorSource, rows: Rows, on_progress: OnProgress | None = None
    ) -> None:
        self._source = source
        self._rows = rows
        self._held: Vectors | None = None
        self.width = source.width
        for _ in source.slices(np.sort(rows)):
            pass  # opens every file, which threads could not
        if len(rows) * source.width * np.float32().nbytes <= _MOST_HELD_BYTES:
            held = np.empty((len(rows), source.width), np.float32)

            def fill(block: slice) -> None:
                held[block] = source.gather(rows[block])

            blocks = blocks_of(len(rows))
            run_in_threads((partial(fill, block) for block in blocks), on_progress=on_progress)
            self._held = held

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, at: Positions | slice) -> Vectors:
        return self._source.gather(self._rows[at]) if self._held is None else self._held[at]

    def sample(self) -> Positions:
        """Return the positions of at most `N_SAMPLED`, always the same."""
        if len(self) <= N_SAMPLED:
            return np.arange(len(self))
        drawn = np.random.default_rng(0).choice(len(self), N_SAMPLED, replace=False)
        return np.sort(drawn)

    def encode(
        self,
        encoding: Encoding,
        n_threads: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> Codes:
        """Return the codes of all."""
        n, m = len(self), encoding.n_components(self.width)
        codes = Codes(np.empty((n, m), encoding.arithmetic.dtype), np.empty(n), np.empty(n))

        def fill(block: slice) -> None:
            codes[block] = encoding.encode(self[block])

        run_in_threads((partial(fill, block) for block in blocks_of(n)), n_threads, on_progress)
        return codes


@dataclass(frozen=True, slots=True)
class CodedVectors:
    """Vectors with their codes."""

    encoding: Encoding
    vectors: ManyVectors
    codes: Codes

    def __len__(self) -> int:
        return len(self.vectors)

    def side(self, at: slice) -> Side:
        """Return those at ``at.start`` to ``at.stop`` as one side of a tile."""

        def read(chosen: Positions | slice) -> Vectors:
            shifted = at if isinstance(chosen, slice) else chosen + at.start
            return self.vectors[shifted]

        return Side(self.codes[at], read)

    def chosen(self, positions: Positions) -> Side:
        """Return those at some positions as one side of a tile."""
        return Side(self.codes[positions], lambda at: self.vectors[positions[at]])

    def panels(self, stop: int | None = None) -> Iterator[tuple[int, Side]]:
        """Yield the vectors before ``stop`` in the sides of tiles, each with its first position."""
        for block in blocks_of(len(self) if stop is None else stop, N_COLUMNS):
            yield block.start, self.side(block)


def encode_all(
    vectors: ManyVectors,
    floors: NDArray[np.float64] | float,
    *,
    arithmetic: str | None = None,
    n_threads: int | None = None,
    on_progress: OnProgress | None = None,
) -> CodedVectors:
    """Return vectors with codes by which to compare them with each other.

    ``floors`` is the similarity that matters, of each (n,) or of all.
    """
    encoding = PLAIN
    if has_codes(len(vectors)) or arithmetic is not None:
        at = vectors.sample()
        sample, rows = vectors[at], slice(_N_SAMPLED_ROWS)
        floors = np.broadcast_to(floors, len(vectors))[at[rows]]
        encoding = choose_encoding(sample[rows], sample, floors, arithmetic)
    return CodedVectors(encoding, vectors, vectors.encode(encoding, n_threads, on_progress))


def blocks_of(n: int, size: int = _BLOCK) -> Iterator[slice]:
    """Yield n positions in slices of a size, the last one shorter."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))
