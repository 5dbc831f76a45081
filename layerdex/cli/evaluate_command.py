"""``layerdex evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layerdex.cli.evaluate_measures import Asked, measure_options, measure_otherwise
from layerdex.cli.evaluation_output import (
    print_evaluation,
    print_report,
    to_json,
)
from layerdex.cli.options import (
    NumbersType,
    encoder_options,
    field_options,
    fuse_option,
    index_argument,
    json_option,
    lock_timeout_option,
    make_fields,
    min_per_label_option,
    transform_option,
    verbosity_options,
    where_option,
)
from layerdex.cli.output import (
    check_outputs,
    note,
    print_json,
    progress,
)
from layerdex.cli.pictures import check_picture
from layerdex.cli.plot import plot_evaluation

if TYPE_CHECKING:
    pass

_BOTH = "both"


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
@fuse_option("mean", "concat", "rrf")
@transform_option(
    "Measure vectors with the mean taken off, or whitened too, fitted on the documents that vote."
)
@click.option(
    "--weights",
    type=click.Choice(["distance", "uniform", _BOTH]),
    default="distance",
    show_default=True,
    help="What a neighbour's vote counts: 1/(1 - similarity), or 1.",
)
@click.option(
    "--by",
    multiple=True,
    metavar="FIELD",
    help="Predict this metadata field instead of the label; repeatable ('label' is the label).",
)
@where_option
@min_per_label_option
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    metavar="N",
    help="Classify each of N parts by the others, instead of leaving one document out.",
)
@click.option(
    "--test",
    metavar="FILE",
    help="Classify this labelled file, read with the options up to --format.",
)
@field_options
@measure_options
@click.option(
    "--resamples",
    "n_resamples",
    type=click.IntRange(min=0),
    default=1_000,
    show_default=True,
    metavar="N",
    help="Bootstrap resamples behind the 95 % intervals; 0 leaves them out.",
)
@click.option("--save-best", is_flag=True, help="Make the best layer the default of this index.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw the figures by layer, with their intervals (png, svg or pdf).",
)
@click.option("--report", is_flag=True, help="Print scikit-learn's report for the best layer.")
@json_option
@encoder_options
@lock_timeout_option
@verbosity_options
def command(
    index: Path,
    k: list[int],
    weights: str,
    by: tuple[str, ...],
    fuse: str | None,
    folds: int | None,
    test: str | None,
    text_field: str,
    id_field: str | None,
    label_field: str | None,
    metadata_fields: tuple[str, ...],
    format_: str,
    queries: str | None,
    qrels: Path | None,
    query_template: str | None,
    pairs: str | None,
    positive_from: float | None,
    compare: Path | None,
    save_best: bool,
    plot: Path | None,
    report: bool,
    as_json: bool,
    model: str | None,
    adapter: str | None,
    engine: str,
    device: str,
    dtype: str,
    lock_timeout_s: float,
    **options: Any,
) -> None:
    """Measure at every layer of INDEX how well neighbours predict labels.

    Each labelled document is classified by all others, documents with exactly its text left
    out; or fold by fold; or the documents of a --test FILE are classified by those of the index.
    The best layer has the highest macro-F1 at the first k; a tie goes to the shallower. The
    frugal layer is the shallowest that is not measurably worse (95 %, paired bootstrap).

    Without labels, --queries and --qrels give nDCG@10, recall@100 and MRR@10 by layer, and --pairs
    Spearman's correlation, or average precision and the best threshold.

    \b
    layerdex evaluate my-index -k 1,5,10 --save-best --plot layers.png
    layerdex evaluate my-index --test test.jsonl --report
    layerdex evaluate my-index --layers 4-6 --fuse mean --folds 5
    layerdex evaluate my-index --queries queries.jsonl --qrels qrels.tsv
    layerdex evaluate my-index --compare index-of-another-model
    """
    from layerdex.index import Index

    if plot is not None:
        check_picture(plot)
        check_outputs(index, plot)
    asked = Asked(queries, qrels, query_template, pairs, positive_from, compare)
    asked.check(click.get_current_context())
    if len(by) > 1 and (plot is not None or save_best or report):
        raise click.UsageError("--plot, --report and --save-best take one field --by")
    running: dict[str, Any] = {"engine": engine, "device": device, "dtype": dtype}
    target = Index.open(index, model=model, adapter=adapter, **running)
    ways = ["distance", "uniform"] if weights == _BOTH else weights
    if asked.is_other:
        options |= {"k": k, "weights": ways, "by": by, "fuse": fuse, "folds": folds}
        options |= {"text_field": text_field, "id_field": id_field, "format": format_}
        saving = {"lock_timeout_s": lock_timeout_s} if save_best else None
        measure_otherwise(
            target, asked, options, running=running, plot=plot, save_best=saving, as_json=as_json
        )
        return
    with progress("Evaluating") as on_progress:
        evaluations = [
            target.evaluate(
                k=k,
                weights=ways,
                by=field,
                fuse=fuse,
                folds=folds,
                test=test,
                format=format_,
                fields=make_fields(text_field, id_field, label_field, metadata_fields),
                on_progress=on_progress,
                **options,
            )
            for field in by or ("label",)
        ]
    if as_json:
        answers = [to_json(one, report=report) for one in evaluations]
        print_json(answers[0] if len(by) < 2 else dict(zip(by, answers, strict=True)))
    else:
        for evaluation in evaluations:
            print_evaluation(evaluation)
            if report:
                print_report(evaluation)
    [evaluation, *_] = evaluations
    if plot is not None:
        plot_evaluation(evaluation, plot)
        note(f"Curve written to {plot}")
    if save_best:
        target.save_best(evaluation, lock_timeout_s=lock_timeout_s)
        note(f"Layer {evaluation.best_layer} is now the default of {index}")
