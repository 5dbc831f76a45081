"""Stored precision: the recall of the 10 nearest neighbours in float32 with float16 and int8.

``DOCUMENTS`` and ``QUERIES`` are jsonl files with text. Everything is encoded once, in float32.
Each index stores the same vectors in its own precision, to which queries are rounded as well.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.results_file import save
from layerdex.choices import Dtype, StoredPrecision
from layerdex.indexer.encoder import TransformerEncoder
from layerdex.layers import resolve_layers
from layerdex.options import RuntimeOptions
from layerdex.records import EncodedVectors
from layerdex.search.knn.neighbors import find_neighbors
from layerdex.storage.catalog.changes import NewVersion
from layerdex.storage.directory import SEGMENTS
from layerdex.storage.store import Store
from layerdex.storage.vectors.codecs import as_stored

K = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("documents", type=Path)
    parser.add_argument("queries", type=Path)
    parser.add_argument("--n-documents", type=int, help="use the first N only")
    parser.add_argument("--n-queries", type=int, help="use the first N only")
    options = parser.parse_args()
    texts = read_texts(options.documents, options.n_documents)
    encoder = TransformerEncoder(runtime=RuntimeOptions(dtype=Dtype.FLOAT32))
    layers = resolve_layers("all", depth=encoder.settings.depth)
    documents = encoder.encode(texts, layers).vectors
    queries = encoder.encode(read_texts(options.queries, options.n_queries), layers).vectors
    measured: dict[StoredPrecision, dict[str, Any]] = {}
    rows: dict[StoredPrecision, list[NDArray[np.int64]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for precision in StoredPrecision:
            path = Path(folder) / precision
            store = Store.create(path, encoder.settings, layers, precision=precision)
            fill(store, texts, documents)
            rows[precision] = [search(store, i, queries[i]) for i in layers]
            measured[precision] = {
                "vector_bytes": sum(file.stat().st_size for file in path.glob(f"{SEGMENTS}/*/*")),
                "index_bytes": sum(f.stat().st_size for f in path.rglob("*") if f.is_file()),
            }
    exact = rows[StoredPrecision.FLOAT32]
    for precision, rows_by_layer in rows.items():
        measured[precision]["recall_at_10"] = {
            str(layer): recall(rows_by_layer[layer], exact[layer]) for layer in layers
        }
    results = {
        "documents": len(texts),
        "queries": queries.shape[1],
        "width": encoder.settings.width,
        "precisions": measured,
    }
    save("precision", command_of(options), results)


def read_texts(path: Path, n: int | None) -> list[str]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in itertools.islice(file, n)]


def fill(store: Store, texts: list[str], vectors: EncodedVectors) -> None:
    """Commit all documents as one segment; document i is in row i + 1."""
    versions = [
        NewVersion(
            f"d{i}", text, None, {}, sha256(text.encode()).digest(), 1, False, None, False, None
        )
        for i, text in enumerate(texts)
    ]
    with store.write() as writer:
        writer.commit(versions, vectors)


def search(store: Store, layer: int, queries: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the rows of the nearest documents, (n_queries, K)."""
    asked = as_stored(queries, store.codec)
    return store.query(lambda snapshot: find_neighbors(snapshot.layer(layer), asked, K).rows)


def recall(rows: NDArray[np.int64], exact: NDArray[np.int64]) -> float:
    """Return the mean share of the exact neighbours that are among ``rows``."""
    shares = [len(set(r) & set(e)) / K for r, e in zip(rows.tolist(), exact.tolist(), strict=True)]
    return round(float(np.mean(shares)), 4)


def command_of(options: argparse.Namespace) -> str:
    limits = {"--n-documents": options.n_documents, "--n-queries": options.n_queries}
    words = [options.documents.name, options.queries.name]
    words += [f"{name} {n}" for name, n in limits.items() if n is not None]
    return f"python -m benchmarks.precision {' '.join(words)}"


if __name__ == "__main__":
    main()
