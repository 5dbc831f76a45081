"""``layerdex evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from layerdex.cli.options import (
    encoder_options,
    field_options,
    index_argument,
    json_option,
    lock_timeout_option,
    make_fields,
    verbosity_options,
    where_option,
)
from layerdex.cli.output import (
    check_outputs,
    counted,
    escape,
    make_table,
    note,
    print_json,
    print_table,
    progress,
)
from layerdex.cli.plot import check_picture, plot_evaluation

_METRICS = {"accuracy": "accuracy", "macro-F1": "macro_f1"}
_N_KS_BESIDE = 2  # more do not fit 80 columns


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


@click.command("evaluate", short_help="Measure every layer, and name the best.")
@index_argument
@click.option(
    "--layers", default="all", show_default=True, help="Layers to compare, such as 0,4-6."
)
@click.option(
    "-k",
    type=NumbersType(),
    default="10",
    show_default=True,
    help="How many neighbours, or several such as 1,5,10.",
)
@click.option(
    "--weights",
    type=click.Choice(["distance", "uniform"]),
    default="distance",
    show_default=True,
    help="What a neighbour's vote counts: 1/distance, or 1.",
)
@where_option
@click.option(
    "--min-per-label",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    help="Leave out labels with fewer documents than this.",
)
@click.option(
    "--test",
    metavar="FILE",
    help="Classify this labelled file, read with the options up to --format.",
)
@field_options
@click.option("--save-best", is_flag=True, help="Make the best layer the default of this index.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw accuracy and macro-F1 by layer (png, svg or pdf).",
)
@click.option("--report", is_flag=True, help="Print scikit-learn's report for the best layer.")
@json_option
@encoder_options
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
    model: str | None,
    engine: str,
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

    if plot is not None:
        check_picture(plot)
        check_outputs(index, plot)
    target = Index.open(index, model=model, engine=engine, device=device, dtype=dtype)
    with progress("Evaluating") as on_progress:
        evaluation = target.evaluate(
            k=k,
            test=test,
            format=format_,
            fields=make_fields(text_field, id_field, label_field, metadata_fields),
            on_progress=on_progress,
            **options,
        )
    details = evaluation.report(evaluation.best_layer, k[0]) if report else None
    if as_json:
        print_json({**to_json(evaluation), **({} if details is None else {"report": details})})
    else:
        print_evaluation(evaluation)
        if details is not None:
            click.echo(f"\nLayer {evaluation.best_layer}, k = {k[0]}\n")
            click.echo(escape(details, keep="\n"))
    if plot is not None:
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
    """Print a row a layer, in a table per metric where there are many k, and name the best."""
    ks = list(dict.fromkeys(result.k for result in evaluation.results))
    n_labels = len(set(evaluation.true.tolist()))
    documents, labels = counted(evaluation.n, "document"), counted(n_labels, "label")
    title = f"{evaluation.method.value}, {documents}, {labels}"
    if len(ks) <= _N_KS_BESIDE:
        columns = [(f"{name} k={k}", k, name) for k in ks for name in _METRICS]
        _print_results(evaluation, columns, title)
    else:
        for name in _METRICS:
            _print_results(evaluation, [(f"k={k}", k, name) for k in ks], f"{name}, {title}")
    best = evaluation.result(evaluation.best_layer, ks[0])
    click.echo(
        f"Best layer: {best.layer} (macro-F1 {best.macro_f1:.4f}, "
        f"accuracy {best.accuracy:.4f} at k = {best.k})"
    )


def _print_results(evaluation: Any, columns: list[tuple[str, int, str]], title: str) -> None:
    table = make_table(">layer", *(f">{header}" for header, _, _ in columns), "", title=title)
    for layer in dict.fromkeys(result.layer for result in evaluation.results):
        figures = (getattr(evaluation.result(layer, k), _METRICS[name]) for _, k, name in columns)
        is_best = layer == evaluation.best_layer
        cells = (*(f"{figure:.4f}" for figure in figures), "best" if is_best else "")
        table.add_row(str(layer), *cells, style="bold" if is_best else None)
    print_table(table)
