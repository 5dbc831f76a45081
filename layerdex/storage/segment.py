"""One layer of one segment: a FAISS scalar-quantizer index, mapped and never rewritten."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from layerdex.errors import DamagedIndexError, StorageError
from layerdex.records import Vectors
from layerdex.storage.faiss_library import load_faiss
from layerdex.storage.files import checksum

Positions = NDArray[np.int64]

# A float16 component is off by at most 2^-11 of itself, so a unit vector's decoded length is
# within 4.9e-4 of 1; this bound is what makes the scan of raw codes exact.
NORM_TOLERANCE = 5e-4


def layer_filename(layer: int) -> str:
    """Return the name of a layer's file within its segment."""
    return f"layer-{layer:02d}.faiss"


def serialize_layer(vectors: NDArray[np.float16]) -> NDArray[np.uint8]:
    """Return the bytes of a FAISS index over ``vectors``, (n, width) float16, in order."""
    faiss = load_faiss()
    index = faiss.IndexScalarQuantizer(
        vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    # The codes are the float16 bytes themselves; FAISS's own encoder need not round the same.
    index.add_sa_codes(np.ascontiguousarray(vectors).view(np.uint8))
    serialized: NDArray[np.uint8] = faiss.serialize_index(index)
    return serialized


class LayerFile:
    """A mapped layer file: n unit vectors of ``width`` components, in positions 0..n-1."""

    def __init__(self, path: Path, *, n: int, width: int, size_bytes: int, crc32: int) -> None:
        """Check ``path`` against its size and CRC-32, and map it.

        Raises FileNotFoundError, or `DamagedIndexError` if it is not as said.
        """
        faiss = load_faiss()
        with path.open("rb") as file:  # FAISS's own error would not say why it cannot be read
            found = os.fstat(file.fileno())
            if found.st_size != size_bytes:
                raise _damaged(path, f"{found.st_size} bytes instead of {size_bytes}")
            # Once a process, before FAISS parses it; damage done later under the map is not seen.
            if checksum(file) != crc32:
                raise _damaged(path, "wrong checksum")
        try:
            # IO_FLAG_MMAP_IFC maps flat codes; plain IO_FLAG_MMAP would read them whole.
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            path.stat()  # raises FileNotFoundError where a compaction has just removed it
            if "mmap" in str(error):
                raise StorageError(f"cannot map {path}: too many files are mapped") from error
            raise _damaged(path, "not a FAISS index") from error
        fits = (
            isinstance(index, faiss.IndexScalarQuantizer)
            and (index.ntotal, index.d) == (n, width)
            and index.sq.qtype == faiss.ScalarQuantizer.QT_fp16
            and index.metric_type == faiss.METRIC_INNER_PRODUCT
            and index.codes.size() == n * width * 2
        )
        if not fits:
            raise _damaged(path, "not the index that the catalog describes")
        self._index = index
        self._inode = found.st_ino
        self.n = n
        codes = faiss.rev_swig_ptr(index.codes.data(), n * width * 2)
        self._codes: NDArray[np.uint8] = codes.reshape(n, width * 2)

    def is_current(self, path: Path) -> bool:
        """Whether ``path`` still is the mapped file, and not one that a repair put in its place."""
        try:
            return path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def codes(self, positions: Positions | slice) -> NDArray[np.float16]:
        """Return stored vectors as they are, (m, width) float16."""
        return np.ascontiguousarray(self._codes[positions]).view(np.float16)

    def decode(self, positions: Positions | slice) -> Vectors:
        """Return the unit vectors at ``positions``, (m, width) float32."""
        return unit_length(self.codes(positions).astype(np.float32))

    def scan(
        self, query: Vectors, k: int, *, allowed: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.float32], Positions]:
        """Return the k positions with the largest raw inner product with one query, (1, width).

        ``allowed`` is a mask over positions. Raw means that the decoded vectors' lengths, which
        differ from 1 by up to `NORM_TOLERANCE`, are not divided out. Fewer than k come back when
        fewer are allowed.
        """
        faiss = load_faiss()
        parameters = None
        if allowed is not None:
            bitmap = np.packbits(allowed, bitorder="little")
            parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bitmap))
        products, positions = self._index.search(query, min(k, self.n), params=parameters)
        found = positions[0] >= 0
        return products[0][found], positions[0][found]


def unit_length(vectors: Vectors) -> Vectors:
    """Divide vectors, (n, width) float32, by their lengths in place, and return them."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    vectors /= lengths[:, None]
    return vectors


def _damaged(path: Path, reason: str) -> DamagedIndexError:
    return DamagedIndexError(f"{path} is damaged ({reason}): run 'layerdex repair' on this index")
