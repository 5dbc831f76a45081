"""A cache of texts' vectors, in memory and of limited size."""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from layerdex.arguments import check_count
from layerdex.forks import ForkLock
from layerdex.records import EncodedVectors, Encoder

logger = logging.getLogger(__name__)

_WINDOW = 1_024  # texts encoded at once: 42 MB for the 13 layers of a BERT-base
# Memory of an entry beside its vectors.
_ENTRY_BYTES = 300
_Key = tuple[str, bytes]


class VectorCache:
    """Caches vectors by the encoder's fingerprint, layers and text.

    It holds at most ``size_bytes``, and evicts the least recently used. Threads may share it: only
    one encodes at a time, so that no text is encoded twice.
    """

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._used_bytes = 0
        self._entries: OrderedDict[_Key, EncodedVectors] = OrderedDict()
        self._lock = ForkLock()
        self._has_warned = False

    @property
    def used_bytes(self) -> int:
        """The size of all entries."""
        return self._used_bytes

    def resize(self, size_bytes: int) -> None:
        """Set the limit, at least 0. Raises `OptionError`."""
        with self._lock:
            self._size_bytes = check_count("size_bytes", size_bytes, least=0)
            self._has_warned = False
            self._shrink()

    def clear(self) -> None:
        """Remove all vectors."""
        with self._lock:
            self._entries.clear()
            self._used_bytes = 0

    def vectors(
        self,
        encoder: Encoder,
        texts: Sequence[str],
        *,
        layers: tuple[int, ...],
        layer: int,
        variant: str = "",
    ) -> EncodedVectors:
        """Return the vectors of texts at one of ``layers``, (n, width) float32.

        Texts that are not in the cache are encoded at all ``layers`` (ascending) in one pass.
        Encoders with the same fingerprint and ``variant``, such as their dtype, share the vectors.
        Raises `ModelError`.
        """
        slot = layers.index(layer)
        result = np.empty((len(texts), encoder.settings.width), dtype=np.float32)
        salt = f"{encoder.settings.fingerprint}/{variant}/{layers}"
        with self._lock:
            missing: dict[_Key, list[int]] = {}
            for i, text in enumerate(texts):
                key = (salt, _digest(text))
                entry = self._entries.get(key)
                if entry is None:
                    missing.setdefault(key, []).append(i)
                else:
                    self._entries.move_to_end(key)
                    result[i] = entry[slot]
            self._encode(encoder, texts, missing, layers, slot, result)
        return result

    def _encode(
        self,
        encoder: Encoder,
        texts: Sequence[str],
        missing: dict[_Key, list[int]],
        layers: tuple[int, ...],
        slot: int,
        result: EncodedVectors,
    ) -> None:
        keys = list(missing)
        for start in range(0, len(keys), _WINDOW):
            window = keys[start : start + _WINDOW]
            vectors = encoder.encode([texts[missing[key][0]] for key in window], layers).vectors
            for i, key in enumerate(window):
                result[missing[key]] = vectors[slot, i]
                entry = vectors[:, i].copy()  # a view would keep its whole window alive
                self._entries[key] = entry
                self._used_bytes += entry.nbytes + _ENTRY_BYTES
            self._shrink()

    def _shrink(self) -> None:
        has_dropped = self._used_bytes > self._size_bytes
        while self._used_bytes > self._size_bytes:
            _, entry = self._entries.popitem(last=False)
            self._used_bytes -= entry.nbytes + _ENTRY_BYTES
        if has_dropped and not self._has_warned and self._size_bytes:
            self._has_warned = True
            logger.warning(
                "the vector cache is full at %d bytes: texts may be encoded again",
                self._size_bytes,
            )


def _digest(text: str) -> bytes:
    # Lone surrogates are not valid UTF-8; the tokenizer refuses them later.
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
