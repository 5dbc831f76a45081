"""One layer of one segment: a FAISS index of flat codes, mapped and never rewritten."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from layerdex.errors import DamagedIndexError, StorageError
from layerdex.records import Vectors
from layerdex.storage.files import checksum, open_own
from layerdex.storage.vectors.codecs import Codec, Codes, normalize
from layerdex.storage.vectors.faiss_library import load_faiss

Positions = NDArray[np.int64]

_OTHER_INDEX = "not the index that the catalog describes"


def layer_filename(layer: int) -> str:
    """Return the name of a layer's file within its segment."""
    return f"layer-{layer:02d}.faiss"


def serialize_layer(codes: Codes, codec: Codec) -> NDArray[np.uint8]:
    """Return the bytes of a FAISS index over ``codes``, in order.

    Raises `StorageError` where FAISS writes them as `LayerFile` does not read them.
    """
    width = codes.shape[1] // codec.code_bytes
    index = codec.new_index(width)
    # Codes, not vectors: FAISS's own encoder need not round the same.
    index.add_sa_codes(np.ascontiguousarray(codes))
    serialized: NDArray[np.uint8] = load_faiss().serialize_index(index)
    header = codec.header(len(codes), width)
    if bytes(serialized[: len(header)]) != header:
        raise StorageError("this FAISS writes another format: install faiss 1.12 to 1.15")
    return serialized


def open_layer(path: Path) -> BinaryIO:
    """Open a layer file for reading.

    Raises OSError, such as FileNotFoundError, and `DamagedIndexError` for a link, a named pipe or
    a device, through which an index from elsewhere could lead out of itself.
    """
    try:
        return open_own(path)
    except OSError as error:
        reasons = {errno.ELOOP: "a link", errno.ENXIO: "not a file", errno.EINVAL: "not a file"}
        if error.errno not in reasons:
            raise
        raise _damaged(path, reasons[error.errno]) from error


def check_size(path: Path, size_bytes: int) -> None:
    """Raise FileNotFoundError or `DamagedIndexError` unless a file of this size is at ``path``.

    That of a link is the length of its target's name.
    """
    if path.lstat().st_size != size_bytes:
        raise _damaged(path, f"not of {size_bytes} bytes")


class LayerFile:
    """A mapped layer file: n vectors of ``width`` components, in positions 0..n-1."""

    def __init__(
        self, path: Path, *, n: int, width: int, codec: Codec, size_bytes: int, crc32: int
    ) -> None:
        """Check ``path`` against its size and CRC-32, and map it.

        Raises FileNotFoundError, or `DamagedIndexError` if it is not as said.
        """
        inode = _check_content(
            path, n=n, width=width, codec=codec, size_bytes=size_bytes, crc32=crc32
        )
        code_size = width * codec.code_bytes
        try:
            index = _map(path)
        except RuntimeError as error:
            path.stat()  # raises FileNotFoundError where a compaction has just removed it
            if "mmap" in str(error):
                raise StorageError(f"cannot map {path}: too many files are mapped") from error
            raise _damaged(path, "not a FAISS index") from error
        if not (codec.reads(index) and index.codes.size() == n * code_size):
            raise _damaged(path, _OTHER_INDEX)
        self._path = path
        self._index = index
        self._inode = inode
        self._codec = codec
        self.n = n
        codes = load_faiss().rev_swig_ptr(index.codes.data(), n * code_size)
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
        return normalize(self._codec.decode(self._codes[positions]))

    def kept(self, positions: Positions | slice) -> Vectors:
        """Return vectors as they are kept, (m, width) float32; unit ones where lengths are not."""
        vectors = self._codec.decode(self._codes[positions])
        return vectors if self._codec.keeps_length else normalize(vectors)

    def scan(
        self, query: Vectors, k: int, *, allowed: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.float32], Positions]:
        """Return the k positions with the largest raw inner product with one query, (1, width).

        ``allowed`` is a mask over positions. Raw means that the decoded vectors' lengths, which
        differ from 1 by up to `NORM_TOLERANCE`, are not divided out; so this is for codecs that
        keep lengths only. Fewer than k come back when fewer are allowed. Raises `DamagedIndexError`
        where that would be for components that are no numbers, which FAISS passes over.
        """
        faiss = load_faiss()
        parameters = None
        if allowed is not None:
            bitmap = np.packbits(allowed, bitorder="little")
            parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bitmap))
        products, positions = self._index.search(query, min(k, self.n), params=parameters)
        found = positions[0] >= 0
        n_allowed = self.n if allowed is None else np.count_nonzero(allowed)
        if np.count_nonzero(found) < min(k, n_allowed):
            raise DamagedIndexError(f"{self._path} holds what is no vector: restore the index")
        return products[0][found], positions[0][found]


def _check_content(
    path: Path, *, n: int, width: int, codec: Codec, size_bytes: int, crc32: int
) -> int:
    """Raise `DamagedIndexError` unless the file is as said; return its inode.

    Once a process, before FAISS parses it; damage done later under the map is not seen.
    """
    n_code_bytes = n * width * codec.code_bytes
    with open_layer(path) as file:  # FAISS's own error would not say why it cannot be read
        found = os.fstat(file.fileno())
        if found.st_size != size_bytes:
            raise _damaged(path, f"{found.st_size} bytes instead of {size_bytes}")
        if n_code_bytes >= size_bytes:
            raise _damaged(path, _OTHER_INDEX)
        header = codec.header(n, width)
        if size_bytes != len(header) + n_code_bytes:
            raise _damaged(path, _OTHER_INDEX)
        if checksum(file) != crc32:
            raise _damaged(path, "wrong checksum")
        # A forger's checksum fits. With this header there is nothing left for FAISS to be told:
        # no other type of index, no count, no path of another file.
        file.seek(0)
        if file.read(len(header)) != header:
            raise _damaged(path, _OTHER_INDEX)
    return found.st_ino


def _map(path: Path) -> Any:
    # IO_FLAG_MMAP_IFC maps flat codes; plain IO_FLAG_MMAP would read them whole.
    faiss = load_faiss()
    return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)


def _damaged(path: Path, reason: str) -> DamagedIndexError:
    error = DamagedIndexError(f"{path} is damaged ({reason}): run 'layerdex repair' on this index")
    error.reason = reason
    return error
