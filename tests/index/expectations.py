"""Answers recomputed from the words' vectors, without an index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tests.encoders import word_vector

WIDTH = 16
WORDS = [f"word{i}" for i in range(40)]

Row = dict[str, object]


def corpus(n: int, *, seed: int = 0) -> list[Row]:
    """Documents of three to six words, labelled, with metadata; all texts different."""
    random = np.random.default_rng(seed)
    rows: list[Row] = []
    for i in range(n):
        words = random.choice(WORDS, size=int(random.integers(2, 6)), replace=False)
        text = " ".join([*words, f"own{i}"])
        label = f"l{int(random.integers(3))}"
        rows.append({"id": f"d{i}", "text": text, "label": label, "size": i, "even": i % 2 == 0})
    return rows


def texts_of(rows: Sequence[Mapping[str, object]]) -> list[str]:
    return [str(row["text"]) for row in rows]


def vectors_of(texts: Sequence[str], layer: int) -> NDArray[np.float64]:
    """The stored vectors of texts at a layer, (n, width), decoded to unit length."""
    sums = np.array(
        [np.sum([word_vector(w, layer, WIDTH) for w in text.split()], axis=0) for text in texts]
    )
    unit = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    stored = unit.astype(np.float32).astype(np.float16).astype(np.float64)
    return np.asarray(stored / np.linalg.norm(stored, axis=1, keepdims=True))


def nearest(
    query: str, rows: Sequence[Mapping[str, object]], layer: int, k: int
) -> list[tuple[str, float]]:
    """The ids and similarities of the k nearest of ``rows``, which are in row order."""
    if not rows:
        return []
    similarities = (vectors_of([query], layer) @ vectors_of(texts_of(rows), layer).T)[0]
    order = np.argsort(-np.round(similarities, 5), kind="stable")[:k]
    return [(str(rows[i]["id"]), float(similarities[i])) for i in order]
