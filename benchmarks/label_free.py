"""Which label-free figure says which layer is best? Rank correlation with macro-F1 over layers.

    python -m benchmarks.label_free my-index
    python -m benchmarks.label_free my-index --by kind --min-per-label 5

Macro-F1 is of leave-one-out, k = 10. Spearman's correlation over 7 layers is beyond chance (5 %,
two-sided) from 0.786 on, over 13 from 0.560 on; four figures are tried at once. "regret" is the
macro-F1 lost by taking the layer with the figure's highest or lowest value, whichever the
correlation's sign says: so it flatters the figure.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.stats import spearmanr

from layerdex.index import Index

FIGURES = ("effective_rank", "anisotropy", "hubness", "intrinsic_dimension")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("index")
    parser.add_argument("--by", default="label")
    parser.add_argument("--min-per-label", type=int, default=1)
    options = parser.parse_args()
    index = Index.open(options.index)
    evaluation = index.evaluate(by=options.by, min_per_label=options.min_per_label, n_resamples=0)
    geometry = index.describe_layers()
    layers = [shape.layer for shape in geometry.layers]
    macro_f1 = np.array([evaluation.result(layer, 10).macro_f1 for layer in layers])
    figures = {
        name: np.array([getattr(shape, name) for shape in geometry.layers]) for name in FIGURES
    }
    figures["depth"] = np.array(layers, dtype=np.float64)
    print("macro-F1:", *(f"{one:.4f}" for one in macro_f1), "best:", evaluation.best_layer)
    print(f"{'figure':20} {'Spearman':>9} {'regret':>7}  by layer")
    for name, values in figures.items():
        correlation = spearmanr(values, macro_f1).statistic
        chosen = int(np.argmax(values if correlation >= 0 else -values))
        regret = macro_f1.max() - macro_f1[chosen]
        shown = " ".join(f"{value:.2f}" for value in values)
        print(f"{name:20} {correlation:+9.2f} {regret:7.4f}  {shown}")


if __name__ == "__main__":
    main()
