"""The pipeline around the encoder: its texts per second when encoding runs on another device.

The encoder computes nothing: it sleeps as long as a device of the requested rate would take, and
returns a copy of prepared vectors. This measures reading, ids, the catalog, rounding and writing
segments, running in parallel as in a real run, but no tokenising.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.random_models import SHAPES, Shape, make_texts
from benchmarks.results_file import save, spread
from layerdex.choices import Pooling
from layerdex.index import Index
from layerdex.records import Encoded, EncoderSettings

_WINDOW = 4_096
_N_TOKENS = 128


class SleepingEncoder:
    """Returns vectors of a model's shape at ``texts_per_s``, one window at a time."""

    reports_progress: Literal[True] = True
    is_concurrent: Literal[True] = True

    def __init__(self, shape: Shape, texts_per_s: float) -> None:
        self.settings = EncoderSettings(
            model="sleeping",
            revision=None,
            pooling=Pooling.MEAN,
            template="{text}",
            max_length=_N_TOKENS,
            depth=shape.depth,
            width=shape.width,
            fingerprint="sleeping",
            token_budget=1,
            window=_WINDOW,
        )
        self._texts_per_s = texts_per_s
        self._turn = threading.Lock()
        rng = np.random.default_rng(0)
        size = (shape.depth + 1, _WINDOW, shape.width)
        self._vectors = rng.standard_normal(size, dtype=np.float32)
        self._vectors /= np.linalg.norm(self._vectors, axis=2, keepdims=True)

    def encode(
        self,
        texts: Sequence[str],
        layers: Sequence[int],
        *,
        on_progress: Callable[[int], None] | None = None,  # noqa: ARG002
    ) -> Encoded:
        """Sleep, and return vectors at these layers."""
        n = len(texts)
        with self._turn:
            time.sleep(n / self._texts_per_s)
        return Encoded(
            self._vectors[list(layers), :n],
            np.full(n, _N_TOKENS, dtype=np.int32),
            np.zeros(n, dtype=np.bool_),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-windows", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rates", type=float, nargs="+", default=[15_000.0, 25_000.0])
    options = parser.parse_args()
    texts = make_texts(options.n_windows * _WINDOW, n_tokens=_N_TOKENS)
    results: dict[str, Any] = {"rounds": options.rounds, "documents": len(texts), "models": {}}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "texts.jsonl"
        rows = (json.dumps({"id": str(i), "text": text}) for i, text in enumerate(texts))
        source.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
        for name, shape in SHAPES.items():
            results["models"][name] = {
                f"{rate:.0f}": measure(source, shape, rate, options.rounds)
                for rate in [*options.rates, math.inf]
            }
    rates = " ".join(f"{rate:.0f}" for rate in options.rates)
    save(
        "pipeline",
        f"python -m benchmarks.pipeline --n-windows {options.n_windows} "
        f"--rounds {options.rounds} --rates {rates}",
        results,
    )


def measure(source: Path, shape: Shape, texts_per_s: float, rounds: int) -> dict[str, Any]:
    """Return the texts per second of whole runs, and their share of the encoder's rate.

    With an infinite rate the encoder takes no time, and there is no share.
    """
    encoder = SleepingEncoder(shape, texts_per_s)
    speeds = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(dir=source.parent) as folder:
            index = Index.create(Path(folder) / "index", model=encoder)
            start = time.perf_counter()
            report = index.add(source, auto_compact=False)
            speeds.append(report.n_new / (time.perf_counter() - start))
    rates = {"texts_per_s": spread([round(speed) for speed in speeds])}
    if math.isinf(texts_per_s):
        return rates
    return {**rates, "share_of_the_encoder": spread([speed / texts_per_s for speed in speeds])}


if __name__ == "__main__":
    main()
