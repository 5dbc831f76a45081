"""Peak memory while indexing 50,000 and 100,000 short texts at all layers of MiniLM."""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.results_file import save
from layerdex.index import Index
from layerdex.indexer.docstrings import collect_docstrings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, nargs="+", default=[50_000, 100_000])
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        print(peak_mb(options.child))
        return
    results = {}
    for n in options.n:
        # A process for each, because a peak never goes down.
        command = [sys.executable, "-m", "benchmarks.memory", "--child", str(n)]
        start = time.perf_counter()
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        seconds = time.perf_counter() - start
        results[str(n)] = {"peak_mb": float(output), "seconds": round(seconds, 1)}
    save("memory", "python -m benchmarks.memory", {"documents": results})


def peak_mb(n: int) -> float:
    """Index n texts and return this process's peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "texts.jsonl"  # windows of a file are read ahead
        with source.open("w", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(row)}\n" for row in short_texts(n))
        index = Index.create(Path(folder) / "index")
        index.add(source)
        if len(index) != n:
            raise RuntimeError(f"{len(index)} documents instead of {n}")
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def short_texts(n: int) -> Iterator[dict[str, str]]:
    """Yield n distinct texts of 5 to 15 words from the standard library's docstrings."""
    words = sorted({w for d in collect_docstrings() for w in d.text.split() if w.isalpha()})
    rng = random.Random(0)
    for i in range(n):
        yield {"id": str(i), "text": " ".join(rng.choices(words, k=rng.randint(5, 15)))}


if __name__ == "__main__":
    main()
