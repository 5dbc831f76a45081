"""The vector cache."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from layerdex.indexer.vector_cache import VectorCache
from tests.encoders import WordEncoder


def test_threads_never_encode_a_text_twice() -> None:
    cache, encoder = VectorCache(1 << 20), WordEncoder()
    texts = [f"text {i}" for i in range(50)]

    def query(layer: int) -> None:
        cache.vectors(encoder, texts, layers=(0, 1, 2, 3), layer=layer)

    threads = [threading.Thread(target=query, args=(layer,)) for layer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert encoder.encoded == texts


def test_fingerprints_layers_and_variants_are_kept_apart() -> None:
    cache = VectorCache(1 << 20)
    one, other = WordEncoder(), WordEncoder(fingerprint="others")
    for layers, variant in (((1,), ""), ((1, 2), ""), ((1,), "cuda")):
        cache.vectors(one, ["a"], layers=layers, layer=1, variant=variant)
    cache.vectors(other, ["a"], layers=(1,), layer=1)
    assert (one.encoded, other.encoded) == (["a"] * 3, ["a"])
    assert cache.used_bytes == 5 * 16 * 4 + 4 * 300
    cache.clear()
    assert cache.used_bytes == 0


def test_vectors_that_do_not_fit_are_right_nevertheless(caplog: pytest.LogCaptureFixture) -> None:
    cache, encoder = VectorCache(1_000), WordEncoder()
    texts = [f"text {i % 7}" for i in range(20)]
    expected = WordEncoder().encode(texts, [2]).vectors[0]
    for _ in range(2):
        found = cache.vectors(encoder, texts, layers=(0, 2), layer=2)
        np.testing.assert_array_equal(found, expected)
    assert cache.used_bytes <= 1_000
    assert [record.message for record in caplog.records] == [
        "the vector cache is full at 1000 bytes: texts may be encoded again"
    ]
