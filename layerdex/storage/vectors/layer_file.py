"""Layer files: a FAISS index of flat codes for one layer of a segment, mapped, never rewritten."""

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
_OTHER_ORDER = "written on a machine of the other byte order"


def layer_filename(layer: int) -> str:
    """Return the name of a layer's file within its segment."""
    return f"layer-{layer:02d}.faiss"


def serialize_layer(codes: Codes, codec: Codec) -> NDArray[np.uint8]:
    """Return the bytes of a FAISS index over ``codes``, in order.

    Raises `StorageError` if FAISS writes a format that `LayerFile` does not read.
    """
    width = codes.shape[1] // codec.code_bytes
    index = codec.new_index(width)
    # Codes, not vectors: FAISS's own encoder may round differently.
    index.add_sa_codes(np.ascontiguousarray(codes))
    serialized: NDArray[np.uint8] = load_faiss().serialize_index(index)
    header = codec.header(len(codes), width)
    if bytes(serialized[: len(header)]) != header:
        raise StorageError("this FAISS writes another format: install faiss 1.12 to 1.15")
    return serialized


def open_layer(path: Path) -> BinaryIO:
    """Open a layer file for reading.

    Raises OSError, such as FileNotFoundError, and `DamagedIndexError` for a link, a named pipe or
    a device, through which a forged index could lead out of its directory.
    """
    try:
        return open_own(path)
    except OSError as error:
        reasons = {errno.ELOOP: "a link", errno.ENXIO: "not a file", errno.EINVAL: "not a file"}
        if error.errno not in reasons:
            raise
        raise _damage_error(path, reasons[error.errno]) from error


def check_size(path: Path, size_bytes: int) -> None:
    """Raise FileNotFoundError or `DamagedIndexError` unless a file of this size is at ``path``.

    A link has the length of its target's name as its size.
    """
    if path.lstat().st_size != size_bytes:
        raise _damage_error(path, f"not of {size_bytes} bytes")


class LayerFile:
    """A mapped layer file: n vectors of ``width`` components, at positions 0 to n-1."""

    def __init__(
        self, path: Path, *, n: int, width: int, codec: Codec, size_bytes: int, crc32: int
    ) -> None:
        """Check the file at ``path`` against its size and CRC-32, and map it.

        Raises FileNotFoundError, or `DamagedIndexError` if it is not the described file.
        """
        inode = _check_content(
            path, n=n, width=width, codec=codec, size_bytes=size_bytes, crc32=crc32
        )
        code_size = width * codec.code_bytes
        try:
            index = _map(path)
        except RuntimeError as error:
            path.stat()  # raises FileNotFoundError if a compaction has just removed it
            if "mmap" in str(error):
                raise StorageError(f"cannot map {path}: too many files are mapped") from error
            raise _damage_error(path, "not a FAISS index") from error
        if not (codec.reads(index) and index.codes.size() == n * code_size):
            raise _damage_error(path, _OTHER_INDEX)
        self._path = path
        self._index = index
        self._inode = inode
        self._codec = codec
        self.n = n
        codes = load_faiss().rev_swig_ptr(index.codes.data(), n * code_size)
        self._codes: Codes = codes.reshape(n, code_size)

    def is_current(self, path: Path) -> bool:
        """Return whether ``path`` still is the mapped file, which a repair may have replaced."""
        try:
            return path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def codes(self, positions: Positions | slice) -> Codes:
        """Return the codes at ``positions``."""
        return self._codes[positions]

    def decode(self, positions: Positions | slice) -> Vectors:
        """Return the unit vectors at ``positions``, (m, width) float32."""
        return self.decode_codes(self._codes[positions])

    def decode_codes(self, codes: Codes) -> Vectors:
        """Return the unit vectors of codes, of this file or another one of its layer."""
        return normalize(self._codec.decode(codes))

    def decode_stored(self, positions: Positions | slice) -> Vectors:
        """Return stored vectors, (m, width) float32, normalized if the codec keeps no lengths."""
        vectors = self._codec.decode(self._codes[positions])
        return vectors if self._codec.keeps_length else normalize(vectors)

    def scan(
        self, query: Vectors, k: int, *, allowed: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.float32], Positions]:
        """Return the k largest raw inner products with a query, (1, width), and their positions.

        ``allowed`` is a mask over positions; with fewer than k of them the result is shorter. Raw
        means not divided by the lengths of decoded vectors, which differ from 1 by up to
        `NORM_TOLERANCE`, so this is only for codecs that keep lengths. Raises `DamagedIndexError`
        if results are missing for another reason: FAISS skips vectors with NaN.
        """
        faiss = load_faiss()
        parameters = None
        if allowed is not None:
            bitmap = np.packbits(allowed, bitorder="little")
            parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bitmap))
        products, positions = self._index.search(query, min(k, self.n), params=parameters)
        is_result = positions[0] >= 0
        n_allowed = self.n if allowed is None else np.count_nonzero(allowed)
        if np.count_nonzero(is_result) < min(k, n_allowed):
            raise DamagedIndexError(f"{self._path} has a vector with NaN: restore the index")
        return products[0][is_result], positions[0][is_result]


def _check_content(
    path: Path, *, n: int, width: int, codec: Codec, size_bytes: int, crc32: int
) -> int:
    """Raise `DamagedIndexError` unless the file is the described one; return its inode.

    This happens once per process, before FAISS parses the file. Later damage is not noticed.
    """
    n_code_bytes = n * width * codec.code_bytes
    with open_layer(path) as file:  # the error of FAISS would not say why the file cannot be read
        status = os.fstat(file.fileno())
        if status.st_size != size_bytes:
            raise _damage_error(path, f"{status.st_size} bytes instead of {size_bytes}")
        if n_code_bytes >= size_bytes:
            raise _damage_error(path, _OTHER_INDEX)
        header = codec.header(n, width)
        if size_bytes != len(header) + n_code_bytes:
            raise _damage_error(path, _OTHER_INDEX)
        if checksum(file) != crc32:
            raise _damage_error(path, "wrong checksum")
        # A forged file can have the right checksum. With exactly this header nothing is left for
        # FAISS to read from it: no other type of index, no count, no path of another file.
        file.seek(0)
        if (start := file.read(len(header))) != header:
            # FAISS writes all numbers in the machine's order, also the one that is its mark.
            is_swapped = start[:4] == header[:4][::-1]
            raise _damage_error(path, _OTHER_ORDER if is_swapped else _OTHER_INDEX)
    return status.st_ino


def _map(path: Path) -> Any:
    # IO_FLAG_MMAP_IFC maps flat codes; plain IO_FLAG_MMAP would read them into memory.
    faiss = load_faiss()
    try:
        str(path).encode()
    except UnicodeEncodeError:  # FAISS takes UTF-8 only, but a path may be any bytes
        with open_layer(path) as file:
            return faiss.read_index(f"/dev/fd/{file.fileno()}", faiss.IO_FLAG_MMAP_IFC)
    return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)


def _damage_error(path: Path, reason: str) -> DamagedIndexError:
    error = DamagedIndexError(f"{path} is damaged ({reason}): run 'layerdex repair' on this index")
    error.reason = reason
    return error
