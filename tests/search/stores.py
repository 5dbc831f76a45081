"""Indexes of given vectors, without an encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from layerdex.choices import StoredPrecision
from layerdex.records import Scalar
from layerdex.storage.catalog.changes import NewVersion
from layerdex.storage.store import Store
from tests.encoders import WordEncoder


def unit_codes(vectors: NDArray[np.float64]) -> NDArray[np.float16]:
    """Normalise and round vectors as an encoder does, (…, width)."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / lengths, dtype=np.float16)


def random_codes(n: int, width: int, *, seed: int = 0) -> NDArray[np.float16]:
    return unit_codes(np.random.default_rng(seed).standard_normal((n, width)))


def create(
    path: Path,
    *,
    width: int,
    n_layers: int = 1,
    precision: StoredPrecision = StoredPrecision.FLOAT16,
) -> Store:
    encoder = WordEncoder(depth=n_layers - 1, width=width)
    return Store.create(path, encoder.settings, tuple(range(n_layers)), precision=precision)


def add(
    store: Store,
    vectors: NDArray[np.floating],
    *,
    texts: Sequence[str] | None = None,
    labels: Sequence[str | None] | None = None,
    metadata: Sequence[dict[str, Scalar]] | None = None,
) -> None:
    """Commit one segment of (n_layers, n, width) or (n, width).

    The document in row r has the id ``d{r - 1}``.
    """
    layers = vectors if vectors.ndim == 3 else vectors[None]
    n = layers.shape[1]
    with store.read() as snapshot:
        start = int(snapshot.setting("next_row")) - 1
    texts = [f"text {start + i}" for i in range(n)] if texts is None else texts
    labels = [None] * n if labels is None else labels
    metadata = [{}] * n if metadata is None else metadata
    versions = [
        NewVersion(
            id=f"d{start + i}",
            text=text,
            label=label,
            metadata=fields,
            content_hash=hashlib.sha256(text.encode()).digest(),
            n_tokens=1,
            truncated=False,
            n_unknown=None,
            unreadable=False,
            replaces=None,
        )
        for i, (text, label, fields) in enumerate(zip(texts, labels, metadata, strict=True))
    ]
    with store.write() as writer:
        writer.commit(versions, layers.astype(np.float32))
