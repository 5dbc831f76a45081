"""Unit vectors to the codes that a layer file holds, and back, at each precision."""

from __future__ import annotations

import struct
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from layerdex.choices import StoredPrecision
from layerdex.errors import ModelError, SchemaError
from layerdex.records import Vectors
from layerdex.storage.vectors.faiss_library import load_faiss

Codes = NDArray[np.uint8]
"""Vectors as they lie in a layer file, shape (n, bytes of one vector)."""

# A float16 component is off by at most 2^-11 of itself, so a unit vector's decoded length is
# within 4.9e-4 of 1; this bound is what makes the scan of raw floats exact.
NORM_TOLERANCE = 5e-4

_LARGEST = 127
_SIGN_BIT = np.uint8(0x80)


class Codec(Protocol):
    """How vectors of one precision are kept; codes are copied, never rounded again."""

    code_bytes: int
    """Size of a component."""

    keeps_length: bool
    """Whether decoded vectors are within `NORM_TOLERANCE` of length 1, and can be scanned raw."""

    def encode(self, vectors: Vectors) -> Codes:
        """Round unit vectors, (n, width) float32.

        Raises `ModelError` where their length is not 1 within `NORM_TOLERANCE`, NaN included.
        """
        ...

    def decode(self, codes: Codes) -> Vectors:
        """Return a copy of stored vectors as they are, of whatever length, (n, width) float32."""
        ...

    def new_index(self, width: int) -> Any:
        """Return an empty FAISS index whose codes are these and can be mapped."""
        ...

    def header(self, n: int, width: int) -> bytes:
        """Return what FAISS writes before the codes of n vectors."""
        ...

    def reads(self, index: Any) -> bool:
        """Say whether a FAISS index that was read has this codec's type."""
        ...


class _Float16:
    """IEEE half precision, rounded once from float32: 2 bytes a component."""

    code_bytes = 2
    keeps_length = True

    def encode(self, vectors: Vectors) -> Codes:
        with np.errstate(over="ignore"):  # what overflows has no length of 1 either
            rounded = np.ascontiguousarray(vectors, dtype=np.float16)
        _check_lengths(rounded.astype(np.float32))  # theirs is what a scan meets
        return rounded.view(np.uint8)

    def decode(self, codes: Codes) -> Vectors:
        return np.ascontiguousarray(codes).view(np.float16).astype(np.float32)

    def new_index(self, width: int) -> Any:
        return _scalar_quantizer(width, "QT_fp16")

    def header(self, n: int, width: int) -> bytes:
        return _scalar_quantizer_header(n, width, "QT_fp16", width * self.code_bytes)

    def reads(self, index: Any) -> bool:
        return _is_scalar_quantizer(index, "QT_fp16")


class _Float32:
    """The encoder's own float32, bit for bit: 4 bytes a component."""

    code_bytes = 4
    keeps_length = True

    def encode(self, vectors: Vectors) -> Codes:
        _check_lengths(vectors)
        return np.ascontiguousarray(vectors).view(np.uint8)

    def decode(self, codes: Codes) -> Vectors:
        return np.ascontiguousarray(codes).view(np.float32).astype(np.float32)

    def new_index(self, width: int) -> Any:
        return load_faiss().IndexFlatIP(width)

    def header(self, n: int, width: int) -> bytes:
        return _header(b"IxFI", n, width) + struct.pack("=Q", n * width)

    def reads(self, index: Any) -> bool:
        return isinstance(index, load_faiss().IndexFlatIP)


