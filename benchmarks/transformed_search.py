"""Queries of transformed vectors: the cost of the first in a process, of later ones, and of many.

The index holds random float16 vectors, 100,000 documents of width 384, in one segment, whose layer
is read before anything is measured. ``first`` also computes the lengths of all vectors, which
``later`` queries reuse; ``17 at once`` transform all documents instead of scanning. One thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.search import WIDTH, fill
from layerdex.index import Index
from layerdex.index.stored_transforms import load_transforms
from layerdex.records import Vectors
from layerdex.search.knn.neighbors import find_neighbors
from layerdex.search.vectors.transform import Transform, TransformedVectors
from layerdex.storage.vectors.faiss_library import load_faiss
from layerdex.storage.vectors.layer_vectors import LayerVectors

_K, _N_RUNS, _SHRINKAGE = 10, 9, 0.5


def main() -> None:
    """Print the median, minimum and maximum of nine runs, in milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-documents", type=int, default=100_000)
    options = parser.parse_args()
    load_faiss().omp_set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        fill(path, options.n_documents)
        index = Index.open(path)
        index.compact()
        index.fit_transforms(shrinkage=_SHRINKAGE)
        with index._open.store.read() as snapshot:
            stored = load_transforms(index._open.store, snapshot, None).by_name
            layer = snapshot.layer(0)
            queries = np.random.default_rng(1).standard_normal((17, WIDTH), dtype=np.float32)
            _measure("plain", lambda: find_neighbors(layer, queries[:1], _K))
            for how, transforms in stored.items():
                _measure_transformed(how, transforms[0], layer, transforms[0].apply(queries))


def _measure_transformed(
    how: str, transform: Transform, layer: LayerVectors, queries: Vectors
) -> None:
    def ask_first() -> None:  # a new transform has computed no lengths yet
        source = TransformedVectors(Transform(transform.mean, transform.matrix), layer)
        find_neighbors(source, queries[:1], _K)

    source = TransformedVectors(transform, layer)
    _measure(f"{how}, first", ask_first)
    _measure(f"{how}, later", lambda: find_neighbors(source, queries[:1], _K))
    _measure(f"{how}, 17 at once", lambda: find_neighbors(source, queries, _K))


def _measure(name: str, ask: Callable[[], object]) -> None:
    ask()
    times = []
    for _ in range(_N_RUNS):
        start = time.perf_counter()
        ask()
        times.append((time.perf_counter() - start) * 1000)
    print(f"{name}: {np.median(times):.1f} ({min(times):.1f} to {max(times):.1f})", flush=True)


if __name__ == "__main__":
    main()
