"""The gain of a transform on a labelled test set at each layer, by the paired bootstrap.

Run ``python -m benchmarks.transform_gain INDEX --test FILE``. It prints the accuracy of 10
neighbours, plain and transformed with the shrinkage that ``evaluate --transform`` chooses, and the
difference with its 95 % interval, on the same resamples of the test documents.
"""

from __future__ import annotations

import argparse

from layerdex import Index, LabelTask
from layerdex.search.evaluation.metrics import LABEL_METRICS, interval, resample
from layerdex.search.evaluation.vote_scores import N_RESAMPLES


def main() -> None:
    """Print one row per layer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("index")
    parser.add_argument("--test", required=True)
    parser.add_argument("--transform", choices=["center", "whiten"], default="whiten")
    options = parser.parse_args()
    index = Index.open(options.index)
    plain, transformed = (
        index.evaluate(LabelTask(test=options.test, k=10), transform=how, n_resamples=0)
        for how in ("none", options.transform)
    )
    print("layer | none |", options.transform, "| difference")
    for layer in index.layers:
        true, before = plain.label_codes(layer)
        _, after = transformed.label_codes(layer)
        resampled = resample(true, [before, after], n_resamples=N_RESAMPLES)
        accuracy = resampled[:, LABEL_METRICS.index("accuracy")]
        bounds = interval(accuracy[1] - accuracy[0])
        values = [evaluation.at(layer).values["accuracy"] for evaluation in (plain, transformed)]
        figures = " | ".join(f"{value:.4f}" for value in values)
        gain = values[1] - values[0]
        print(f"{layer} | {figures} | {gain:+.4f} ({bounds.low:+.4f} to {bounds.high:+.4f})")


if __name__ == "__main__":
    main()
