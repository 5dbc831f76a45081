"""Encoding speed: all layers in one pass, compared with other programs.

Every system gets the same texts, truncated to 128 tokens, in alternating order, after a warm-up;
ratios are taken within a round. Shares of the matrix ceiling count the linear layers' operations on
real tokens only. The ceiling is measured just before and just after each run, because the speed of
a shared machine changes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.ceiling import Measure, ceilings
from benchmarks.peers import DEFAULT, MAX_LENGTH, PLAIN, load_peers
from benchmarks.results_file import save, spread
from layerdex.choices import EngineName
from layerdex.indexer.docstrings import collect_docstrings
from layerdex.indexer.encoder import TransformerEncoder
from layerdex.options import EncoderOptions, RuntimeOptions

DEPTH = 6
# Multiplications and additions per token: each block has four products of 384 × 384 and two of
# 384 × 1536.
FLOP_PER_TOKEN = 2 * DEPTH * (4 * 384 * 384 + 2 * 384 * 1536)
LAYERS = {"all layers": range(DEPTH + 1), **{f"layer {k} only": [k] for k in range(DEPTH + 1)}}

Systems = dict[str, Callable[[Sequence[str]], object]]
_OPTIONS = EncoderOptions(max_length=MAX_LENGTH)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-texts", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--short", type=Path, help="jsonl of short texts, such as Banking77's")
    options = parser.parse_args()
    systems: Systems = {**load_peers(), **dict(_own())}
    corpora = {"docstrings": [document.text for document in collect_docstrings()]}
    if options.short is not None:
        lines = options.short.read_text(encoding="utf-8").splitlines()
        corpora["short"] = [json.loads(line)["text"] for line in lines]
    counter = TransformerEncoder(_OPTIONS, runtime=RuntimeOptions(device="cpu"))
    measures = ceilings()
    precision = counter.engine.dtype
    results: dict[str, Any] = {
        "rounds": options.rounds,
        "precision": precision,
        "max_length": MAX_LENGTH,
        "ceilings_gflops_before": {name: round(gflops()) for name, gflops in measures.items()},
    }
    for name, texts in corpora.items():
        chosen = texts[:: max(1, len(texts) // options.n_texts)][: options.n_texts]
        n_tokens = int(counter.encode(chosen, [0]).n_tokens.sum())
        seconds, roofs = measure(systems, chosen, options.rounds, measures[precision])
        results[name] = summarize(seconds, roofs, len(chosen), n_tokens)
    command = f"python -m benchmarks.encode --n-texts {options.n_texts} --rounds {options.rounds}"
    save("encode", command + (" --short SHORT.jsonl" if options.short else ""), results)


def _own() -> Iterator[tuple[str, Any]]:
    for engine in (EngineName.TORCH, EngineName.OPENVINO):
        for name, layers in LAYERS.items():
            if name == "all layers" or engine is EngineName.OPENVINO or layers == [DEPTH]:
                # An encoder for each, because an encoder caches only a few compiled depths.
                runtime = RuntimeOptions(device="cpu", engine=engine)
                encoder = TransformerEncoder(_OPTIONS, runtime=runtime)
                yield (
                    f"(e) layerdex, {engine}, {name}",
                    lambda texts, e=encoder, chosen=layers: e.encode(texts, chosen),
                )


def measure(
    systems: Systems, texts: Sequence[str], rounds: int, ceiling: Measure
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return each system's seconds in each round, and the ceiling's GFLOP/s around that run."""
    for encode in systems.values():
        encode(texts)
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    roofs: dict[str, list[float]] = {name: [] for name in systems}
    for number in range(rounds):
        order = list(systems) if number % 2 == 0 else list(systems)[::-1]
        before = ceiling()
        for name in order:
            start = time.perf_counter()
            systems[name](texts)
            seconds[name].append(time.perf_counter() - start)
            after = ceiling()
            roofs[name].append((before + after) / 2)
            before = after
    return seconds, roofs


def summarize(
    seconds: dict[str, list[float]], roofs: dict[str, list[float]], n_texts: int, n_tokens: int
) -> dict[str, Any]:
    """Return rates, shares of the ceiling, and each system's speed as a multiple of others'."""
    every = "(e) layerdex, openvino, all layers"

    def ratio(name: str, other: str) -> dict[str, float]:
        pairs = zip(seconds[name], seconds[other], strict=True)
        return spread([theirs / ours for ours, theirs in pairs])

    gflop = n_tokens * FLOP_PER_TOKEN / 1e9
    rates = {name: spread([n_tokens / s for s in all_s]) for name, all_s in seconds.items()}
    return {
        "texts": n_texts,
        "tokens": n_tokens,
        "tokens_per_second": rates,
        "share_of_ceiling": {
            name: spread([gflop / s / roof for s, roof in zip(all_s, roofs[name], strict=True)])
            for name, all_s in seconds.items()
            if "only" not in name
        },
        "ceiling_gflops": spread([roof for of_system in roofs.values() for roof in of_system]),
        "all_layers_as_a_multiple_of": {
            name: ratio(every, name) for name in seconds if name != every
        },
        "speed_against_all_layers": {
            name: ratio(name, every) for name in seconds if name.startswith("(e)")
        },
        "torch_all_layers_as_a_multiple_of": {
            name: ratio("(e) layerdex, torch, all layers", name) for name in (PLAIN, DEFAULT)
        },
    }


if __name__ == "__main__":
    main()
