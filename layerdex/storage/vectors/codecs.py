"""Codecs between unit vectors and the codes of a layer file, one per precision."""

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
"""Vectors as stored in a layer file, shape (n, bytes per vector)."""

# Rounding to float16 changes a component by at most 2^-11 of itself, so that the length of a
# decoded unit vector is within 4.9e-4 of 1. This bound makes the scan of raw floats exact.
NORM_TOLERANCE = 5e-4

_LARGEST = 127
_SIGN_BIT = np.uint8(0x80)


class Codec(Protocol):
    """How vectors of one precision are stored. Codes are copied, never rounded again."""

    code_bytes: int
    """Bytes per component."""

    keeps_length: bool
    """Whether decoded lengths are within `NORM_TOLERANCE` of 1, so that a raw scan is possible."""

    def encode(self, vectors: Vectors) -> Codes:
        """Round unit vectors, (n, width) float32.

        Raises `ModelError` for lengths that differ from 1 by more than `NORM_TOLERANCE`, or NaN.
        """
        ...

    def decode(self, codes: Codes) -> Vectors:
        """Return stored vectors as a copy of any length, (n, width) float32."""
        ...

    def new_index(self, width: int) -> Any:
        """Return an empty FAISS index for these codes, which can be mapped."""
        ...

    def header(self, n: int, width: int) -> bytes:
        """Return the bytes that FAISS writes before the codes of n vectors."""
        ...

    def reads(self, index: Any) -> bool:
        """Return whether a FAISS index has the type of this codec."""
        ...


class _ScalarQuantizer:
    """The file format of codecs that are a FAISS scalar quantizer without training."""

    code_bytes: int
    quantizer: str

    def new_index(self, width: int) -> Any:
        faiss = load_faiss()
        return faiss.IndexScalarQuantizer(width, self._type(), faiss.METRIC_INNER_PRODUCT)

    def header(self, n: int, width: int) -> bytes:
        # These quantizers are not trained: no range statistic, and no trained values.
        code_size = width * self.code_bytes
        fields = struct.pack("=iifQQQ", self._type(), 0, 0.0, width, code_size, 0)
        return _header(b"IxSQ", n, width) + fields + struct.pack("=Q", n * code_size)

    def reads(self, index: Any) -> bool:
        is_quantizer = isinstance(index, load_faiss().IndexScalarQuantizer)
        return is_quantizer and bool(index.sq.qtype == self._type())

    def _type(self) -> int:
        return int(getattr(load_faiss().ScalarQuantizer, self.quantizer))


class _Float16(_ScalarQuantizer):
    """IEEE half precision, rounded once from float32: 2 bytes per component."""

    code_bytes = 2
    keeps_length = True
    quantizer = "QT_fp16"

    def encode(self, vectors: Vectors) -> Codes:
        with np.errstate(over="ignore"):  # a vector that overflows is not of unit length either
            rounded = np.ascontiguousarray(vectors, dtype=np.float16)
        _check_lengths(rounded.astype(np.float32))  # a scan uses the rounded vectors
        return rounded.view(np.uint8)

    def decode(self, codes: Codes) -> Vectors:
        return np.ascontiguousarray(codes).view(np.float16).astype(np.float32)


class _Float32:
    """The encoder's float32, bit for bit: 4 bytes per component."""

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


class _Int8(_ScalarQuantizer):
    """Signed bytes, each vector scaled so that its largest component is 127 or -127.

    The scale is not stored: similarity divides by the length of the decoded vector, which cancels
    it. So decoded vectors have any length, and FAISS's own scan cannot be used. (It also rounds the
    query of this type to integers: every inner product with a unit vector of width 384 was 0 with
    faiss-cpu 1.15.1.)
    """

    code_bytes = 1
    keeps_length = False
    quantizer = "QT_8bit_direct_signed"

    def encode(self, vectors: Vectors) -> Codes:
        _check_lengths(vectors)
        largest = np.abs(vectors).max(axis=1, keepdims=True)
        rounded = np.rint(vectors * (np.float32(_LARGEST) / largest)).astype(np.int8)
        # FAISS stores a component plus 128 in an unsigned byte: its sign bit inverted.
        codes: Codes = rounded.view(np.uint8) ^ _SIGN_BIT
        return codes

    def decode(self, codes: Codes) -> Vectors:
        return (codes ^ _SIGN_BIT).view(np.int8).astype(np.float32)


_CODECS: dict[StoredPrecision, Codec] = {
    StoredPrecision.FLOAT16: _Float16(),
    StoredPrecision.FLOAT32: _Float32(),
    StoredPrecision.INT8: _Int8(),
}


def read_precision(stored: str | None) -> StoredPrecision:
    """Return the precision in an index's setting; early indexes without one have float16.

    Raises `SchemaError` for a precision that this version does not know.
    """
    if stored is None:
        return StoredPrecision.FLOAT16
    try:
        return StoredPrecision(stored)
    except ValueError as error:
        raise SchemaError(
            f"this index stores vectors as {stored!r}, which this version does not know: "
            "use a newer Layerdex"
        ) from error


def codec_of(precision: StoredPrecision) -> Codec:
    """Return the codec of a precision."""
    return _CODECS[precision]


def as_stored(vectors: Vectors, codec: Codec) -> Vectors:
    """Return unit vectors, (n, width) float32, after a round trip through the codec.

    So a query has the vector that its text has as a document, and the two have a similarity of 1 at
    every precision.
    """
    return normalize(codec.decode(codec.encode(vectors)))


def normalize(vectors: Vectors) -> Vectors:
    """Divide vectors, (n, width) float32, by their lengths, in place, and return them."""
    vectors /= _lengths(vectors)[:, None]
    return vectors


def _lengths(vectors: Vectors) -> NDArray[np.float32]:
    lengths: NDArray[np.float32] = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return lengths


def _check_lengths(vectors: Vectors) -> None:
    with np.errstate(over="ignore"):
        lengths = _lengths(vectors)
    if not (np.abs(lengths - 1) <= NORM_TOLERANCE).all():
        raise ModelError("the encoder returned vectors that are not of unit length")


def _header(type_code: bytes, n: int, width: int) -> bytes:
    """Return the start of every FAISS index (``write_index_header``, faiss 1.7 to 1.15).

    Four letters for its type, width, n, two unused numbers, whether it is trained, and its metric.
    """
    metric: int = load_faiss().METRIC_INNER_PRODUCT
    return struct.pack("=4siqqqBi", type_code, width, n, 1 << 20, 1 << 20, 1, metric)
