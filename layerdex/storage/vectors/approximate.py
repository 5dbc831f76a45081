"""Approximate indexes: short codes of one layer's vectors, in lists around centroids.

FAISS's inverted lists with product quantizing of four bits for two components, which it compares
many at a time (https://github.com/facebookresearch/faiss/wiki/Fast-accumulation-of-PQ-and-AQ-codes).
A scan returns candidates, whose stored vectors decide. Codes are of the vectors themselves, not of
what is left after subtracting a centroid: one table of products then serves all lists of a query.

What is stored are FAISS's arrays, not FAISS's file: its reader parses counts and types that a
forged file chooses, while arrays are compared with the shapes that they must have.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerdex.errors import StorageError
from layerdex.records import Vectors
from layerdex.storage.vectors.faiss_library import load_faiss, one_omp_thread

Numbers = NDArray[np.int64]
"""What entries are called: whole numbers from 0, below a span."""

MOST_LISTS = 1 << 20
_LISTS_PER_ROOT = 4
_BITS = 4
_BLOCK = 32
"""Codes that FAISS compares at once; each list is padded to a multiple."""

_SEED = 1_234
_N_ITERATIONS = 10
_TRAINED_PER_LIST = 40
_N_SINGLE_THREADED = 16
_MOST_SPARSE, _LEAST_SPAN = 256, 1 << 24


def count_lists(n: int) -> int:
    """Return how many lists n vectors are put into: about four times the root of n."""
    return min(_LISTS_PER_ROOT * isqrt(n), n)


def n_trained(n_lists: int) -> int:
    """Return how many vectors centroids are trained on."""
    return _TRAINED_PER_LIST * n_lists


def is_dense(n: int, span: int) -> bool:
    """Return whether n numbers below a span are close enough for tables of all numbers."""
    return n <= span <= max(_MOST_SPARSE * n, _LEAST_SPAN)


def estimate_bytes(n: int, n_lists: int, width: int) -> int:
    """Return about how many bytes the arrays of n vectors take, where half a block is padding."""
    of_entries = n * np.uint32().nbytes + (n + n_lists * _BLOCK // 2) * _code_bytes(width)
    of_lists = n_lists * (width * np.float16().nbytes + np.int64().nbytes)
    return of_entries + of_lists + (width << _BITS) * np.float32().nbytes


@dataclass(frozen=True, slots=True)
class Selection:
    """Which entries of an index are wanted: as bits by number, and as bits of lists with some.

    ``lists`` is None if all ``n_lists`` have one. ``n`` counts the entries.
    """

    numbers: NDArray[np.uint8]
    lists: NDArray[np.uint8] | None
    n: int
    n_lists: int

    @property
    def size_bytes(self) -> int:
        """The size of both."""
        return self.numbers.nbytes + (0 if self.lists is None else self.lists.nbytes)


class ApproximateIndex:
    """The codes of n vectors, numbered below ``span``, in lists."""

    def __init__(self, index: Any, list_of: NDArray[np.int32]) -> None:
        """Take a trained `IndexIVFPQFastScan`, and the list of each number (span,), -1 for none."""
        self._index = index
        self._lists = load_faiss().downcast_InvertedLists(index.invlists)
        self._list_of = list_of
        self.n_lists = int(index.nlist)

    @classmethod
    def train(cls, sample: Vectors, *, n_lists: int, span: int) -> ApproximateIndex:
        """Return an empty index whose lists and codes fit a sample, (n, width) unit vectors.

        The seed is fixed. Equal samples give equal bytes where FAISS and BLAS add in the same
        order: on the same processor, with as many threads.
        """
        faiss = load_faiss()
        width = sample.shape[1]
        means = faiss.Kmeans(
            width,
            n_lists,
            niter=_N_ITERATIONS,
            seed=_SEED,
            min_points_per_centroid=1,  # fewer than 39 would be a line on stderr
            max_points_per_centroid=_TRAINED_PER_LIST,
        )
        means.train(sample)
        # Rounded before anything is compared with them: the file has half of their size.
        index = _new_index(means.centroids.astype(np.float16), width)
        index.pq.cp.seed = _SEED
        index.pq.cp.min_points_per_centroid = 1
        index.train(sample)
        return cls(index, _no_lists(span))

    def add(self, vectors: Vectors, numbers: Numbers) -> None:
        """Add unit vectors, (m, width) float32, with new numbers (m,)."""
        index = self._index
        index.add_with_ids(np.ascontiguousarray(vectors), np.ascontiguousarray(numbers))

    def finish(self) -> ApproximateIndex:
        """Return the index after all were added, ready to be asked."""
        for at in range(self.n_lists):
            self._list_of[self._numbers_in(at)] = at
        return self

    @property
    def n(self) -> int:
        """The number of entries."""
        return int(self._index.ntotal)

    @property
    def size_bytes(self) -> int:
        """About how much memory it takes."""
        code_size = int(self._lists.block_size) // _BLOCK + np.int64().nbytes
        centroids = self.n_lists * (int(self._index.d) * np.float32().nbytes + _BLOCK * code_size)
        return self.n * code_size + centroids + self._list_of.nbytes

    def select(self, numbers: Numbers) -> Selection:
        """Return a selection of entries; raises ValueError if a number has no entry."""
        lists = self._list_of[numbers]
        if (lists < 0).any():
            raise ValueError("a number without an entry")
        has_some = np.zeros(self.n_lists, np.bool_)
        has_some[lists] = True
        wanted = np.zeros(int(numbers.max(initial=-1)) + 1, np.bool_)
        wanted[numbers] = True
        return Selection(
            np.packbits(wanted, bitorder="little"),
            None if has_some.all() else np.packbits(has_some, bitorder="little"),
            len(numbers),
            int(np.count_nonzero(has_some)),
        )

    def numbers_around(self, at: int, n: int) -> Numbers:
        """Return the numbers in lists around a list, ascending: the nearest that have n or more."""
        centroid = self._index.quantizer.reconstruct(at)[None]
        nearest = self._index.quantizer.search(centroid, self.n_lists)[1][0].tolist()
        parts = []
        for near in nearest:
            if n <= 0:
                break
            parts.append(self._numbers_in(near))
            n -= len(parts[-1])
        return np.sort(np.concatenate(parts))

    def scan(
        self, queries: Vectors, n: int, *, n_probes: int, selection: Selection | None
    ) -> Numbers:
        """Return about the n nearest entries of unit vectors, (n_queries, width), as numbers.

        They are (n_queries, n), those that seem nearest first, with -1 in place of what is missing.
        For each query the lists of the ``n_probes`` nearest centroids are compared; with a
        selection those of the nearest that have a wanted entry, and no others are returned.
        """
        faiss = load_faiss()
        options: dict[str, Any] = {"nprobe": min(n_probes, self.n_lists)}
        if selection is not None:
            options["sel"] = faiss.IDSelectorBitmap(selection.numbers)
            if selection.lists is not None:
                of_lists = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(selection.lists))
                options["quantizer_params"] = of_lists
        parameters = faiss.SearchParametersIVF(**options)
        # OpenMP shares out queries: for one, other threads would only wait.
        is_single = len(queries) <= _N_SINGLE_THREADED
        with one_omp_thread() if is_single else nullcontext():
            found: Numbers = self._index.search(queries, n, params=parameters)[1]
        return found

    def to_tensors(self) -> dict[str, NDArray[Any]]:
        """Return the arrays from which `from_tensors` makes the same index."""
        faiss = load_faiss()
        index, lists = self._index, self._lists
        centroids = index.quantizer.reconstruct_n(0, self.n_lists)
        sizes = np.array([lists.list_size(at) for at in range(self.n_lists)], np.int64)
        codes = [
            faiss.rev_swig_ptr(lists.get_codes(at), _n_blocks(size) * lists.block_size)
            for at, size in enumerate(sizes.tolist())
            if size
        ]
        numbers = [self._numbers_in(at) for at in range(self.n_lists)]
        return {
            "centroids": centroids.astype(np.float16),
            "codebooks": faiss.vector_to_array(index.pq.centroids),
            "sizes": sizes,
            "numbers": np.concatenate(numbers).astype(np.uint32),
            "codes": np.concatenate(codes),
        }

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, NDArray[Any]], *, width: int, n: int, n_lists: int, span: int
    ) -> ApproximateIndex:
        """Return the index of what `to_tensors` returned.

        Raises ValueError for arrays of other names, shapes or types, values that are not finite,
        sizes that do not add up to n, or numbers that repeat or are not below ``span``.
        """
        if not (0 < n_lists <= MOST_LISTS and is_dense(n, span)):
            raise ValueError("counts out of range")
        if tensors.keys() != {"centroids", "codebooks", "sizes", "numbers", "codes"}:
            raise ValueError("other arrays")
        sizes = _checked(tensors["sizes"], (n_lists,), np.int64)
        # A sum may overflow, so each is compared first.
        if not ((sizes >= 0) & (sizes <= n)).all() or sizes.sum() != n:
            raise ValueError("other sizes of lists")
        centroids = _finite(tensors["centroids"], (n_lists, width), np.float16)
        codebooks = _finite(tensors["codebooks"], (width << _BITS,), np.float32)
        numbers = _checked(tensors["numbers"], (n,), np.uint32)
        if numbers.max() >= span:
            raise ValueError("numbers beyond the span")
        list_of = _no_lists(span)
        list_of[numbers] = np.repeat(np.arange(n_lists, dtype=np.int32), sizes)
        if np.count_nonzero(list_of >= 0) != n:
            raise ValueError("numbers that repeat")
        n_bytes = [_n_blocks(size) * _BLOCK * _code_bytes(width) for size in sizes.tolist()]
        codes = _checked(tensors["codes"], (sum(n_bytes),), np.uint8)
        faiss = load_faiss()
        index = _new_index(centroids, width)
        faiss.copy_array_to_vector(codebooks, index.pq.centroids)
        lists = faiss.downcast_InvertedLists(index.invlists)
        first = first_byte = 0
        for at, (size, length) in enumerate(zip(sizes.tolist(), n_bytes, strict=True)):
            if size:
                ids = numbers[first : first + size].astype(np.int64)
                blocks = codes[first_byte : first_byte + length]
                lists.add_entries(at, size, faiss.swig_ptr(ids), faiss.swig_ptr(blocks))
            first, first_byte = first + size, first_byte + length
        index.ntotal = n
        index.is_trained = True
        return cls(index, list_of)

    def _numbers_in(self, at: int) -> Numbers:
        if not (size := int(self._lists.list_size(at))):
            return np.empty(0, np.int64)
        numbers: Numbers = load_faiss().rev_swig_ptr(self._lists.get_ids(at), size)
        return numbers


def _new_index(centroids: NDArray[np.float16], width: int) -> Any:
    """Return an empty index with these centroids, in which nothing else is trained."""
    faiss = load_faiss()
    quantizer = faiss.IndexFlatL2(width)
    quantizer.add(centroids.astype(np.float32))
    index = faiss.IndexIVFPQFastScan(
        quantizer,
        width,
        len(centroids),
        _n_codes(width),
        _BITS,
        # Of unit vectors it orders as the inner product does, and its recall is higher: 5 to 30 %
        # (https://github.com/facebookresearch/faiss/issues/2971).
        faiss.METRIC_L2,
        _BLOCK,
    )
    index.by_residual = False
    if int(faiss.downcast_InvertedLists(index.invlists).block_size) != _BLOCK * _code_bytes(width):
        raise StorageError("this FAISS packs codes in another way: install faiss 1.12 to 1.15")
    return index


def _n_codes(width: int) -> int:
    return width // 2 if width % 2 == 0 else width


def _code_bytes(width: int) -> int:
    """Return what FAISS stores of a vector, whose codes fill whole bytes."""
    return -(-_n_codes(width) // 2)


def _no_lists(span: int) -> NDArray[np.int32]:
    return np.full(span, -1, np.int32)


def _n_blocks(size: int) -> int:
    return -(-size // _BLOCK)


def _finite(array: NDArray[Any], shape: tuple[int, ...], dtype: type[np.floating]) -> NDArray[Any]:
    checked = _checked(array, shape, dtype)
    if not np.isfinite(checked).all():
        raise ValueError("values that are not finite")
    return checked


def _checked(array: NDArray[Any], shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    if array.shape != shape or array.dtype != dtype:
        raise ValueError("an array of another shape or type")
    return array
