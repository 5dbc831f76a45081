"""Injected label noise: how well `suspects` finds it, and cleanlab on the same vectors.

``DATA`` are jsonl files with text and label. In each round a random 5 % of the labels are replaced
by another label, drawn uniformly. cleanlab (extra ``bench``) gets out-of-sample class probabilities
of scikit-learn's ``LogisticRegression`` with its defaults (5 folds: the default of cleanlab's own
``CleanLearning``) at one layer, and ranks by its two scores.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.results_file import save, spread
from layerdex.index import Index
from layerdex.records import Rows
from layerdex.search.knn.vector_space import layer_spaces
from layerdex.search.labels.label_scores import LabelScores, score_labels

_NOISE = 0.05
_OURS, _AP = "suspects", "average_precision"
_METHODS = ("self_confidence", "normalized_margin")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=1, help="the settings were chosen with 0")
    parser.add_argument("--cleanlab-layers", default="-1", help="layers that cleanlab uses")
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.rounds)
    results: dict[str, Any] = {"noise": _NOISE, "seeds": list(seeds)}
    for data in options.data:
        with tempfile.TemporaryDirectory() as folder:
            index = Index.create(Path(folder) / "index")
            index.add(data)
            rounds = [measure(index, options.cleanlab_layers, seed) for seed in seeds]
            figures_of: dict[str, Any] = {"documents": len(index)}
        for name, first in rounds[0].items():
            figures_of[name] = {
                figure: spread([result[name][figure] for result in rounds]) for figure in first
            }
        for name in rounds[0]:
            if name != _OURS:
                gains = [result[_OURS][_AP] - result[name][_AP] for result in rounds]
                figures_of[f"average precision above {name}"] = spread(gains)
        results[f"{data.parent.name}/{data.name}"] = figures_of
    save("suspects", f"python -m benchmarks.suspects DATA --rounds {options.rounds}", results)


def measure(index: Index, cleanlab_layers: str, seed: int) -> dict[str, dict[str, float]]:
    """Change labels, and return how well each method finds them, by its name."""
    table = index._open.store.query(lambda snapshot: snapshot.document_table(labelled=True))
    noisy, is_wrong = add_noise(table.labels, seed)
    changed = replace(table, labels=noisy)
    start = time.perf_counter()
    scored: LabelScores = index._open.store.query(
        lambda snapshot: score_labels(snapshot.layer, changed, spaces=layer_spaces(index.layers))
    )
    seconds = time.perf_counter() - start
    flagged = np.zeros(len(noisy), dtype=np.bool_)
    flagged[scored.ranked()] = True
    measured = {_OURS: {**figures(is_wrong, scored.scores, flagged), "seconds": seconds}}
    for layer in index._open.resolve_layers(cleanlab_layers):
        vectors = vectors_at(index, layer, table.rows)
        measured |= by_cleanlab(vectors, scored.codes, is_wrong, f"cleanlab layer {layer}")
    return measured


def add_noise(labels: list[str | None], seed: int) -> tuple[list[str | None], NDArray[np.bool_]]:
    random = np.random.default_rng(seed)
    names, codes = np.unique([str(label) for label in labels], return_inverse=True)
    is_wrong = np.zeros(len(codes), dtype=np.bool_)
    is_wrong[random.choice(len(codes), round(_NOISE * len(codes)), replace=False)] = True
    shift = random.integers(1, len(names), size=len(codes))
    noisy = np.where(is_wrong, (codes + shift) % len(names), codes)
    return names[noisy].tolist(), is_wrong


def vectors_at(index: Index, layer: int, rows: Rows) -> NDArray[np.float32]:
    return index._open.store.query(lambda snapshot: snapshot.layer(layer).gather(rows))


def by_cleanlab(
    vectors: NDArray[np.float32], codes: NDArray[np.int64], is_wrong: NDArray[np.bool_], name: str
) -> dict[str, dict[str, float]]:
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    start = time.perf_counter()
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    probabilities: Any = cross_val_predict(
        LogisticRegression(max_iter=200), vectors, codes, cv=folds, method="predict_proba"
    )
    flagged = find_label_issues(codes, probabilities)
    seconds = time.perf_counter() - start
    return {
        f"{name}, {method}": {
            **figures(
                is_wrong,
                -get_label_quality_scores(codes, probabilities, method=method),
                flagged,
            ),
            "seconds": seconds,
        }
        for method in _METHODS
    }


def figures(
    is_wrong: NDArray[np.bool_], scores: NDArray[np.float64], flagged: NDArray[np.bool_]
) -> dict[str, float]:
    """Return the average precision of the ranking, and precision and recall of the flagged rows.

    ``precision_at_n`` is the precision of the first n rows, where n is the number of wrong labels.
    """
    from sklearn.metrics import average_precision_score, precision_score, recall_score

    first = np.argsort(-scores, kind="stable")[: is_wrong.sum()]
    return {
        _AP: float(average_precision_score(is_wrong, scores)),
        "precision": float(precision_score(is_wrong, flagged)),
        "recall": float(recall_score(is_wrong, flagged)),
        "n_flagged": float(flagged.sum()),
        "precision_at_n": float(is_wrong[first].mean()),
    }


if __name__ == "__main__":
    main()
