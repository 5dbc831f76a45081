"""Encoding in int8: speed, nearness to float32, and accuracy at every layer.

``--short`` is a jsonl file of short texts. ``--labels`` names a jsonl file of training documents
and one of test documents, ``--retrieval`` one of documents, one of queries and the judgements; both
may be given several times. Every system gets the same texts, truncated to 128 tokens, in
alternating order, after a warm-up; ratios are taken within a round. Accuracy is measured with the
model's own maximum length, through indexes that are made in each dtype.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.peers import DEFAULT, MAX_LENGTH, sentence_transformers
from benchmarks.results_file import save, spread
from layerdex import Index, LabelTask, RetrievalTask
from layerdex.choices import Dtype, EngineName
from layerdex.cpu import cpu_has_bfloat16
from layerdex.indexer.docstrings import collect_docstrings
from layerdex.indexer.encoder import TransformerEncoder
from layerdex.indexer.quantization.fidelity import measure_fidelity
from layerdex.options import EncoderOptions, RuntimeOptions

K = 10
_DTYPES = (Dtype.FLOAT32, *([Dtype.BFLOAT16] if cpu_has_bfloat16() else []), Dtype.INT8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--n-texts", type=int, default=1_200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--short", type=Path)
    parser.add_argument("--labels", type=Path, nargs=2, action="append", default=[])
    parser.add_argument("--retrieval", type=Path, nargs=3, action="append", default=[])
    parser.add_argument("--name", default="int8", help="name of the result file")
    options = parser.parse_args()
    corpora = {"docstrings": [document.text for document in collect_docstrings()]}
    if options.short is not None:
        corpora["short"] = [json.loads(line)["text"] for line in options.short.open("rb")]
    start = time.perf_counter()
    encoders = {dtype: load(options.model, dtype, MAX_LENGTH) for dtype in _DTYPES}
    made = encoders[Dtype.INT8].settings.quantization
    assert made is not None
    results: dict[str, Any] = {
        "model": options.model,
        "seconds_to_load_all": round(time.perf_counter() - start, 1),
        "check": asdict(made),
    }
    for name, texts in corpora.items():
        chosen = texts[:: max(1, len(texts) // options.n_texts)][: options.n_texts]
        results[name] = {
            "speed": measure_speed(encoders, chosen, options.model, options.rounds),
            "fidelity": compare(encoders, chosen[:500]),
        }
    results["accuracy"] = {
        train.parent.name: {
            dtype: accuracies(options.model, dtype, train, test) for dtype in _DTYPES
        }
        for train, test in options.labels
    }
    results["ndcg@10"] = {
        documents.parent.name: {
            dtype: gains(options.model, dtype, documents, queries, judgements) for dtype in _DTYPES
        }
        for documents, queries, judgements in options.retrieval
    }
    words = ["python -m benchmarks.int8", f"--n-texts {options.n_texts} --rounds {options.rounds}"]
    words += ["--short SHORT.jsonl"] if options.short else []
    words += ["--labels TRAIN.jsonl TEST.jsonl"] * len(options.labels)
    words += ["--retrieval DOCUMENTS.jsonl QUERIES.jsonl QRELS.tsv"] * len(options.retrieval)
    save(options.name, " ".join(words), results)


def load(model: str, dtype: Dtype, max_length: int | None = None) -> TransformerEncoder:
    return TransformerEncoder(
        EncoderOptions(model=model, max_length=max_length), runtime=runtime(dtype)
    )


def runtime(dtype: Dtype) -> RuntimeOptions:
    return RuntimeOptions(engine=EngineName.OPENVINO, dtype=dtype)


def measure_speed(
    encoders: dict[Dtype, TransformerEncoder], texts: Sequence[str], model: str, rounds: int
) -> dict[str, Any]:
    """Return tokens per second by system, and int8's speed as a multiple of the others'."""
    depth = encoders[Dtype.INT8].settings.depth
    n_tokens = int(encoders[Dtype.INT8].encode(texts, [0]).n_tokens.sum())
    systems: dict[str, Callable[[Sequence[str]], object]] = {
        dtype: partial(encoder.encode, layers=range(depth + 1))
        for dtype, encoder in encoders.items()
    }
    if model == "minilm":
        systems[DEFAULT] = sentence_transformers(None)
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    for round_number in range(-1, rounds):  # the first warms up
        for name in list(systems)[:: 1 if round_number % 2 else -1]:
            start = time.perf_counter()
            systems[name](texts)
            if round_number >= 0:
                seconds[name].append(time.perf_counter() - start)
    return {
        "texts": len(texts),
        "tokens": n_tokens,
        "tokens_per_second": {
            name: spread([n_tokens / s for s in of_system]) for name, of_system in seconds.items()
        },
        "int8_as_a_multiple_of": {
            name: spread([a / b for a, b in zip(seconds[name], seconds[Dtype.INT8], strict=True)])
            for name in systems
            if name != Dtype.INT8
        },
    }


def compare(encoders: dict[Dtype, TransformerEncoder], texts: Sequence[str]) -> dict[str, Any]:
    layers = range(encoders[Dtype.INT8].settings.depth + 1)
    exact, near = (
        encoders[dtype].encode(texts, layers).vectors for dtype in (Dtype.FLOAT32, Dtype.INT8)
    )
    return asdict(measure_fidelity(exact, near))


def accuracies(model: str, dtype: Dtype, train: Path, test: Path) -> list[float]:
    """Return the accuracy of 10 neighbours by layer."""
    with index_of(model, dtype, train) as index:
        scores = index.evaluate(LabelTask(k=K, test=test)).scores
    return [round(layer_scores.values["accuracy"], 4) for layer_scores in scores]


def gains(
    model: str, dtype: Dtype, documents: Path, queries: Path, judgements: Path
) -> list[float]:
    """Return nDCG@10 by layer."""
    with index_of(model, dtype, documents) as index:
        scores = index.evaluate(RetrievalTask(queries, judgements)).scores
    return [round(layer_scores.values["ndcg@10"], 4) for layer_scores in scores]


@contextmanager
def index_of(model: str, dtype: Dtype, documents: Path) -> Iterator[Index]:
    """Yield an index of a file's documents, which is removed in the end."""
    with tempfile.TemporaryDirectory() as folder:
        index = Index.create(
            Path(folder) / "index",
            model=model,
            runtime=runtime(dtype),
            force_int8=dtype is Dtype.INT8,
        )
        index.add(documents)
        yield index


if __name__ == "__main__":
    main()
