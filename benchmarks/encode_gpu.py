"""Encoding on GPUs: texts per second with all layers pooled, and the share of the matrix ceiling.

Models of BERT-base's and MiniLM's shapes with random weights and a made-up vocabulary, so that
nothing is downloaded: speed does not depend on the weights' values. "engine" goes from tokens to
vectors; "encode" includes tokenising. The share of the ceiling counts only the linear layers of the
blocks, and only real tokens. If the engine runs texts without padding, the texts of mixed lengths
also run with padding, in turn.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.random_models import SHAPES, Shape, make_texts, save_random_model
from benchmarks.results_file import save, spread
from layerdex.choices import Dtype, EngineName
from layerdex.indexer.encoder import TransformerEncoder
from layerdex.indexer.engines.devices import choose_devices
from layerdex.indexer.engines.protocol import Engine, make_batch
from layerdex.indexer.engines.torch.engine import TorchEngine
from layerdex.indexer.models.model_folder import find_model
from layerdex.indexer.text.batches import plan_batches
from layerdex.indexer.text.templates import PLAIN
from layerdex.indexer.text.tokenizer import TextTokenizer, Tokens
from layerdex.options import EncoderOptions, RuntimeOptions

_DTYPES = {Dtype.FLOAT32: torch.float32, Dtype.BFLOAT16: torch.bfloat16}
_MAX_LENGTH = 512


@dataclass(frozen=True)
class Options:
    """The options of the command line."""

    device: str
    n_texts: int
    rounds: int
    window: int
    models: list[str]
    try_packing: bool


def main() -> None:
    options = parse_options()
    devices = choose_devices(options.device)
    results: dict[str, Any] = {
        "devices": [describe_device(device) for device in devices],
        "rounds": options.rounds,
        "models": {},
    }
    for name in options.models:
        with TemporaryDirectory() as folder:
            path = save_random_model(SHAPES[name], Path(folder))
            results["models"][name] = measure_model(path, SHAPES[name], options, devices)
    command = (
        f"python -m benchmarks.encode_gpu --device {options.device} --n-texts {options.n_texts} "
        f"--rounds {options.rounds} --window {options.window} --models {' '.join(options.models)}"
        f"{' --try-packing' if options.try_packing else ''}"
    )
    kind = "encode_gpu" if devices[0].type == "cuda" else "encode_gpu_on_cpu"
    save(kind, command, results)


def parse_options() -> Options:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (all GPUs) or cuda:N")
    parser.add_argument("--n-texts", type=int, default=65_536)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--window", type=int, default=16_384, help="texts encoded at a time")
    parser.add_argument("--models", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument(
        "--try-packing",
        action="store_true",
        help="pack even without a kernel for it, to try the script",
    )
    return Options(**vars(parser.parse_args()))


def measure_model(
    path: Path, shape: Shape, options: Options, devices: tuple[torch.device, ...]
) -> dict[str, Any]:
    """Return a model's speeds, their share of the ceiling, and its cosine to float32."""
    encoder = load(path, options, Dtype.AUTO)
    precision = encoder.engine.dtype
    ceiling = sum(measure_ceiling(device, _DTYPES[precision]) for device in devices)
    corpora = {
        "128 tokens each": make_texts(options.n_texts, n_tokens=128),
        "mixed lengths": make_texts(options.n_texts, n_tokens=None),
    }
    mixed = corpora["mixed lengths"]
    return {
        "precision": str(precision),
        "token_budget": encoder.settings.token_budget,
        "matrix_ceiling_tflop_per_s": round(ceiling / 1e12, 3),
        "cosine_to_float32": compare(path, encoder, options, mixed[:512]),
        **{
            name: measure_texts(encoder, shape, options, ceiling, texts)
            for name, texts in corpora.items()
        },
        "mixed lengths, with and without padding": compare_padding(path, encoder, options, mixed),
    }


def load(path: Path, options: Options, precision: Dtype) -> TransformerEncoder:
    return TransformerEncoder(
        EncoderOptions(model=str(path), max_length=_MAX_LENGTH),
        runtime=RuntimeOptions(EngineName.TORCH, options.device, precision),
        window=options.window,
    )


def measure_texts(
    encoder: TransformerEncoder, shape: Shape, options: Options, ceiling: float, texts: list[str]
) -> dict[str, Any]:
    layers = tuple(range(shape.depth + 1))
    windows = [texts[i : i + options.window] for i in range(0, len(texts), options.window)]
    tokens = [tokenize(encoder, window) for window in windows]
    n_tokens = int(sum(window.lengths.sum() for window in tokens))
    budget = encoder.settings.token_budget
    engine_s = time_rounds(
        lambda: [
            run_engine(encoder.engine, window, layers, token_budget=budget) for window in tokens
        ],
        options.rounds,
    )
    encode_s = time_rounds(
        lambda: [encoder.encode(window, layers) for window in windows], options.rounds
    )
    operations = n_tokens * shape.linear_operations_per_token
    return {
        "texts": len(texts),
        "tokens_per_text": round(n_tokens / len(texts), 1),
        "engine_texts_per_s": spread([len(texts) / s for s in engine_s]),
        "encode_texts_per_s": spread([len(texts) / s for s in encode_s]),
        "engine_share_of_ceiling": spread([operations / s / ceiling for s in engine_s]),
        **measure_index(encoder, texts, options.rounds, median(engine_s)),
    }


