"""What the layer that training labels choose loses on a test set against the best in hindsight.

    python -m benchmarks.chosen_layer --banking77 FOLDER --sms-spam FOLDER

The layer is chosen by leave-one-out on the training documents (macro-F1 of 10 neighbours, as
`layerdex evaluate --save-best` does), without a look at the test documents. The loss is in points
of test accuracy, with the 95 % interval of the paired bootstrap over test documents. Beside it:
what the frugal layer loses, and what always taking the last one. The best layer in hindsight is
the best on these very documents, which flatters it a little.

Then the same with 10 and 50 training documents a label, drawn three times: how many labels it
takes to choose.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import mean
from typing import Any

from benchmarks.label_sets import N_DRAWS, TRAIN, LabelSet, add_arguments, label_sets
from benchmarks.results_file import save
from layerdex import LabelTask
from layerdex.search.evaluation.evaluation import Evaluation
from layerdex.search.evaluation.metrics import LABEL_METRICS, interval, resample
from layerdex.search.evaluation.vote_scores import N_RESAMPLES

K = 10
N_PER_LABEL = (10, 50)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    sets = list(label_sets(parser.parse_args()))
    measured = {one.name: measure(one) for one in sets}
    drawn = {
        f"{one.name}, {n} a label": [measure_drawn(one, n, seed) for seed in range(N_DRAWS)]
        for one in sets
        if one.by == "label"
        for n in N_PER_LABEL
    }
    results: dict[str, Any] = {
        "k": K,
        "sets": measured,
        "mean_loss": _mean(measured),
        "drawn": {name: [_short(one) for one in draws] for name, draws in drawn.items()},
    }
    save("chosen_layer", "python -m benchmarks.chosen_layer --banking77 … --sms-spam …", results)
    print_table(measured)
    print_drawn(drawn)


def measure(one: LabelSet, where: Sequence[str] = (TRAIN,)) -> dict[str, Any]:
    """Return the chosen layer, the best in hindsight and what lies between them."""
    options: dict[str, Any] = {"k": K, "by": one.by, "min_per_label": one.min_per_label}
    train = one.index.evaluate(**options, where=where)
    test = one.index.evaluate(LabelTask(test=list(one.test)), where=where, **options, n_resamples=0)
    accuracy = {int(scores.layer): scores.values["accuracy"] for scores in test.scores}
    best = max(accuracy, key=lambda layer: (accuracy[layer], -layer))
    frugal = train.best_layer if train.frugal is None else train.frugal.layer
    losses = {
        "chosen": loss(test, best, train.best_layer),
        "frugal": loss(test, best, frugal),
        "last": loss(test, best, max(accuracy)),
    }
    return {
        "train": train.n,
        "test": test.n,
        "labels": len(set(train.label_codes(train.best_layer)[0].tolist())),
        "chosen": train.best_layer,
        "frugal": frugal,
        "best": best,
        "train_macro_f1": {int(r.layer): round(r.values["macro_f1"], 4) for r in train.scores},
        "test_accuracy": {layer: round(value, 4) for layer, value in accuracy.items()},
        "loss": losses,
    }


def measure_drawn(one: LabelSet, n_per_label: int, seed: int) -> dict[str, Any]:
    """Measure with so many training documents a label."""
    least = min(one.min_per_label, n_per_label)
    drawn = (TRAIN, f"draw_{seed}<{n_per_label}")
    return measure(replace(one, min_per_label=least), where=drawn)


def loss(test: Evaluation, best: int, chosen: int) -> dict[str, float]:
    """Return the points of accuracy that a layer loses, and the paired interval's ends."""
    true, of_best = test.label_codes(best)
    _, of_chosen = test.label_codes(chosen)
    resampled = resample(true, [of_best, of_chosen], n_resamples=N_RESAMPLES)
    accuracy = resampled[:, LABEL_METRICS.index("accuracy")]
    found = interval(100 * (accuracy[0] - accuracy[1]))
    points = 100 * (test.at(best).values["accuracy"] - test.at(chosen).values["accuracy"])
    return {"points": round(points, 2), "low": round(found.low, 2), "high": round(found.high, 2)}


def _mean(measured: Mapping[str, Any]) -> dict[str, float]:
    ways = ("chosen", "frugal", "last")
    return {
        way: round(mean(one["loss"][way]["points"] for one in measured.values()), 2) for way in ways
    }


def _short(one: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: one[name] for name in ("train", "chosen", "best")}, "loss": one["loss"]}


def print_table(measured: Mapping[str, Any]) -> None:
    """Print a row a set, as in docs/layers.md."""
    print("| set | documents | labels | chosen | best | loss | frugal | its loss | last's loss |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, one in measured.items():
        accuracy, (chosen, frugal, last) = one["test_accuracy"], one["loss"].values()
        print(
            f"| {name} | {one['train']:,} / {one['test']:,} | {one['labels']} "
            f"| {one['chosen']} ({accuracy[one['chosen']]:.4f}) "
            f"| {one['best']} ({accuracy[one['best']]:.4f}) | {_points(chosen)} "
            f"| {one['frugal']} | {_points(frugal)} | {_points(last)} |"
        )
    means = " | ".join(f"{name} {value:.2f}" for name, value in _mean(measured).items())
    print(f"mean loss: {means}")


def print_drawn(drawn: Mapping[str, Any]) -> None:
    """Print a row a set and size: layers chosen and losses of each draw."""
    for name, draws in drawn.items():
        layers = ", ".join(f"{one['chosen']} (best {one['best']})" for one in draws)
        losses = ", ".join(f"{one['loss']['chosen']['points']:.2f}" for one in draws)
        print(f"| {name} | {draws[0]['train']:,} | {layers} | {losses} |")


def _points(found: Mapping[str, float]) -> str:
    if not found["points"]:
        return "0"
    return f"{found['points']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


if __name__ == "__main__":
    main()
