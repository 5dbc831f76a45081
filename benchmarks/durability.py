"""Durability: the cost of flushes, and how long readers wait while others write."""

from __future__ import annotations

import argparse
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.memory import short_texts
from benchmarks.results_file import save, spread
from layerdex.index import Index
from layerdex.records import Encoded, Encoder
from tests.encoders import WordEncoder
from tests.storage.crowd import read, write
from tests.storage.scenes import CONTEXT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--n-words", type=int, default=4_096, help="texts for random vectors")
    parser.add_argument("--n-minilm", type=int, default=1_024, help="texts for MiniLM; 0 for none")
    parser.add_argument("--n-commits", type=int, default=50, help="commits of each of two writers")
    options = parser.parse_args()
    flushes: dict[str, Any] = {
        "noise, 7 layers of width 384, windows of 256": cost_of_flushes(
            lambda: _Noise(depth=6, width=384, window=256), options.n_words, options.rounds
        )
    }
    if options.n_minilm:
        flushes["minilm"] = cost_of_flushes(_minilm(), options.n_minilm, options.rounds)
    save(
        "durability",
        "python -m benchmarks.durability",
        {
            "flushes": flushes,
            "readers": wait_of_readers(options.n_commits),
        },
    )


class _Noise(WordEncoder):
    """Returns random vectors in no time, so that only storage is measured."""

    def encode(self, texts: Sequence[str], layers: Sequence[int]) -> Encoded:
        shape = (len(layers), len(texts), self.settings.width)
        vectors = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
        n_tokens = np.ones(len(texts), dtype=np.int32)
        return Encoded(vectors, n_tokens, np.zeros(len(texts), dtype=np.bool_))


def _minilm() -> Callable[[], Encoder]:
    from layerdex.indexer.encoder import TransformerEncoder

    encoder = TransformerEncoder()
    return lambda: encoder


def cost_of_flushes(encoder: Callable[[], Encoder], n: int, rounds: int) -> dict[str, Any]:
    """Index n texts with and without flushes in turn; return seconds, and ratios within rounds."""
    texts = list(short_texts(n))
    _seconds(encoder(), texts)  # the very first run includes imports and kernels
    with_flushes, without = [], []
    for _ in range(rounds):
        with_flushes.append(_seconds(encoder(), texts))
        with _no_flushes():
            without.append(_seconds(encoder(), texts))
    ratios = [a / b for a, b in zip(with_flushes, without, strict=True)]
    return {
        "texts": n,
        "seconds": spread(with_flushes),
        "seconds_without": spread(without),
        "ratio": spread(ratios),
    }


def _seconds(encoder: Encoder, texts: list[dict[str, str]]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        index = Index.create(Path(folder) / "index", model=encoder)
        start = time.perf_counter()
        index.add(texts)
        return time.perf_counter() - start


@contextmanager
def _no_flushes() -> Iterator[None]:
    """Prevent Layerdex and SQLite from flushing anything."""
    connect = sqlite3.connect

    class Careless(sqlite3.Connection):
        def execute(self, statement: str, *rest: Any) -> sqlite3.Cursor:
            off = statement.replace("synchronous=FULL", "synchronous=OFF")
            return super().execute(off, *rest)

    def careless(*arguments: Any, **options: Any) -> sqlite3.Connection:
        options.setdefault("factory", Careless)  # readers have their own
        opened: sqlite3.Connection = connect(*arguments, **options)
        return opened

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(sqlite3, "connect", careless)
        yield


def wait_of_readers(n_commits: int) -> dict[str, Any]:
    """Let eight processes read while two write; return the longest wait in milliseconds.

    A wait is the time of a question during which it neither runs nor waits for a core.
    """
    done, reports = CONTEXT.Event(), CONTEXT.Queue()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        Index.create(path, model=WordEncoder())
        readers = [CONTEXT.Process(target=read, args=(path, done, reports)) for _ in range(8)]
        writers = [
            CONTEXT.Process(target=write, args=(path, i, n_commits, reports)) for i in (1, 2)
        ]
        for process in [*readers, *writers]:
            process.start()
        results = [reports.get() for _ in writers]
        done.set()
        results += [reports.get() for _ in readers]
        for process in [*readers, *writers]:
            process.join()
    if failed := [result for result in results if result[0] == "failed"]:
        raise RuntimeError(failed[0][1])
    waits = [result[2] for result in results if result[0] == "read"]
    return {
        "commits": 2 * n_commits,
        "questions": sum(result[1] for result in results if result[0] == "read"),
        "longest_wait_ms": round(1e3 * max(waits), 1),
    }


if __name__ == "__main__":
    main()
