"""What the kernel is told about mapped bytes, as it shows it itself."""

from __future__ import annotations

import mmap
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from layerdex.choices import StoredPrecision
from layerdex.storage.vectors.codecs import codec_of
from layerdex.storage.vectors.layer_file import LayerFile, serialize_layer
from layerdex.storage.vectors.read_advice import read_in_order, will_read
from layerdex.storage.vectors.segment_file import SegmentFile
from tests.storage.stored import read_codes

N, WIDTH = 5_000, 64
RANDOM, IN_ORDER = "rr", "sr"
CODEC = codec_of(StoredPrecision.FLOAT16)


def _advice(address: int) -> str:
    """Return the kernel's flag for the order of reading at an address, empty without one."""
    is_there = False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        bounds, _, rest = line.partition(" ")
        if bounds.count("-") == 1 and not bounds.endswith(":"):
            start, end = (int(bound, 16) for bound in bounds.split("-"))
            is_there = start <= address < end
        elif is_there and bounds == "VmFlags:":
            return "".join(flag for flag in rest.split() if flag in (RANDOM, IN_ORDER))
    raise AssertionError("nothing is mapped there")


@pytest.fixture
def file(tmp_path: Path) -> LayerFile:
    vectors = np.random.default_rng(0).standard_normal((N, WIDTH)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    data = serialize_layer(CODEC.encode(vectors), CODEC)
    data.tofile(tmp_path / "layer-00.faiss")
    path = tmp_path / "layer-00.faiss"
    return LayerFile(path, SegmentFile.of(data), n=N, width=WIDTH, codec=CODEC)


def test_a_file_is_read_at_random_but_for_a_scan(
    file: LayerFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = file.codes(slice(None))
    seen: list[str] = []
    index_of = LayerFile._index_of

    def noted(self: LayerFile, within: NDArray[np.uint8]) -> object:
        seen.append(_advice(within.ctypes.data + within.nbytes // 2))
        return index_of(self, within)

    monkeypatch.setattr(LayerFile, "_index_of", noted)
    for within in (None, range(1_000, 4_000)):
        file.scan(np.ones((1, WIDTH), dtype=np.float32), 3, within=within)
        assert _advice(codes.ctypes.data) == _advice(codes.ctypes.data + 400_000) == RANDOM
    assert seen == [IN_ORDER] * 2


def test_a_scan_of_a_piece_is_that_of_its_codes(file: LayerFile, tmp_path: Path) -> None:
    query = np.random.default_rng(1).standard_normal((1, WIDTH)).astype(np.float32)
    stored = read_codes(tmp_path / "layer-00.faiss").astype(np.float64)
    products = stored @ query[0].astype(np.float64)
    for within in (range(N), range(1), range(N - 1, N), range(700, 4_321)):
        allowed = np.arange(len(within)) % 3 != 1
        for mask in (None, allowed):
            chosen = np.array(within)[slice(None) if mask is None else mask]
            expected = chosen[np.argsort(-products[chosen])][:20]
            found, positions = file.scan(query, 20, allowed=mask, within=within)
            assert positions.tolist() == expected.tolist()
            np.testing.assert_allclose(found, products[expected], atol=1e-5)


def test_advice_ends_with_an_error_too(tmp_path: Path) -> None:
    path = tmp_path / "bytes"
    path.write_bytes(bytes(1 << 16))
    with path.open("rb") as opened:
        mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    data = np.frombuffer(mapped, dtype=np.uint8)
    with suppress(KeyError), read_in_order(data[5_000:60_000]):
        assert _advice(data.ctypes.data + 30_000) == IN_ORDER
        raise KeyError
    assert _advice(data.ctypes.data + 30_000) == RANDOM
    will_read(data[5_000:9_000])
    will_read(np.zeros(10, dtype=np.uint8))  # which no file is behind
