"""An encoder without a model: fast, deterministic, and with vectors that tests can recompute."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from layerdex.choices import Pooling
from layerdex.records import Encoded, EncoderSettings


@lru_cache(maxsize=1 << 16)
def word_vector(word: str, layer: int, width: int) -> NDArray[np.float64]:
    """A word's direction at a layer, the same in every process."""
    seed = int.from_bytes(hashlib.sha256(f"{layer}:{word}".encode()).digest()[:8], "big")
    vector = np.random.default_rng(seed).standard_normal(width)
    vector.flags.writeable = False
    return vector


class WordEncoder:
    """The mean of random word vectors, another one for each layer; counts what it encodes."""

    def __init__(
        self, *, depth: int = 3, width: int = 16, window: int = 8, fingerprint: str = "words"
    ) -> None:
        self.settings = EncoderSettings(
            model="words",
            revision=None,
            pooling=Pooling.MEAN,
            template="{text}",
            max_length=12,
            depth=depth,
            width=width,
            fingerprint=fingerprint,
            token_budget=64,
            window=window,
        )
        self.encoded: list[str] = []

    def encode(self, texts: Sequence[str], layers: Sequence[int]) -> Encoded:
        self.encoded.extend(texts)
        words = [text.split() for text in texts]
        kept = [one[: self.settings.max_length] for one in words]
        width = self.settings.width
        vectors = np.array(
            [
                [np.sum([word_vector(word, layer, width) for word in one], axis=0) for one in kept]
                for layer in layers
            ]
        ).reshape(len(layers), len(texts), width)
        vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
        return Encoded(
            vectors.astype(np.float32),
            np.array([len(one) for one in kept], dtype=np.int32),
            np.array([len(one) > len(cut) for one, cut in zip(words, kept, strict=True)]),
        )


class CountingWordEncoder(WordEncoder):
    """A `WordEncoder` that knows no emoji, and counts them as unknown tokens, all alike."""

    def encode(self, texts: Sequence[str], layers: Sequence[int]) -> Encoded:
        read = [
            ["[UNK]" if max(word) >= "\U0001f000" else word for word in text.split()]
            for text in texts
        ]
        encoded = super().encode([" ".join(words) for words in read], layers)
        kept = [words[: self.settings.max_length] for words in read]
        n_unknown = np.array([words.count("[UNK]") for words in kept], dtype=np.int32)
        lengths = np.array([len(words) for words in kept])
        return replace(encoded, n_unknown=n_unknown, unreadable=n_unknown == lengths)


class ReportingWordEncoder(WordEncoder):
    """A `WordEncoder` that says after each text how far it is."""

    reports_progress: Literal[True] = True

    def encode(
        self,
        texts: Sequence[str],
        layers: Sequence[int],
        *,
        on_progress: Callable[[int], None] | None = None,
    ) -> Encoded:
        for done in range(1, len(texts) + 1):
            if on_progress is not None:
                on_progress(done)
        return super().encode(texts, layers)


class ConcurrentWordEncoder(ReportingWordEncoder):
    """A `ReportingWordEncoder` whose texts are encoded ahead, in other threads."""

    is_concurrent: Literal[True] = True
