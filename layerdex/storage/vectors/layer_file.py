"""Layer files: a FAISS index of flat codes for one layer of a segment, mapped, never rewritten."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_ubyte
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from layerdex.errors import DamagedIndexError, StorageError
from layerdex.records import Vectors
from layerdex.storage.files import open_own
from layerdex.storage.vectors.codecs import Codec, Codes, normalize
from layerdex.storage.vectors.faiss_library import load_faiss
from layerdex.storage.vectors.read_advice import read_in_order
from layerdex.storage.vectors.segment_file import BLOCK_BYTES, CheckedBlocks, SegmentFile

Positions = NDArray[np.int64]

_CHANGED = "wrong checksum"
_OTHER_INDEX = "not the index that the catalog describes"
_OTHER_ORDER = "written on a machine of the other byte order"


def layer_filename(layer: int) -> str:
    """Return the name of a layer's file within its segment."""
    return f"layer-{layer:02d}.faiss"


def serialize_layer(codes: Codes, codec: Codec) -> NDArray[np.uint8]:
    """Return the bytes of a FAISS index over ``codes``, in order.

    Raises `StorageError` if FAISS writes a format that `LayerFile` does not read.
    """
    data, of_data = empty_layer(len(codes), codes.shape[1] // codec.code_bytes, codec)
    of_data[:] = codes
    return data


def empty_layer(n: int, width: int, codec: Codec) -> tuple[NDArray[np.uint8], Codes]:
    """Return the bytes of a FAISS index over n codes that are still to be set, and the codes.

    FAISS itself would hold them twice more. Raises `StorageError` as `serialize_layer` does.
    """
    header = layer_header(n, width, codec)
    data = np.empty(len(header) + n * width * codec.code_bytes, dtype=np.uint8)
    data[: len(header)] = np.frombuffer(header, dtype=np.uint8)
    return data, data[len(header) :].reshape(n, width * codec.code_bytes)


def layer_header(n: int, width: int, codec: Codec) -> bytes:
    """Return what a layer file of n codes begins with; the codes are all that follows.

    Raises `StorageError` as `serialize_layer` does.
    """
    written = load_faiss().serialize_index(codec.new_index(width))
    if bytes(written) != codec.header(0, width):
        raise StorageError("this FAISS writes another format: install faiss 1.12 to 1.15")
    return codec.header(n, width)


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


def check_layer(path: Path, recorded: SegmentFile, *, n: int, width: int, codec: Codec) -> None:
    """Check a whole layer file of n vectors, one block at a time in memory.

    Raises OSError, such as FileNotFoundError, or `DamagedIndexError` if it is not the recorded
    file or cannot be read to its end.
    """
    _check_blocks(path, recorded, recorded.n_blocks, n=n, width=width, codec=codec)


class LayerFile:
    """A mapped layer file: n vectors of ``width`` components, at positions 0 to n-1.

    Whatever reads vectors checks the blocks that they are in, once per process, and raises
    `DamagedIndexError` if one has changed or cannot be read. Later damage is not noticed.
    """

    def __init__(
        self, path: Path, recorded: SegmentFile, *, n: int, width: int, codec: Codec
    ) -> None:
        """Check size, header and first block of the file at ``path``, and map it.

        Raises FileNotFoundError, or `DamagedIndexError` if it is not the recorded file.
        """
        inode = _check_blocks(path, recorded, 1, n=n, width=width, codec=codec)
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
        self._recorded = recorded
        self._index = index
        self._inode = inode
        self._codec = codec
        self.n = n
        codes = load_faiss().rev_swig_ptr(index.codes.data(), n * code_size)
        self._codes: Codes = codes.reshape(n, code_size)
        # FAISS maps a file from its first byte on, and gives the place of the codes only.
        self._header_bytes = recorded.size_bytes - len(codes)
        start = codes.ctypes.data - self._header_bytes
        mapped = (c_ubyte * recorded.size_bytes).from_address(start)
        self._blocks = CheckedBlocks(np.ctypeslib.as_array(mapped), recorded)

    def is_current(self, path: Path, recorded: SegmentFile | None) -> bool:
        """Return whether ``path`` still is the mapped file, checked against what is recorded now.

        A repair replaces the file, and then commits its hashes: between, they are still the old.
        """
        try:
            return recorded == self._recorded and path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def codes(self, positions: Positions | slice) -> Codes:
        """Return the codes at ``positions``."""
        if not self._blocks.are_all_checked:
            self._check(positions)
        return self._codes[positions]

    def decode(self, positions: Positions | slice) -> Vectors:
        """Return the unit vectors at ``positions``, (m, width) float32."""
        return self.decode_codes(self.codes(positions))

    def decode_codes(self, codes: Codes) -> Vectors:
        """Return the unit vectors of codes, of this file or another one of its layer."""
        return normalize(self._codec.decode(codes))

    def decode_stored(self, positions: Positions | slice) -> Vectors:
        """Return stored vectors, (m, width) float32, normalized if the codec keeps no lengths."""
        vectors = self._codec.decode(self.codes(positions))
        return vectors if self._codec.keeps_length else normalize(vectors)

    def scan(
        self,
        query: Vectors,
        k: int,
        *,
        allowed: NDArray[np.bool_] | None = None,
        within: range | None = None,
    ) -> tuple[NDArray[np.float32], Positions]:
        """Return the k largest raw inner products with a query, (1, width), and their positions.

        ``within`` are the positions to scan, without gaps; all if it is None. ``allowed`` is a mask
        over these. With fewer than k of them the result is shorter. Raw means not divided by the
        lengths of decoded vectors, which differ from 1 by up to `NORM_TOLERANCE`, so this is only
        for codecs that keep lengths. Raises `DamagedIndexError` if results are missing for another
        reason: FAISS skips vectors with NaN.
        """
        within = range(self.n) if within is None else within
        codes = self.codes(slice(within.start, within.stop))
        parameters = None
        if allowed is not None:
            faiss = load_faiss()
            bitmap = np.packbits(allowed, bitorder="little")
            parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bitmap))
        k = min(k, len(within))
        with read_in_order(codes):
            products, positions = self._index_of(codes).search(query, k, params=parameters)
        is_result = positions[0] >= 0
        n_allowed = len(within) if allowed is None else np.count_nonzero(allowed)
        if np.count_nonzero(is_result) < min(k, n_allowed):
            raise DamagedIndexError(f"{self._path} has a vector with NaN: restore the index")
        return products[0][is_result], within.start + positions[0][is_result]

    def _index_of(self, codes: Codes) -> Any:
        """Return a FAISS index over neighboring codes, which are not copied."""
        if len(codes) == self.n:
            return self._index
        faiss = load_faiss()
        index = self._codec.new_index(codes.shape[1] // self._codec.code_bytes)
        # With the owner of the mapped file's codes, the file stays mapped as long as the index.
        index.codes = faiss.MaybeOwnedVectorUInt8.create_view(
            faiss.swig_ptr(codes), codes.size, self._index.codes.owner
        )
        index.ntotal = len(codes)
        return index

    def _check(self, positions: Positions | slice) -> None:
        if isinstance(positions, slice):
            first, stop, _ = positions.indices(self.n)
            starts, stops = np.array([first]), np.array([stop])
        else:
            starts, stops = positions, positions + 1
        is_any = starts < stops
        code_size = self._codes.shape[1]
        starts, stops = (self._header_bytes + at[is_any] * code_size for at in (starts, stops))
        if not self._blocks.are_sound(starts, stops):
            raise _damage_error(self._path, _CHANGED)


def _check_blocks(
    path: Path, recorded: SegmentFile, n_blocks: int, *, n: int, width: int, codec: Codec
) -> int:
    """Raise `DamagedIndexError` unless size, header and first blocks are right; return the inode.

    This comes before FAISS parses the file. A file without hashes of blocks is checked whole.
    """
    n_code_bytes = n * width * codec.code_bytes
    size_bytes = recorded.size_bytes
    with _opened(path) as file:  # the error of FAISS would not say why the file cannot be read
        status = os.fstat(file.fileno())
        if status.st_size != size_bytes:
            raise _damage_error(path, f"{status.st_size} bytes instead of {size_bytes}")
        if n_code_bytes >= size_bytes:
            raise _damage_error(path, _OTHER_INDEX)
        header = codec.header(n, width)
        if size_bytes != len(header) + n_code_bytes:
            raise _damage_error(path, _OTHER_INDEX)
        start = file.read(BLOCK_BYTES)
        if not recorded.are_blocks(file, start, n_blocks):
            raise _damage_error(path, _CHANGED)
        # A forged file can have the right checksum. With exactly this header nothing is left for
        # FAISS to read from it: no other type of index, no count, no path of another file.
        if start[: len(header)] != header:
            # FAISS writes all numbers in the machine's order, also the one that is its mark.
            is_swapped = start[:4] == header[:4][::-1]
            raise _damage_error(path, _OTHER_ORDER if is_swapped else _OTHER_INDEX)
    return status.st_ino


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a layer file as `open_layer` does; a part that cannot be read is damage, too."""
    with open_layer(path) as file:
        try:
            yield file
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            raise _damage_error(path, "the disk cannot read it") from error


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
