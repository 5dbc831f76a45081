"""Label-free figures of layers, compared with macro-F1 at each layer of several label sets.

    python -m benchmarks.label_free --banking77 FOLDER --sms-spam FOLDER

Macro-F1 is of leave-one-out, k = 10, on the training documents. Spearman's correlation over 7
layers is significant (5 %, two-sided) from 0.786 on; four figures are tried at once. The loss is
the difference between the best layer and the one that a figure picks, in points of macro-F1. A
figure picks as its authors would: the highest effective rank (Garrido and others, RankMe, ICML
2023), the lowest anisotropy (Ethayarajh, EMNLP 2019), the lowest hubness (Radovanović and others,
JMLR 2010), the lowest intrinsic dimension (Ansuini and others, NeurIPS 2019). "depth" takes the
last layer.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from statistics import mean
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks.label_sets import TRAIN, LabelSet, add_arguments, label_sets
from benchmarks.results_file import save
from layerdex import LabelTask

FIGURES = {
    "effective_rank": 1,
    "anisotropy": -1,
    "hubness": -1,
    "intrinsic_dimension": -1,
    "depth": 1,
}
"""Which end of a figure is considered good: 1 the highest, -1 the lowest."""
K = 10


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    measured = {label_set.name: measure(label_set) for label_set in label_sets(parser.parse_args())}
    results: dict[str, Any] = {
        "k": K,
        "sets": measured,
        "mean_loss": {
            name: round(mean(result["figures"][name]["loss"] for result in measured.values()), 2)
            for name in FIGURES
        },
    }
    save("label_free", "python -m benchmarks.label_free --banking77 … --sms-spam …", results)
    print_table(measured, results["mean_loss"])


def measure(label_set: LabelSet) -> dict[str, Any]:
    """Return each figure by layer, its correlation with macro-F1, and the loss of its layer."""
    view = label_set.index.at(where=TRAIN)
    task = LabelTask(k=K, by=label_set.by, min_per_label=label_set.min_per_label)
    evaluation = view.evaluate(task, n_resamples=0)
    geometry = view.describe_layers()
    layers = [shape.layer for shape in geometry.layers]
    macro_f1 = np.array([evaluation.at(layer, K).values["macro_f1"] for layer in layers])
    figures = {}
    for name, sign in FIGURES.items():
        shapes = geometry.layers
        by_layer = layers if name == "depth" else [getattr(shape, name) for shape in shapes]
        values = np.array(by_layer, dtype=np.float64)
        picked = int(np.argmax(sign * values))
        figures[name] = {
            "by_layer": values.round(3).tolist(),
            "spearman": round(float(spearmanr(values, macro_f1).statistic), 2),
            "picked": layers[picked],
            "loss": round(100 * float(macro_f1.max() - macro_f1[picked]), 2),
        }
    return {
        "documents": evaluation.n,
        "best": evaluation.best_layer,
        "macro_f1": macro_f1.round(4).tolist(),
        "figures": figures,
    }


def print_table(measured: Mapping[str, Any], mean_loss: Mapping[str, float]) -> None:
    """Print one row per label set, as in docs/layers.md: correlation, layer picked, its loss."""
    print("| label set | best |", " | ".join(FIGURES), "|")
    print("|---" * (2 + len(FIGURES)) + "|")
    for name, result in measured.items():
        cells = (
            f"{figure['spearman']:+.2f}, {figure['picked']} ({figure['loss']:.1f})"
            for figure in result["figures"].values()
        )
        print(f"| {name} | {result['best']} |", " | ".join(cells), "|")
    print("| mean loss | |", " | ".join(f"{value:.1f}" for value in mean_loss.values()), "|")


if __name__ == "__main__":
    main()
