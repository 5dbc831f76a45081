"""The documents of a comparison: their codes, and their vectors, held if they are few."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from layerdex.records import Rows, Vectors
from layerdex.search.knn.tiles.codes import N_SAMPLED, Codes, Encoding
from layerdex.search.knn.tiles.tile import N_COLUMNS, Positions, Side, run_in_threads
from layerdex.storage.vectors.layer_vectors import VectorSource

_MOST_HELD_BYTES = 1 << 30
_BLOCK = 16_384


class ManyVectors:
    """The unit vectors of n documents, ``rows`` (n,) in any order, by their positions in it.

    All are held in float32 where they take less than a gigabyte, else read from the source when
    they are called for.
    """

    def __init__(self, source: VectorSource, rows: Rows) -> None:
        self._source = source
        self._rows = rows
        self._held: Vectors | None = None
        self.width = source.width
        for _ in source.slices(np.sort(rows)):
            pass  # opens every file, which threads could not
        if len(rows) * source.width * np.float32().nbytes <= _MOST_HELD_BYTES:
            held = np.empty((len(rows), source.width), np.float32)
            for block in _blocks(len(rows), _BLOCK):
                held[block] = source.gather(rows[block])
            self._held = held

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, at: Positions | slice) -> Vectors:
        return self._source.gather(self._rows[at]) if self._held is None else self._held[at]

    def sample(self) -> Vectors:
        """Return at most `N_SAMPLED` of the vectors, always the same."""
        if len(self) <= N_SAMPLED:
            return self[:]
        drawn = np.random.default_rng(0).choice(len(self), N_SAMPLED, replace=False)
        return self[np.sort(drawn)]

    def encode(self, encoding: Encoding, n_threads: int | None = None) -> Codes:
        """Return the codes of all."""
        n, m = len(self), encoding.n_components(self.width)
        codes = Codes(np.empty((n, m), encoding.arithmetic.dtype), np.empty(n), np.empty(n))

        def fill(block: slice) -> None:
            codes[block] = encoding.encode(self[block])

        run_in_threads((partial(fill, block) for block in _blocks(n, _BLOCK)), n_threads)
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

    def panels(self, stop: int | None = None) -> Iterator[tuple[int, Side]]:
        """Yield the vectors before ``stop`` in the sides of tiles, each with its first position."""
        for block in _blocks(len(self) if stop is None else stop, N_COLUMNS):
            yield block.start, self.side(block)


def _blocks(n: int, size: int) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))
