"""Classification of a single text, compared with a search for it, on many documents.

Classification reads and checks the nearest documents, not every labelled one, so it should cost
little more than a search. The vectors are random, of width 384, at one layer; the encoder takes no
time. Measured with a label on every document, on one in ten, and on one in a hundred.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results_file import save, spread
from layerdex.choices import Pooling
from layerdex.index import Index
from layerdex.records import Encoded, EncoderSettings
from layerdex.storage.catalog.changes import NewVersion
from layerdex.storage.store import Store

WIDTH, WINDOW, K, N_LABELS = 384, 4_096, 10, 50
ONE_IN = (1, 10, 100)


class RandomEncoder:
    """Returns random vectors in no time."""

    def __init__(self) -> None:
        self.settings = EncoderSettings(
            "random", None, Pooling.MEAN, "{text}", 256, 0, WIDTH, "random", 1_024, WINDOW
        )
        self._rng = np.random.default_rng(1)

    def encode(self, texts: Sequence[str], layers: Sequence[int]) -> Encoded:
        """Return random vectors at these layers."""
        vectors = self._rng.standard_normal((len(layers), len(texts), WIDTH), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
        return Encoded(vectors, np.full(len(texts), 3, np.int32), np.zeros(len(texts), np.bool_))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-documents", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    for one_in in ONE_IN:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "index"
            fill(path, options.n_documents, one_in)
            results.append({"one_labelled_in": one_in, **measure(path, options.rounds)})
    save(
        "classify",
        f"python -m benchmarks.classify --n-documents {options.n_documents}",
        {"documents": options.n_documents, "k": K, "labelled": results},
    )


def fill(path: Path, n: int, one_in: int) -> None:
    """Commit random unit vectors; one document in ``one_in`` has a label."""
    encoder = RandomEncoder()
    store = Store.create(path, encoder.settings, (0,))
    with store.write() as writer:
        for start in range(0, n, WINDOW):
            numbers = range(start, min(start + WINDOW, n))
            vectors = encoder.encode([""] * len(numbers), [0]).vectors
            writer.commit([_version(i, one_in) for i in numbers], vectors)


def _version(i: int, one_in: int) -> NewVersion:
    text = f"text {i}"
    label = f"label {i % N_LABELS}" if i % one_in == 0 else None
    digest = hashlib.sha256(text.encode()).digest()
    return NewVersion(f"d{i}", text, label, {}, digest, 3, False, None, False, None)


def measure(path: Path, n_rounds: int) -> dict[str, Any]:
    """Time a search and a classification alternately, after a warm-up of each."""
    index = Index.open(path, encoder=RandomEncoder())
    questions: dict[str, Callable[[], object]] = {
        "search": lambda: index.search("a text", k=K),
        "classify": lambda: index.classify(["a text"], k=K),
    }
    seconds: dict[str, list[float]] = {name: [] for name in questions}
    for i in range(n_rounds + 1):
        for name, question in questions.items():
            start = time.perf_counter()
            question()
            if i:
                seconds[name].append(time.perf_counter() - start)
    pairs = zip(seconds["classify"], seconds["search"], strict=True)
    return {
        "seconds": {name: spread(times) for name, times in seconds.items()},
        "classify_to_search": spread([classified / searched for classified, searched in pairs]),
    }


if __name__ == "__main__":
    main()
