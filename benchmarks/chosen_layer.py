"""The loss, on a test set, of the layer that training labels choose.

    python -m benchmarks.chosen_layer --banking77 FOLDER --sms-spam FOLDER

The layer is chosen by leave-one-out on the training documents (macro-F1 of 10 neighbours, as
`layerdex evaluate --save-best` does); the test documents are not used. The loss is the difference
to the layer that is best on the test documents themselves, in points of test accuracy, with the
95 % interval of the paired bootstrap over test documents. It is also given for the frugal layer and
for always choosing the last layer. The best layer in hindsight is flattered a little.

The same is then measured with 10 and 50 training documents per label, drawn three times, to see
how many labels the choice takes.
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
    measured = {label_set.name: measure(label_set) for label_set in sets}
    drawn = {
        f"{label_set.name}, {n} a label": [
            measure_drawn(label_set, n, seed) for seed in range(N_DRAWS)
        ]
        for label_set in sets
        if label_set.by == "label"
        for n in N_PER_LABEL
    }
    results: dict[str, Any] = {
        "k": K,
        "sets": measured,
        "mean_loss": _mean(measured),
        "drawn": {name: [_short(draw) for draw in draws] for name, draws in drawn.items()},
    }
    save("chosen_layer", "python -m benchmarks.chosen_layer --banking77 … --sms-spam …", results)
    print_table(measured)
    print_drawn(drawn)


def measure(label_set: LabelSet, where: Sequence[str] = (TRAIN,)) -> dict[str, Any]:
    """Return the chosen layer, the best layer in hindsight, and the loss between them."""
    view = label_set.index.at(where=where)
    task = LabelTask(k=K, by=label_set.by, min_per_label=label_set.min_per_label)
    train = view.evaluate(task)
    test = view.evaluate(replace(task, test=list(label_set.test)), n_resamples=0)
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
        "train_macro_f1": {
            int(scores.layer): round(scores.values["macro_f1"], 4) for scores in train.scores
        },
        "test_accuracy": {layer: round(value, 4) for layer, value in accuracy.items()},
        "loss": losses,
    }


def measure_drawn(label_set: LabelSet, n_per_label: int, seed: int) -> dict[str, Any]:
    """Measure with ``n_per_label`` training documents of each label."""
    min_per_label = min(label_set.min_per_label, n_per_label)
    drawn = (TRAIN, f"draw_{seed}<{n_per_label}")
    return measure(replace(label_set, min_per_label=min_per_label), where=drawn)


def loss(test: Evaluation, best: int, chosen: int) -> dict[str, float]:
    """Return the loss of a layer in points of accuracy, and the ends of its paired interval."""
    true, of_best = test.label_codes(best)
    _, of_chosen = test.label_codes(chosen)
    resampled = resample(true, [of_best, of_chosen], n_resamples=N_RESAMPLES)
    accuracy = resampled[:, LABEL_METRICS.index("accuracy")]
    bounds = interval(100 * (accuracy[0] - accuracy[1]))
    points = 100 * (test.at(best).values["accuracy"] - test.at(chosen).values["accuracy"])
    return {"points": round(points, 2), "low": round(bounds.low, 2), "high": round(bounds.high, 2)}


def _mean(measured: Mapping[str, Any]) -> dict[str, float]:
    return {
        choice: round(mean(result["loss"][choice]["points"] for result in measured.values()), 2)
        for choice in ("chosen", "frugal", "last")
    }


def _short(result: Mapping[str, Any]) -> dict[str, Any]:
    return {name: result[name] for name in ("train", "chosen", "best", "loss")}


def print_table(measured: Mapping[str, Any]) -> None:
    """Print one row per label set, as in docs/layers.md."""
    print("| set | documents | labels | chosen | best | loss | frugal | its loss | last's loss |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, result in measured.items():
        accuracy, (chosen, frugal, last) = result["test_accuracy"], result["loss"].values()
        print(
            f"| {name} | {result['train']:,} / {result['test']:,} | {result['labels']} "
            f"| {result['chosen']} ({accuracy[result['chosen']]:.4f}) "
            f"| {result['best']} ({accuracy[result['best']]:.4f}) | {_points(chosen)} "
            f"| {result['frugal']} | {_points(frugal)} | {_points(last)} |"
        )
    means = " | ".join(f"{name} {value:.2f}" for name, value in _mean(measured).items())
    print(f"mean loss: {means}")


def print_drawn(drawn: Mapping[str, Any]) -> None:
    """Print one row per label set and size: the layer chosen and the loss of each draw."""
    for name, draws in drawn.items():
        layers = ", ".join(f"{draw['chosen']} (best {draw['best']})" for draw in draws)
        losses = ", ".join(f"{draw['loss']['chosen']['points']:.2f}" for draw in draws)
        print(f"| {name} | {draws[0]['train']:,} | {layers} | {losses} |")


def _points(loss: Mapping[str, float]) -> str:
    if not loss["points"]:
        return "0"
    return f"{loss['points']:.2f} ({loss['low']:.2f} to {loss['high']:.2f})"


if __name__ == "__main__":
    main()
