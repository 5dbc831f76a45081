"""Search: ids compared with NumPy brute force, with and without filters, and opening time.

The index holds random float16 vectors: 100,000 documents, 7 layers, width 384.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.results_file import save, spread
from layerdex.choices import Pooling
from layerdex.index import Index
from layerdex.records import EncoderSettings, Rows
from layerdex.search.knn.neighbors import find_neighbors
from layerdex.storage.catalog.changes import NewVersion
from layerdex.storage.store import Store

LAYERS = tuple(range(7))
WIDTH, WINDOW, K = 384, 4_096, 10
SHARES = (1.0, 0.5, 0.01, 0.001)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-documents", type=int, default=100_000)
    parser.add_argument("--n-queries", type=int, default=1_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        vectors = fill(path, options.n_documents)
        opening = []
        for _ in range(5):
            start = time.perf_counter()
            index = Index.open(path)
            opening.append(time.perf_counter() - start)
        results: dict[str, Any] = {
            "documents": options.n_documents,
            "layers": len(LAYERS),
            "queries": options.n_queries,
            "k": K,
            "open_seconds": spread(opening),
            "shares": [compare(index, vectors, share, options.n_queries) for share in SHARES],
        }
    save("search", "python -m benchmarks.search", results)


def fill(path: Path, n: int) -> NDArray[np.float16]:
    """Commit random unit vectors and return them, (n_layers, n, width)."""
    settings = EncoderSettings(
        "random", None, Pooling.MEAN, "{text}", 256, LAYERS[-1], WIDTH, "random", 1_024, WINDOW
    )
    store = Store.create(path, settings, LAYERS)
    rng = np.random.default_rng(0)
    parts = []
    with store.write() as writer:
        for start in range(0, n, WINDOW):
            size = min(WINDOW, n - start)
            part = rng.standard_normal((len(LAYERS), size, WIDTH), dtype=np.float32)
            part /= np.linalg.norm(part, axis=2, keepdims=True)
            parts.append(part.astype(np.float16))
            versions = [_version(i) for i in range(start, start + size)]
            writer.commit(versions, part)
    return np.concatenate(parts, axis=1)


def _version(i: int) -> NewVersion:
    return NewVersion(
        f"d{i}", f"text {i}", None, {"bucket": i % 1000}, b"%d" % i, 3, False, None, False, None
    )


def compare(
    index: Index, stored: NDArray[np.float16], share: float, n_queries: int
) -> dict[str, Any]:
    """Count ids that differ from brute force other than by ties, and time batches and queries."""
    rng = np.random.default_rng(1)
    n_buckets = round(1000 * share)
    rows: Rows | None = (
        None if share == 1.0 else np.flatnonzero(np.arange(stored.shape[1]) % 1000 < n_buckets) + 1
    )
    positions = np.arange(stored.shape[1]) if rows is None else rows - 1
    wrong = {"batch": 0, "single": 0}
    seconds: dict[str, list[float]] = {"batch": [], "single": []}
    for layer in LAYERS:
        queries = rng.standard_normal((n_queries, WIDTH), dtype=np.float32)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        expected = brute_force(stored[layer], positions, queries)
        for way, size in (("batch", n_queries), ("single", 1)):
            n_tried = n_queries if way == "batch" else 100
            for start in range(0, n_tried, size):
                start_s = time.perf_counter()
                with index._open.store.read() as snapshot:
                    chosen = queries[start : start + size]
                    neighbors = find_neighbors(snapshot.layer(layer), chosen, K, rows=rows)
                seconds[way].append((time.perf_counter() - start_s) / size)
                wrong[way] += n_wrong(neighbors.rows - 1, expected[start : start + size], positions)
    return {
        "share_kept_by_filter": share,
        "n_kept": len(positions),
        "wrong_ids": wrong,
        "seconds_per_query": {way: spread(times) for way, times in seconds.items()},
    }


def brute_force(
    stored: NDArray[np.float16], positions: Rows, queries: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return all similarities, (n_queries, n), in float64."""
    vectors = stored[positions].astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    similarities: NDArray[np.float64] = queries.astype(np.float64) @ vectors.T
    return similarities


def n_wrong(rows: Rows, expected: NDArray[np.float64], positions: Rows) -> int:
    """Count ranks whose similarity differs from that of brute force by more than 1e-5."""
    k = min(K, expected.shape[1])
    best = -np.sort(-np.partition(expected, -k, axis=1)[:, -k:], axis=1)
    at = np.searchsorted(positions, rows[:, :k])
    similarities = np.take_along_axis(expected, at, axis=1)
    is_repeated = np.array([len(set(row)) < k for row in rows[:, :k].tolist()])
    return int((np.abs(similarities - best) > 1e-5).sum() + is_repeated.sum())


if __name__ == "__main__":
    main()
