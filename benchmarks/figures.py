"""The pictures of docs/layers.md, into docs/figures.

    python -m benchmarks.figures
    python -m benchmarks.figures --banking77 FOLDER --sms-spam FOLDER --scifact FOLDER

Without folders, only the pictures of the docstrings of this Python's standard library are drawn.
The pictures of the other data sets are drawn if their folder is passed, and left as they are
otherwise. Each printed line names a picture and the command that prints its numbers.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.label_sets import add_arguments, banking77, docstrings, scifact, sms_spam
from layerdex import LabelTask, RetrievalTask
from layerdex.cli.render.figures import save_figure
from layerdex.index import Index
from layerdex.search.evaluation.geometry import Geometry
from layerdex.search.plots.figures import color, new_figure
from layerdex.search.plots.layer_curves import draw_curve, finish_layers

FOLDER = Path(__file__).parent.parent / "docs" / "figures"
_INCHES = (4.6, 3.5)  # two side by side are as wide as a page of text
_MIN_PER_LABEL = 20
_TRANSFORMS = ("none", "whiten")
_NDCG = "ndcg@10"

Draw = Callable[[Any], object]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--only", help="only pictures whose name contains this")
    options = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    for name, command, draw in pictures(options):
        if options.only is None or options.only in name:
            path = FOLDER / f"{name}.svg"
            draw(path)
            print(f"{path.name} ({path.stat().st_size / 1000:.0f} kB): {command}")


def pictures(options: argparse.Namespace) -> Iterator[tuple[str, str, Callable[[Path], None]]]:
    """Yield the name, command and drawing function of each picture whose data is available."""
    index, _ = docstrings(options.work)
    demo = "layerdex-demo/index"
    by_module = LabelTask(min_per_label=_MIN_PER_LABEL)
    yield (
        "labels-docstrings-module",
        f"layerdex evaluate {demo} --min-per-label {_MIN_PER_LABEL}",
        small(labels(index, "docstrings by module", by_module)),
    )
    yield (
        "labels-docstrings-kind",
        f"layerdex evaluate {demo} --by kind",
        small(labels(index, "docstrings by kind", LabelTask(by="kind"))),
    )
    yield (
        "whitening-docstrings",
        f"layerdex evaluate {demo} --min-per-label {_MIN_PER_LABEL} --transform whiten",
        small(whitened_labels(index, "docstrings by module", by_module)),
    )
    geometry = index.at().describe_layers()
    command = f"layerdex layers {demo}"
    yield "agreement-docstrings", command, small(geometry.plot)
    yield "random-pairs-docstrings", command, small(lambda axes: draw_random_pairs(axes, geometry))
    yield (
        "thresholds-docstrings",
        f"layerdex dedup {demo} --layer 6 --suggest --plot FILE",
        lambda path: save_figure(index.at(layer=6).suggest_thresholds().plot(), path),
    )
    if options.banking77 is not None:
        index, _ = banking77(options.work, options.banking77)
        draw = small(labels(index, "Banking77"))
        yield "labels-banking77", "layerdex evaluate B77", draw
    if options.sms_spam is not None:
        index, _ = sms_spam(options.work, options.sms_spam)
        draw = small(labels(index, "sms_spam"))
        yield "labels-sms_spam", "layerdex evaluate SMS", draw
    if options.scifact is not None:
        index = scifact(options.work, options.scifact)
        judged = "--queries queries.jsonl --qrels qrels.tsv"
        yield (
            "retrieval-scifact",
            f"layerdex evaluate SCIFACT {judged} --transform whiten",
            small(retrieval(index, options.scifact)),
        )


def small(draw: Draw) -> Callable[[Path], None]:
    """Return a function that draws into a picture of half a page's width."""

    def save(path: Path) -> None:
        figure = new_figure(*_INCHES)
        draw(figure.add_subplot())
        save_figure(figure, path)

    return save


def draw_random_pairs(axes: Any, geometry: Geometry) -> None:
    """Draw percentiles of the similarity of random pairs by layer."""
    layers = [shape.layer for shape in geometry.layers]
    for i, name in enumerate(geometry.layers[0].percentiles):
        values = [shape.percentiles[name] for shape in geometry.layers]
        axes.plot(layers, values, "o-", color=color(i))
        axes.annotate(
            name,
            (layers[-1], values[-1]),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=color(i),
        )
    axes.set_xticks(layers)
    axes.set_xlabel("layer (0 is the embedding output)")
    axes.set_ylabel(f"similarity, all pairs of {geometry.n_paired:,} texts")
    span = layers[-1] - layers[0]
    axes.set_xlim(layers[0] - 0.06 * span, layers[-1] + 0.2 * span)  # room for the names
    axes.grid(alpha=0.3)


def labels(index: Index, title: str, task: LabelTask | None = None) -> Draw:
    """Return a function that draws accuracy and macro-F1 by layer."""

    def draw(axes: Any) -> None:
        evaluation = index.evaluate(task)
        evaluation.plot(axes)
        true, _ = evaluation.label_codes(evaluation.best_layer)
        axes.set_title(f"{title} ({len(set(true.tolist()))} labels)", size="medium")

    return draw


def whitened_labels(index: Index, title: str, task: LabelTask | None = None) -> Draw:
    """Return a function that draws macro-F1 by layer, of plain and whitened vectors."""

    def draw(axes: Any) -> None:
        for i, how in enumerate(_TRANSFORMS):
            evaluation = index.evaluate(task, transform=how)
            draw_curve(axes, evaluation.curve("macro_f1", label=_label(how)), i)
        finish_layers(axes, index.layers, None)
        axes.set_ylabel("macro-F1, leave-one-out, k = 10")
        axes.set_title(f"{title}, {evaluation.n:,} documents", size="medium")

    return draw


def retrieval(index: Index, folder: Path) -> Draw:
    """Return a function that draws nDCG@10 by layer, of plain and whitened vectors."""

    def draw(axes: Any) -> None:
        for i, how in enumerate(_TRANSFORMS):
            evaluation = index.evaluate(
                RetrievalTask(folder / "queries.jsonl", folder / "qrels.tsv"), transform=how
            )
            draw_curve(axes, evaluation.curve(_NDCG, label=_label(how)), i)
        finish_layers(axes, index.layers, None)
        axes.set_ylabel("nDCG@10")
        title = f"scifact, {len(index):,} documents, {evaluation.counted}"
        axes.set_title(title, size="medium")

    return draw


def _label(how: str) -> str:
    return "plain" if how == "none" else "whitened"


if __name__ == "__main__":
    main()
