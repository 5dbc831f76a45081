"""One layer of one segment: a FAISS index of flat codes, mapped and never rewritten."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from layerdex.errors import DamagedIndexError, StorageError
from layerdex.records import Vectors
from layerdex.storage.codecs import Codec, Codes, unit_length
from layerdex.storage.faiss_library import load_faiss
from layerdex.storage.files import checksum

Positions = NDArray[np.int64]


def layer_filename(layer: int) -> str:
    """Return the name of a layer's file within its segment."""
    return f"layer-{layer:02d}.faiss"


def serialize_layer(codes: Codes, codec: Codec) -> NDArray[np.uint8]:
    """Return the bytes of a FAISS index over ``codes``, in order."""
    index = codec.new_index(codes.shape[1] // codec.code_bytes)
    # Codes, not vectors: FAISS's own encoder need not round the same.
    index.add_sa_codes(np.ascontiguousarray(codes))
    serialized: NDArray[np.uint8] = load_faiss().serialize_index(index)
    return serialized


class LayerFile:
    """A mapped layer file: n vectors of ``width`` components, in positions 0..n-1."""

    def __init__(
        self, path: Path, *, n: int, width: int, codec: Codec, size_bytes: int, crc32: int
    ) -> None:
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
        code_size = width * codec.code_bytes
        fits = (
            codec.reads(index)
            and (index.ntotal, index.d) == (n, width)
            and index.metric_type == faiss.METRIC_INNER_PRODUCT
            and index.codes.size() == n * code_size
        )
        if not fits:
            raise _damaged(path, "not the index that the catalog describes")
        self._index = index
        self._inode = found.st_ino
        self._codec = codec
        self.n = n
        codes = faiss.rev_swig_ptr(index.codes.data(), n * code_size)
        self._codes: Codes = codes.reshape(n, code_size)

    def is_current(self, path: Path) -> bool:
        """Whether ``path`` still is the mapped file, and not one that a repair put in its place."""
        try:
            return path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def codes(self, positions: Positions | slice) -> Codes:
        """Return the codes at ``positions`` as they are."""
        return self._codes[positions]

    def decode(self, positions: Positions | slice) -> Vectors:
        """Return the unit vectors at ``positions``, (m, width) float32."""
        return unit_length(self._codec.decode(self._codes[positions]))

    def kept(self, positions: Positions | slice) -> Vectors:
        """Return vectors as they are kept, (m, width) float32; unit ones where lengths are not."""
        vectors = self._codec.decode(self._codes[positions])
        return vectors if self._codec.keeps_length else unit_length(vectors)

    def scan(
        self, query: Vectors, k: int, *, allowed: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.float32], Positions]:
        """Return the k positions with the largest raw inner product with one query, (1, width).

        ``allowed`` is a mask over positions. Raw means that the decoded vectors' lengths, which
        differ from 1 by up to `NORM_TOLERANCE`, are not divided out; so this is for codecs that
        keep lengths only. Fewer than k come back when fewer are allowed.
        """
        faiss = load_faiss()
        parameters = None
        if allowed is not None:
            bitmap = np.packbits(allowed, bitorder="little")
            parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bitmap))
        products, positions = self._index.search(query, min(k, self.n), params=parameters)
        found = positions[0] >= 0
        return products[0][found], positions[0][found]


def _damaged(path: Path, reason: str) -> DamagedIndexError:
    error = DamagedIndexError(f"{path} is damaged ({reason}): run 'layerdex repair' on this index")
    error.reason = reason
    return error
