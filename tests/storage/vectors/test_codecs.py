"""Codecs: what each precision keeps of a vector, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from layerdex.choices import StoredPrecision
from layerdex.errors import DamagedIndexError, ModelError, SchemaError
from layerdex.storage.vectors.codecs import NORM_TOLERANCE, as_stored, codec_of, read_precision
from layerdex.storage.vectors.layer_file import LayerFile, serialize_layer
from layerdex.storage.vectors.segment_file import SegmentFile
from tests.rounding import decoded, rounded
from tests.storage.stored import components

_WIDTH = 24
_CODE_BYTES = {
    StoredPrecision.FLOAT16: 2,
    StoredPrecision.FLOAT32: 4,
    StoredPrecision.INT8: 1,
}
every_precision = pytest.mark.parametrize("precision", StoredPrecision)


def _unit(n: int, *, seed: int = 0, width: int = _WIDTH) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).standard_normal((n, width))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors, dtype=np.float32)


def _read(data: NDArray[np.uint8]) -> tuple[Any, NDArray[np.floating]]:
    index: Any = faiss.deserialize_index(data)
    found = components(index, faiss.vector_to_array(index.codes))
    return index, found.reshape(index.ntotal, index.d)


@every_precision
def test_layer_file_holds_the_rounded_vectors(precision: StoredPrecision) -> None:
    vectors, codec = _unit(50), codec_of(precision)
    codes = codec.encode(vectors)
    assert codes.dtype == np.uint8
    assert codes.shape == (50, _WIDTH * _CODE_BYTES[precision])
    index, found = _read(serialize_layer(codes, codec))
    assert (index.d, index.metric_type) == (_WIDTH, faiss.METRIC_INNER_PRODUCT)
    assert found.tobytes() == rounded(vectors, precision).tobytes()
    # FAISS's own decoder agrees.
    np.testing.assert_array_equal(index.reconstruct_n(0, 50), found.astype(np.float32))


@every_precision
def test_decoding_gives_what_was_rounded_in_memory_of_its_own(precision: StoredPrecision) -> None:
    vectors, codec = _unit(50), codec_of(precision)
    codes = codec.encode(vectors)
    before = codes.copy()
    found = codec.decode(codes)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, rounded(vectors, precision))
    found[:] = 0
    np.testing.assert_array_equal(codes, before)


@every_precision
def test_codes_that_lie_unaligned_are_decoded(precision: StoredPrecision) -> None:
    vectors, codec = _unit(5), codec_of(precision)
    codes = codec.encode(vectors)
    shifted = np.empty(codes.size + 1, dtype=np.uint8)[1:].reshape(codes.shape)
    shifted[:] = codes
    np.testing.assert_array_equal(codec.decode(shifted), rounded(vectors, precision))


@every_precision
def test_kept_vectors_have_length_one_and_keep_their_direction(precision: StoredPrecision) -> None:
    vectors = _unit(200, width=384)
    before = vectors.copy()
    kept = as_stored(vectors, codec_of(precision))
    np.testing.assert_allclose(kept, decoded(vectors, precision), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(kept.astype(np.float64), axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(vectors, before)
    worst = {
        StoredPrecision.FLOAT16: 1e-6,
        StoredPrecision.FLOAT32: 1e-6,
        StoredPrecision.INT8: 1e-4,
    }
    assert (kept.astype(np.float64) * vectors).sum(axis=1).min() > 1 - worst[precision]


@every_precision
def test_no_vectors_are_no_codes(precision: StoredPrecision) -> None:
    codec = codec_of(precision)
    codes = codec.encode(np.empty((0, _WIDTH), np.float32))
    assert codes.shape == (0, _WIDTH * _CODE_BYTES[precision])
    assert codec.decode(codes).shape == (0, _WIDTH)


@every_precision
@pytest.mark.parametrize("bad", [0.0, 0.5, 2.0, 1e30, np.nan, np.inf])
def test_vectors_not_of_length_one_are_refused(precision: StoredPrecision, bad: float) -> None:
    vectors = _unit(3)
    vectors[1] = vectors[1] * bad if np.isfinite(bad) else bad
    with pytest.raises(ModelError, match="not of unit length"):
        codec_of(precision).encode(vectors)


@every_precision
@pytest.mark.parametrize("sign", [-1, 1])
def test_length_is_checked_to_the_bound_that_the_scan_relies_on(
    precision: StoredPrecision, sign: int
) -> None:
    codec = codec_of(precision)
    near = _unit(1) * np.float32(1 + sign * 0.5 * NORM_TOLERANCE)
    codec.encode(near)
    with pytest.raises(ModelError, match="not of unit length"):
        codec.encode(_unit(1) * np.float32(1 + sign * 2 * NORM_TOLERANCE))


@every_precision
def test_codecs_that_keep_lengths_do(precision: StoredPrecision) -> None:
    codec = codec_of(precision)
    lengths = np.linalg.norm(codec.decode(codec.encode(_unit(2_000))).astype(np.float64), axis=1)
    assert codec.keeps_length == (np.abs(lengths - 1).max() <= NORM_TOLERANCE)


@pytest.mark.parametrize("precision", [StoredPrecision.FLOAT16, StoredPrecision.FLOAT32])
def test_a_scan_finds_what_was_forged_to_be_no_vector(
    precision: StoredPrecision, tmp_path: Path
) -> None:
    codec, vectors = codec_of(precision), _unit(9)
    codes = codec.encode(vectors).copy()
    codes[4, : codec.code_bytes] = 0xFF  # NaN
    path = tmp_path / "layer"
    data = serialize_layer(codes, codec)
    data.tofile(path)
    file = LayerFile(path, SegmentFile.of(data), n=9, width=_WIDTH, codec=codec)
    with pytest.raises(DamagedIndexError, match="NaN"):
        file.scan(vectors[:1], 9, allowed=None)
    allowed = np.arange(9) != 4
    assert sorted(file.scan(vectors[:1], 9, allowed=allowed)[1]) == np.flatnonzero(allowed).tolist()
    assert file.scan(vectors[:1], 1, allowed=None)[1].tolist() == [0]


def test_largest_component_of_int8_is_127_whatever_its_sign() -> None:
    vectors = np.concatenate([_unit(50), -_unit(50), np.eye(_WIDTH, dtype=np.float32)])
    codec = codec_of(StoredPrecision.INT8)
    found = codec.decode(codec.encode(vectors))
    at = np.abs(vectors).argmax(axis=1)[:, None]
    expected = 127 * np.sign(np.take_along_axis(vectors, at, axis=1))
    np.testing.assert_array_equal(np.take_along_axis(found, at, axis=1), expected)
    assert np.abs(found).max() == 127


def test_layer_file_of_float16_is_what_it_always_was() -> None:
    vectors = _unit(7)
    index = faiss.IndexScalarQuantizer(
        _WIDTH, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    index.add_sa_codes(vectors.astype(np.float16).view(np.uint8))
    codec = codec_of(StoredPrecision.FLOAT16)
    found = serialize_layer(codec.encode(vectors), codec)
    np.testing.assert_array_equal(found, faiss.serialize_index(index))


def test_precision_of_an_index_is_read_and_an_unknown_one_refused() -> None:
    assert read_precision(None) is StoredPrecision.FLOAT16
    for precision in StoredPrecision:
        assert read_precision(precision.value) is precision
    with pytest.raises(SchemaError, match=r"'int4'.*newer"):
        read_precision("int4")
