"""What questions cost in an index of a million documents, in a warm process and in cold ones.

The encoder mixes the vectors of a pool in pairs, which takes little time; what it takes is left out
of the time of indexing. ``--vectors`` gives the pool, (n, width) or (n_layers, n, width); without
it the pool is random, around common directions and with few large components, as vectors of texts
are.
A filter keeps 1 % or 57 % of the documents by a number, or 57 % by a time, all of which differ.
The first of two questions with the same filter reads its rows, later ones have them.
``--index`` keeps the index, and measures the one that is there.

``--whole`` adds questions about all documents, each asked once at the deepest layer. Their time is
also given as a share of G32: what half of all products of the vectors with each other take, by
plain products in float32 before and after. One warm question is compared with how fast the
same threads read memory.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.plain_products import share_of_products
from benchmarks.results_file import command_line, save, spread
from layerdex.choices import Pooling
from layerdex.index import Index, LabelTask
from layerdex.limits import Pool
from layerdex.records import Encoded, EncoderSettings
from layerdex.threads import map_in_threads

WINDOW, K, N_LABELS, N_BUCKETS, N_QUERIES = 4_096, 10, 50, 1_000, 1_000
POOL, N_CENTERS, WIDTH = 16_384, 512, 384
FIRST_MINUTE = datetime(2020, 1, 1)
LAYERDEX = [sys.executable, "-m", "layerdex"]
N_MULTIPLIED, READ_BYTES = 16_384, 1 << 28
QUESTIONS = "question"
"""What a text starts with that is none of a document."""


WHOLE: dict[str, Callable[[Index, int], object]] = {
    "dedup": lambda index, layer: index.at(layer=layer).deduplicate(threshold=0.9),
    "suggest": lambda index, layer: index.at(layer=layer).suggest_thresholds(),
    "evaluate": lambda index, layer: index.at(layer=layer).evaluate(LabelTask(k=K)),
}


class MixingEncoder:
    """Returns mixtures of two vectors of a pool, other ones for each document."""

    def __init__(self, pool: NDArray[np.float32], seed: int) -> None:
        self._pool = pool  # (n_layers, n, width)
        self._seed = seed
        self.seconds = 0.0
        self.settings = EncoderSettings(
            model="mixed",
            revision=None,
            pooling=Pooling.MEAN,
            template="{text}",
            max_length=256,
            depth=len(pool) - 1,
            width=pool.shape[2],
            fingerprint="mixed",
            token_budget=1_024,
            window=WINDOW,
        )

    def encode(self, texts: Sequence[str], layers: Sequence[int]) -> Encoded:
        """Encode texts that end with their number, which decides what is mixed."""
        start = time.perf_counter()
        numbers = np.array([int(text.rpartition(" ")[2]) for text in texts])
        n = self._pool.shape[1]
        partners = (numbers + 1 + numbers // n * 7_919 + self._seed) % n
        share = np.float32(0.3 if texts and texts[0].startswith(QUESTIONS) else 0.6)
        vectors = np.empty((len(layers), len(texts), self._pool.shape[2]), np.float32)
        for at, layer in enumerate(layers):
            np.take(self._pool[layer], numbers % n, axis=0, out=vectors[at])
            vectors[at] += share * self._pool[layer][partners]
            vectors[at] /= np.sqrt(np.einsum("ij,ij->i", vectors[at], vectors[at]))[:, None]
        self.seconds += time.perf_counter() - start
        return Encoded(vectors, np.full(len(texts), 9, np.int32), np.zeros(len(texts), np.bool_))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-documents", type=int, default=1_000_000)
    parser.add_argument("--n-layers", type=int, default=7)
    parser.add_argument("--vectors", type=Path, help="a .npy file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--index", type=Path)
    parser.add_argument("--whole", nargs="+", choices=WHOLE, default=[])
    parser.add_argument("--name", help="of the result file")
    options = parser.parse_args()
    encoder = MixingEncoder(read_pool(options), options.seed)
    print("seed", options.seed, file=sys.stderr)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        path = options.index or folder / "index"
        indexing = None if path.exists() else fill(path, encoder, options.n_documents)
        results: dict[str, Any] = {
            "documents": options.n_documents,
            "layers": options.n_layers,
            "width": encoder.settings.width,
            "segments": Index.open(path, encoder=encoder).info().n_segments,
            "seed": options.seed,
            "vectors": "random" if options.vectors is None else options.vectors.name,
            "indexing": indexing,
            **measure(path, encoder, options, bytecode=folder / "bytecode"),
            "whole": measure_whole(path, encoder, options.whole),
        }
    name = options.name or f"scale-{options.n_documents}"
    save(name, command_line("benchmarks.scale"), results)


def read_pool(options: argparse.Namespace) -> NDArray[np.float32]:
    """Return the vectors to mix, (n_layers, n, width), of length 1."""
    rng = np.random.default_rng(options.seed)
    if options.vectors is None:
        scales = (1 + np.arange(WIDTH, dtype=np.float32)) ** -0.4
        layers = []
        for _ in range(options.n_layers):
            centers = rng.standard_normal((N_CENTERS, WIDTH), dtype=np.float32)
            part = rng.standard_normal((POOL, WIDTH), dtype=np.float32)
            part += centers[rng.integers(N_CENTERS, size=POOL)]
            layers.append(part * rng.permutation(scales) + 0.1)
        pool = np.stack(layers)
    else:
        given = np.load(options.vectors).astype(np.float32)
        pool = np.broadcast_to(given, (options.n_layers, *given.shape[-2:])).copy()
        pool = pool[:, rng.permutation(pool.shape[1])]
    pool /= np.linalg.norm(pool, axis=2, keepdims=True)
    return pool


def fill(path: Path, encoder: MixingEncoder, n: int) -> dict[str, Any]:
    """Index n documents, and return the time that everything but the encoder took."""
    start = time.perf_counter()
    with sampled_memory() as peak_mb:
        Index.create(path, model=encoder).add(documents(n))
    whole = time.perf_counter() - start
    return {
        "seconds": round(whole, 1),
        "seconds_of_the_encoder": round(encoder.seconds, 1),
        "documents_per_second": round(n / (whole - encoder.seconds)),
        "peak_mb": round(peak_mb[0]),
    }


def documents(n: int) -> Iterator[dict[str, Any]]:
    """Yield documents with a label, a number that repeats, and a time of their own."""
    for i in range(n):
        yield {
            "id": f"d{i}",
            "text": f"a short text, as an intent or a title is, of document {i}",
            "label": f"label {i * 7_919 % N_LABELS}",
            "bucket": i * 7_919 % N_BUCKETS,
            "time": (FIRST_MINUTE + timedelta(minutes=i)).isoformat(),
        }


def measure(
    path: Path, encoder: MixingEncoder, options: argparse.Namespace, *, bytecode: Path
) -> dict[str, Any]:
    """Time questions and cold processes alternately; the first question of each kind is apart."""
    n, rounds = options.n_documents, options.rounds
    index = Index.open(path, encoder=encoder)
    middle = (FIRST_MINUTE + timedelta(minutes=round(0.43 * n))).isoformat()
    batch = [f"{QUESTIONS} {i * 31}" for i in range(N_QUERIES)]
    text = f"{QUESTIONS} 4711"
    questions: dict[str, Callable[[], object]] = {
        "search": lambda: index.search(text, k=K),
        "search, 1 % by a number": lambda: index.search(text, k=K, where="bucket<10"),
        "search, 57 % by a number": lambda: index.search(text, k=K, where="bucket<570"),
        "search, 57 % by a time": lambda: index.search(text, k=K, where=f"time>={middle}"),
        "classify": lambda: index.classify([text], k=K),
        "batch of 1,000": lambda: index.search(batch, k=K),
    }
    commands = {
        "info": [*LAYERDEX, "info", str(path)],
        "get": [*LAYERDEX, "get", str(path), f"d{n // 2}"],
        "search --like": [*LAYERDEX, "search", str(path), "--like", f"d{n // 2}"],
    }
    # As it is installed: some environments keep Python from writing bytecode, which takes a second.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(bytecode)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    cold: dict[str, Callable[[], object]] = {
        name: partial(subprocess.run, command, check=True, capture_output=True, env=environment)
        for name, command in commands.items()
    }
    for run in cold.values():
        run()
    with sampled_memory() as peak_mb:
        first = {name: round(timed(question), 3) for name, question in questions.items()}
        seconds: dict[str, list[float]] = {name: [] for name in (*questions, *cold)}
        shares: list[float] = []
        for _ in range(rounds):
            for name, run in (*questions.items(), *cold.items()):
                seconds[name].append(timed(run))
            read_bytes_s = read_memory()
            layer_bytes = n * encoder.settings.width * 2
            shares.append(layer_bytes / seconds["search"][-1] / read_bytes_s)
    return {
        "rounds": rounds,
        "search_share_of_memory_bandwidth": spread(shares),
        "first_seconds": first,
        "warm_seconds": {name: spread(seconds[name]) for name in questions},
        "cold_seconds": {name: spread(seconds[name]) for name in cold},
        "peak_mb": round(peak_mb[0]),
    }


def measure_whole(
    path: Path, encoder: MixingEncoder, names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Ask each question once, and return its time, its share of G32 and the most memory."""
    index = Index.open(path, encoder=encoder)
    layer = index.layers[-1]
    with index._open.store.read() as snapshot:
        sample = snapshot.layer(layer).gather(snapshot.rows()[:N_MULTIPLIED])
    results = {}
    for name in names:
        with sampled_memory() as peak_mb:
            taken = share_of_products(partial(WHOLE[name], index, layer), sample, len(index))
        results[name] = {
            **{figure: round(value, 3) for figure, value in taken.items()},
            "peak_mb": round(peak_mb[0]),
        }
        print(name, results[name], file=sys.stderr)
    return results


def read_memory() -> float:
    """Return the bytes per second that the threads of a question read from memory."""
    n_threads = Pool.BLAS.size()
    parts = np.ones((n_threads, READ_BYTES // n_threads // 4), np.float32)
    start = time.perf_counter()
    map_in_threads(lambda part: float(np.dot(part, part)), list(parts), n_threads=n_threads)
    return parts.nbytes / (time.perf_counter() - start)


def timed(run: Callable[[], object]) -> float:
    """Return the seconds that a call took."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@contextlib.contextmanager
def sampled_memory() -> Iterator[list[float]]:
    """Yield a list whose only item is the most memory so far, beside mapped files, in MB."""
    peak, done = [0.0], threading.Event()

    def sample() -> None:
        while not done.wait(0.02):
            status = Path("/proc/self/status").read_text(encoding="ascii")
            peak[0] = max(peak[0], int(status.partition("RssAnon:")[2].split()[0]) / 1_000)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


if __name__ == "__main__":
    main()
