"""Whether a transform's gain on a labelled test set may be chance: the paired bootstrap a layer.

Run ``python -m benchmarks.transform_gain INDEX --test FILE``. Printed are the accuracy of 10
neighbours plain and transformed, with the shrinkage that ``evaluate --transform`` chooses, and the
difference with its 95 % interval, both on the same resamples of the test documents.
"""

from __future__ import annotations

import argparse

from layerdex import Index, LabelTask
from layerdex.search.evaluation.metrics import METRICS, interval, resample
from layerdex.search.evaluation.results import N_RESAMPLES


def main() -> None:
    """Print a row a layer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("index")
    parser.add_argument("--test", required=True)
    parser.add_argument("--transform", choices=["center", "whiten"], default="whiten")
    options = parser.parse_args()
    index = Index.open(options.index)
    plain, moved = (
        index.evaluate(LabelTask(test=options.test, k=10), transform=how, n_resamples=0)
        for how in ("none", options.transform)
    )
    print("layer | none |", options.transform, "| difference")
    for layer in index.layers:
        results = [one.result(layer, 10) for one in (plain, moved)]
        before, after = resample(
            plain.true, [one.predicted for one in results], n_resamples=N_RESAMPLES
        )[:, METRICS.index("accuracy")]
        found, gain = interval(after - before), results[1].accuracy - results[0].accuracy
        figures = " | ".join(f"{one.accuracy:.4f}" for one in results)
        print(f"{layer} | {figures} | {gain:+.4f} ({found.low:+.4f} to {found.high:+.4f})")


if __name__ == "__main__":
    main()