class _Int8:
    """Signed bytes, each vector scaled so that its largest component is 127 or -127.

    The scale is not stored: similarity divides by the decoded vector's length, which takes any
    scale out again. Decoded vectors thus have all kinds of lengths, and FAISS's own scan cannot be
    used on them. (It would also be wrong for this type, as it rounds the query to whole numbers:
    every inner product with a unit vector, 384 wide, was 0 with faiss-cpu 1.15.1.)
    """

    code_bytes = 1
    keeps_length = False

    def encode(self, vectors: Vectors) -> Codes:
        _check_lengths(vectors)
        largest = np.abs(vectors).max(axis=1, keepdims=True)
        rounded = np.rint(vectors * (np.float32(_LARGEST) / largest)).astype(np.int8)
        # FAISS keeps a component plus 128 in an unsigned byte, which is its sign bit turned over.
        codes: Codes = rounded.view(np.uint8) ^ _SIGN_BIT
        return codes

    def decode(self, codes: Codes) -> Vectors:
        return (codes ^ _SIGN_BIT).view(np.int8).astype(np.float32)

    def new_index(self, width: int) -> Any:
        return _scalar_quantizer(width, "QT_8bit_direct_signed")

    def header(self, n: int, width: int) -> bytes:
        return _scalar_quantizer_header(n, width, "QT_8bit_direct_signed", width * self.code_bytes)

    def reads(self, index: Any) -> bool:
        return _is_scalar_quantizer(index, "QT_8bit_direct_signed")


_CODECS: dict[StoredPrecision, Codec] = {
    StoredPrecision.FLOAT16: _Float16(),
    StoredPrecision.FLOAT32: _Float32(),
    StoredPrecision.INT8: _Int8(),
}


def read_precision(stored: str | None) -> StoredPrecision:
    """Return the precision that an index's setting names; the first indexes had none: float16.

    Raises `SchemaError` for one that this version does not know.
    """
    if stored is None:
        return StoredPrecision.FLOAT16
    try:
        return StoredPrecision(stored)
    except ValueError as error:
        raise SchemaError(
            f"this index keeps vectors as {stored!r}, which this version does not know: "
            "use a newer one"
        ) from error


def codec_of(precision: StoredPrecision) -> Codec:
    """Return how an index of this precision keeps its vectors."""
    return _CODECS[precision]


def as_stored(vectors: Vectors, codec: Codec) -> Vectors:
    """Return the unit vectors, (n, width) float32, that keeping these would make of them.

    So a text that is asked about has the vector that it would have as a document, and its own
    similarity is 1 at every precision.
    """
    return normalize(codec.decode(codec.encode(vectors)))


def normalize(vectors: Vectors) -> Vectors:
    """Divide vectors, (n, width) float32, by their lengths in place, and return them."""
    vectors /= _lengths(vectors)[:, None]
    return vectors


def _lengths(vectors: Vectors) -> NDArray[np.float32]:
    lengths: NDArray[np.float32] = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return lengths


def _check_lengths(vectors: Vectors) -> None:
    with np.errstate(over="ignore"):
        lengths = _lengths(vectors)
    if not (np.abs(lengths - 1) <= NORM_TOLERANCE).all():
        raise ModelError("the encoder gave vectors that are not of length 1")


def _scalar_quantizer(width: int, kind: str) -> Any:
    faiss = load_faiss()
    quantizer = getattr(faiss.ScalarQuantizer, kind)
    return faiss.IndexScalarQuantizer(width, quantizer, faiss.METRIC_INNER_PRODUCT)


def _is_scalar_quantizer(index: Any, kind: str) -> bool:
    faiss = load_faiss()
    wanted = getattr(faiss.ScalarQuantizer, kind)
    return isinstance(index, faiss.IndexScalarQuantizer) and index.sq.qtype == wanted


def _header(kind: bytes, n: int, width: int) -> bytes:
    """Return what every FAISS index begins with (``write_index_header``, faiss 1.7 to 1.15).

    Four letters of its type, width, n, two numbers that are not used, that it is trained, and
    its metric.
    """
    metric: int = load_faiss().METRIC_INNER_PRODUCT
    return struct.pack("=4siqqqBi", kind, width, n, 1 << 20, 1 << 20, 1, metric)


def _scalar_quantizer_header(n: int, width: int, kind: str, code_size: int) -> bytes:
    quantizer: int = getattr(load_faiss().ScalarQuantizer, kind)
    # Nothing is trained: no range, and no numbers of one.
    own = struct.pack("=iifQQQ", quantizer, 0, 0.0, width, code_size, 0)
    return _header(b"IxSQ", n, width) + own + struct.pack("=Q", n * code_size)