def measure_index(
    encoder: TransformerEncoder, texts: list[str], rounds: int, engine_s: float
) -> dict[str, Any]:
    """Return the speed from a file to segments, also as a share of the engine's."""
    try:
        from layerdex.index import Index
    except ModuleNotFoundError as error:  # the engine needs neither FAISS nor a catalog
        return {"index_texts_per_s": f"not measured: no {error.name}"}
    with TemporaryDirectory() as folder:
        source = Path(folder) / "texts.jsonl"
        lines = (json.dumps({"id": str(i), "text": text}) for i, text in enumerate(texts))
        source.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        numbers = iter(range(rounds + 1))

        def run() -> None:
            index = Index.create(Path(folder) / f"index-{next(numbers)}", model=encoder)
            index.add(source, auto_compact=False)

        seconds = time_rounds(run, rounds)
    return {
        "index_texts_per_s": spread([len(texts) / s for s in seconds]),
        "index_share_of_engine": spread([engine_s / s for s in seconds]),
    }


def tokenize(encoder: TransformerEncoder, texts: list[str]) -> Tokens:
    tokenizer = TextTokenizer(
        encoder.engine.spec.tokenizer,
        template=PLAIN,
        max_length=_MAX_LENGTH,
        needs_mask=False,
    )
    return tokenizer.tokenize(texts)


def run_engine(
    engine: Engine, tokens: Tokens, layers: tuple[int, ...], *, token_budget: int
) -> int:
    """Encode the tokens of a window into host memory, discard the vectors, return their number."""
    plan = plan_batches(tokens.lengths, token_budget=token_budget)
    pad_id = engine.spec.tokenizer.pad_id
    batches = (make_batch(tokens, places, pad_id=pad_id) for places in plan)
    return sum(len(places) for places, _ in engine.pool(batches, layers))


def compare_padding(
    path: Path, encoder: TransformerEncoder, options: Options, texts: list[str]
) -> dict[str, Any]:
    """Return whether the engine packs, and its speeds with and without padding if it does."""
    packed, padded = (
        TorchEngine(
            find_model(str(path)),
            pooling=encoder.settings.pooling,
            runtime=RuntimeOptions(device=options.device, dtype=encoder.engine.dtype),
            packs=packs,
        )
        for packs in (True if options.try_packing else None, False)
    )
    if not packed.packs:
        return {"packs": False}
    layers = tuple(range(encoder.settings.depth + 1))
    windows = [texts[i : i + options.window] for i in range(0, len(texts), options.window)]
    tokens = [tokenize(encoder, window) for window in windows]
    budget = encoder.settings.token_budget

    def run(engine: Engine) -> None:
        for window in tokens:
            run_engine(engine, window, layers, token_budget=budget)

    seconds: dict[str, list[float]] = {"packed": [], "padded": []}
    for _ in range(options.rounds):
        for name, engine in (("packed", packed), ("padded", padded)):
            seconds[name] += time_rounds(partial(run, engine), 1)
    return {
        "packs": True,
        "padding_share": round(padding_share(tokens, token_budget=budget), 4),
        **{
            f"{name}_texts_per_s": spread([len(texts) / s for s in of])
            for name, of in seconds.items()
        },
    }


def padding_share(tokens: list[Tokens], *, token_budget: int) -> float:
    """Return the share of padding in all padded batches."""
    n_tokens = n_padded = 0
    for window in tokens:
        for places in plan_batches(window.lengths, token_budget=token_budget):
            n_tokens += int(window.lengths[places].sum())
            n_padded += len(places) * int(window.lengths[places].max())
    return 1 - n_tokens / n_padded


def compare(
    path: Path, encoder: TransformerEncoder, options: Options, texts: list[str]
) -> dict[str, float]:
    """Return the minimum and mean cosine to float32 on the same device, over all layers."""
    layers = range(encoder.settings.depth + 1)
    exact = load(path, options, Dtype.FLOAT32).encode(texts, layers).vectors.astype(np.float32)
    vectors = encoder.encode(texts, layers).vectors.astype(np.float32)
    lengths = np.linalg.norm(exact, axis=-1) * np.linalg.norm(vectors, axis=-1)
    cosines = (exact * vectors).sum(axis=-1) / lengths
    return {"min": round(float(cosines.min()), 6), "mean": round(float(cosines.mean()), 6)}


def measure_ceiling(device: torch.device, dtype: torch.dtype) -> float:
    """Return the operations per second of the fastest of several large matrix products."""
    n = 8_192 if device.type == "cuda" else 2_048
    left, right = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    n_products = 10 if device.type == "cuda" else 1

    def multiply() -> None:
        for _ in range(n_products):
            torch.mm(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return float(2 * n**3 * n_products / min(time_rounds(multiply, 10)))


def time_rounds(run: Callable[[], object], rounds: int) -> list[float]:
    """Return the seconds of each round, after a warm-up round."""
    run()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return seconds


def describe_device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


if __name__ == "__main__":
    main()
