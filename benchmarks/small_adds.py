"""Many runs of one document each: their time, the segments that they leave, and a search then.

The encoder is a stand-in that takes no time, with 13 layers of width 384 as in the 12-layer MiniLM,
so that only storage is measured. 999 runs leave the most segments.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results_file import save, spread
from layerdex.choices import Pooling
from layerdex.index import Index
from layerdex.records import Encoded, EncoderSettings

DEPTH, WIDTH = 12, 384


class RandomEncoder:
    """A random direction for each text and layer."""

    settings = EncoderSettings(
        model="random",
        revision=None,
        pooling=Pooling.MEAN,
        template="{text}",
        max_length=128,
        depth=DEPTH,
        width=WIDTH,
        fingerprint="random",
        token_budget=4096,
        window=4096,
    )

    def encode(self, texts: Sequence[str], layers: Sequence[int]) -> Encoded:
        """Encode texts at these layers."""
        vectors = np.empty((len(layers), len(texts), WIDTH), dtype=np.float32)
        for at, text in enumerate(texts):
            random = np.random.default_rng(zlib.crc32(text.encode()))
            vectors[:, at] = random.standard_normal((DEPTH + 1, WIDTH))[list(layers)]
        vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
        n = len(texts)
        return Encoded(vectors, np.ones(n, dtype=np.int32), np.zeros(n, dtype=np.bool_))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=999)
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        index = Index.create(Path(folder, "index"), model=RandomEncoder())
        adds = []
        for i in range(options.n):
            start = time.perf_counter()
            index.add([{"id": f"d{i}", "text": f"text {i}"}])
            adds.append(1000 * (time.perf_counter() - start))
        after = search(index, options.rounds)
        index.compact()
        compacted = search(index, options.rounds)
    ratio = after["milliseconds"]["median"] / compacted["milliseconds"]["median"]
    results = {
        "adds": options.n,
        "milliseconds_an_add": {**spread(adds), "p95": round(float(np.percentile(adds, 95)), 1)},
        "milliseconds_of_the_last_100_adds": spread(adds[-100:]),
        "search_after_adds": after,
        "search_after_compact": compacted,
        "ratio": round(ratio, 2),
    }
    save("small_adds", f"python -m benchmarks.small_adds --n {options.n}", results)


def search(index: Index, rounds: int) -> dict[str, Any]:
    """Return the time that a newly opened index takes for its first and for later searches."""
    start = time.perf_counter()
    fresh = Index.open(index._open.store.path, encoder=RandomEncoder())
    fresh.search("a question")
    first = 1000 * (time.perf_counter() - start)
    times = []
    for i in range(rounds):
        start = time.perf_counter()
        fresh.search(f"question {i}")
        times.append(1000 * (time.perf_counter() - start))
    return {
        "segments": fresh.info().n_segments,
        "milliseconds_to_open_and_answer_first": round(first, 1),
        "milliseconds": spread(times),
    }


if __name__ == "__main__":
    main()
