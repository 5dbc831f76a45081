"""``layerdex evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from layerdex.cli.options import (
    device_options,
    field_options,
    index_argument,
    json_option,
    lock_timeout_option,
    make_fields,
    verbosity_options,
    where_option,
)
from layerdex.cli.output import make_table, note, print_json, print_table, progress


class NumbersType(click.ParamType[list[int]]):
    """Whole numbers separated by commas."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[int]:
        try:
            return [int(part) for part in str(value).split(",")]
        except ValueError:
            self.fail(f"{value!r} is not a number, nor numbers separated by commas", param, ctx)


@click.command("evaluate")
@index_argument
@click.option("--layers", default="all", show_default=True, help="Layers to compare.")
@click.option(
    "-k", type=NumbersType(), default="10", show_default=True, help="Neighbours, such as 1,5,10."
)
@click.option(
    "--weights",
    type=click.Choice(["distance", "uniform"]),
    default="distance",
    show_default=True,
    help="What a neighbour's vote counts.",
)
@where_option
@click.option(
    "--min-per-label",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    help="Leave out labels with fewer documents than this.",
)
@click.option("--test", metavar="FILE", help="Classify this labelled file instead.")
@field_options
@click.option("--save-best", is_flag=True, help="Make the best layer the default of this index.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw the curve (png, svg, pdf).",
)
@click.option("--report", is_flag=True, help="Print scikit-learn's report for the best layer.")
@json_option
@device_options
@lock_timeout_option
@verbosity_options
def command(
    index: Path,
    k: list[int],
    test: str | None,
    text_field: str,
    id_field: str | None,
    label_field: str | None,
    metadata_fields: tuple[str, ...],
    format_: str,
    save_best: bool,
    plot: Path | None,
    report: bool,
    as_json: bool,
    device: str,
    dtype: str,
    lock_timeout_s: float,
    **options: Any,
) -> None:
    """Measure at every layer of INDEX how well neighbours predict labels.

    Each labelled document is classified by all others, documents with exactly its text left
    out; or the documents of a --test FILE are classified by those of the index. The best layer
    has the highest macro-F1 at the first k; a tie goes to the shallower.

    \b
    layerdex evaluate my-index -k 1,5,10 --save-best --plot layers.png
    layerdex evaluate my-index --test test.jsonl --report
    """
    from layerdex.index import Index

    target = Index.open(index, device=device, dtype=dtype)
    with progress("Evaluating") as on_progress:
        evaluation = target.evaluate(
            k=k,
            test=test,
            format=format_,
            fields=make_fields(text_field, id_field, label_field, metadata_fields),
            on_progress=on_progress,
            **options,
        )
    if as_json:
        print_json(to_json(evaluation))
    else:
        print_evaluation(evaluation)
    if report:
        click.echo(f"\nLayer {evaluation.best_layer}, k = {k[0]}\n")
        click.echo(evaluation.report(evaluation.best_layer, k[0]))
    if plot is not None:
        from layerdex.cli.plot import plot_evaluation

        plot_evaluation(evaluation, plot)
        note(f"Curve written to {plot}")
    if save_best:
        target.save_best(evaluation, lock_timeout_s=lock_timeout_s)
        note(f"Layer {evaluation.best_layer} is now the default of {index}")


def to_json(evaluation: Any) -> dict[str, Any]:
    """Return an evaluation as the JSON document that users get."""
    return {
        "method": evaluation.method.value,
        "n": evaluation.n,
        "layers": [
            {"layer": r.layer, "k": r.k, "accuracy": r.accuracy, "macro_f1": r.macro_f1}
            for r in evaluation.results
        ],
        "best_layer": evaluation.best_layer,
    }


def print_evaluation(evaluation: Any) -> None:
    """Print a row a layer, and name the best."""
    ks = sorted({result.k for result in evaluation.results}, key=_order_of(evaluation))
    n_labels = len(set(evaluation.true.tolist()))
    title = f"{evaluation.method.value}, {evaluation.n:,} documents, {n_labels} labels"
    columns = [name for k in ks for name in (f">accuracy k={k}", f">macro-F1 k={k}")]
    table = make_table(">layer", *columns, "", title=title)
    for layer in dict.fromkeys(result.layer for result in evaluation.results):
        results = [evaluation.result(layer, k) for k in ks]
        cells = [f"{x:.4f}" for one in results for x in (one.accuracy, one.macro_f1)]
        is_best = layer == evaluation.best_layer
        style = "bold" if is_best else None
        table.add_row(str(layer), *cells, "best" if is_best else "", style=style)
    print_table(table)
    best = evaluation.result(evaluation.best_layer, ks[0])
    click.echo(
        f"Best layer: {best.layer} (macro-F1 {best.macro_f1:.4f}, "
        f"accuracy {best.accuracy:.4f} at k = {best.k})"
    )


def _order_of(evaluation: Any) -> Any:
    order = [result.k for result in evaluation.results]
    return order.index
