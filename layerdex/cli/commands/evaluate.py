"""``layerdex evaluate``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from layerdex.choices import Classifier, Fuse, TransformName
from layerdex.cli.conflicts import (
    Excludes,
    Requires,
    Rule,
    Together,
    check_rules,
    check_single,
    is_given,
)
from layerdex.cli.context import Context, pass_context
from layerdex.cli.evaluation_tasks import TaskOptions, task_options
from layerdex.cli.files import check_outputs, force_option
from layerdex.cli.options import (
    FORMAT_OPTIONS,
    PathType,
    SourceOptions,
    TargetOptions,
    json_option,
    lock_timeout_option,
    path_argument,
    plot_path,
    stored_encoder_options,
    target_options,
    verbosity_options,
)
from layerdex.cli.progress import Pace
from layerdex.cli.render.comparison import print_comparison
from layerdex.cli.render.evaluation import print_evaluation, print_report
from layerdex.cli.render.figures import check_picture, save_figure

if TYPE_CHECKING:
    from layerdex.index import Index
    from layerdex.index.tasks import Task
    from layerdex.records import OnProgress
    from layerdex.search.evaluation.evaluation import Evaluation

_SHORTER_OR_WHOLE = ("sample", "folds", "test", "queries", "pairs", "report")
"""Takes less time than leaving out all documents, or needs all."""

_N_PROPOSED = 10_000
_N_LARGE = 4 * _N_PROPOSED
"""Of fewer documents, a sample would not take much less time than all."""

_JUDGED_AFTER_S, _JUDGED_AFTER_SHARE, _MANY_MINUTES = 5.0, 0.05, 3.0
_N_STEPS = 1_000
"""Of the progress of one task: what each counts differs."""

_OF_LABELS = ("k", "weights", "by", "min_per_label", "folds", "sample", "test", "report")
_OF_PAIRS = ("sentence1_field", "sentence2_field", "score_field", "positive_from")
_NOT_OF_PAIRS = ("text_field", "id_field", "metadata_fields", "where")
_OF_FILES = ("text_field", "id_field", "label_field", "metadata_fields", *FORMAT_OPTIONS)
_OF_ONE_INDEX = ("sample", "test", "report", "save_best", "transform", "metadata_fields")
_NOT_OF_HEAD = (
    *("k", "weights", "by", "min_per_label", "folds", "layer", "fuse", "transform", "where"),
    *("sample", "save_best", "plot", "compare_with", "queries", "pairs"),
)
_RULES: tuple[Rule, ...] = (
    Together("queries", "qrels"),
    Requires("query_template", "queries"),
    Requires("rules", "queries"),
    Requires("seed", "sample"),
    Excludes("sample", ("folds", "test", "report")),
    *(Requires(option, "pairs") for option in _OF_PAIRS),
    Excludes("queries", ("pairs", *_OF_LABELS, "label_field", "metadata_fields", "format")),
    Excludes("pairs", (*_OF_LABELS, *_NOT_OF_PAIRS)),
    Excludes("score_field", ("label_field",)),
    Excludes("compare_with", _OF_ONE_INDEX),
    Excludes("classifier", _NOT_OF_HEAD, value=Classifier.HEAD),
)
_FILE_RULES = tuple(Requires(option, ("test", "queries", "pairs")) for option in _OF_FILES)


@click.command("evaluate", short_help="Measure every layer and name the best.")
@path_argument
@target_options(
    "Layers to compare, such as 0,4-6.",
    layers=True,
    fuse=Fuse,
    transform_help="Measure centred or whitened vectors, with transforms fitted on the documents "
    "that vote.",
)
@task_options
@click.option(
    "--compare",
    "compare_with",
    type=PathType(),
    metavar="INDEX2",
    help="Compare with another index of the same documents (matched by id).",
)
@click.option(
    "--resamples",
    "n_resamples",
    type=click.IntRange(min=0),
    default=1_000,
    show_default=True,
    metavar="N",
    help="Number of bootstrap resamples for the 95 % intervals; 0 for none.",
)
@click.option("--save-best", is_flag=True, help="Make the best layer the default of this index.")
@click.option(
    "--plot", type=plot_path, help="Draw the figures by layer, with intervals (png, svg or pdf)."
)
@force_option
@click.option("--report", is_flag=True, help="Print scikit-learn's report for the best layer.")
@json_option
@stored_encoder_options
@lock_timeout_option
@verbosity_options
@pass_context
def command(
    context: Context,
    path: Path,
    target: TargetOptions,
    task: TaskOptions,
    source: SourceOptions,
    compare_with: Path | None,
    n_resamples: int,
    save_best: bool,
    plot: Path | None,
    report: bool,
    lock_timeout_s: float,
) -> None:
    """Measure at every layer of INDEX how well neighbours predict labels.

    Each labelled document, or each of a --sample, is classified by all others, except those with
    exactly its text; or fold by fold; or the documents of a --test FILE are classified by those of
    the index. The best layer has the highest macro-F1 at the first k; a tie goes to the shallower.
    The frugal layer is the shallowest that is not measurably worse (95 %, paired bootstrap).

    Without labels, --queries and --qrels give nDCG@10, recall@100 and MRR@10 by layer, and --pairs
    Spearman's correlation, or average precision and the best threshold. docs/evaluation.md has the
    rules of each.

    \b
    layerdex evaluate my-index -k 1,5,10 --save-best --plot layers.png
    layerdex evaluate my-index --sample 10000
    layerdex evaluate my-index --test test.jsonl --report
    layerdex evaluate my-index --test test.jsonl --with head
    layerdex evaluate my-index --layers 4-6 --fuse mean --folds 5
    layerdex evaluate my-index --queries queries.jsonl --qrels qrels.tsv
    layerdex evaluate my-index --pairs pairs.csv --score-field similarity
    layerdex evaluate my-index --compare index-of-another-model
    """
    if plot is not None:
        check_picture(plot)
        check_outputs(path, plot)
    check_rules(_RULES)
    if task.pairs is None:
        check_rules([Excludes("compare_with", ("label_field",))])
    check_rules(_FILE_RULES)
    if save_best and target.transform is not TransformName.NONE:
        raise click.UsageError("--save-best cannot be used with --transform")
    for name in ("plot", "report", "save_best"):
        if is_given(name):
            check_single(f"--{name.replace('_', '-')}", "by")
    index = context.open_index(path)
    tasks = task.tasks(index, source)
    if compare_with is not None:
        if task.queries is None and task.pairs is None:
            check_single("--compare", "k", "weights", "by")
        other = context.open_second_index(compare_with)
        _compare(context, (index, other), target, tasks[0], n_resamples, plot)
    else:
        evaluation = _evaluate(context, index, target, tasks, n_resamples, report, task)
        if save_best:
            index.save_best(evaluation, lock_timeout_s=lock_timeout_s)
            context.note(f"Layer {evaluation.best_layer} is now the default of {path}")
        if plot is not None:
            save_figure(evaluation.plot(), plot)
            context.note(f"Curve written to {plot}")


def _evaluate(
    context: Context,
    index: Index,
    target: TargetOptions,
    tasks: Sequence[Task],
    n_resamples: int,
    report: bool,
    task: TaskOptions,
) -> Evaluation:
    """Print the evaluations, and return the first."""
    from layerdex.index.json import evaluations_to_json
    from layerdex.records import progress_of_shares

    with context.progress("Evaluating") as on_progress:
        view = target.bind(index)
        hint = SampleHint(context.note, on_progress)
        told = progress_of_shares(
            hint if _may_propose_sample(index, task) else on_progress,
            [1.0] * len(tasks),
            len(tasks) * _N_STEPS,
        )
        evaluations = [
            view.evaluate(each, n_resamples=n_resamples, on_progress=tell)
            for tell, each in zip(told, tasks, strict=True)
        ]

    def table() -> None:
        for evaluation in evaluations:
            print_evaluation(evaluation, note=context.note)
            if report:
                print_report(evaluation)

    context.print(
        table=table, document=lambda: evaluations_to_json(evaluations, with_report=report)
    )
    return evaluations[0]


def _may_propose_sample(index: Index, task: TaskOptions) -> bool:
    """Say whether all documents may take long, and a sample can be taken instead."""
    from layerdex.index.checks import least_sample

    if len(index) < _N_LARGE or any(map(is_given, _SHORTER_OR_WHOLE)):
        return False
    # Of other fields, counts would be read row by row.
    return bool(task.by) or least_sample(index, task.min_per_label) <= _N_PROPOSED


class SampleHint:
    """Progress that proposes a sample, once, where all documents turn out to take minutes."""

    def __init__(
        self,
        note: Callable[[str], None],
        on_progress: OnProgress | None,
        pace: Pace | None = None,
    ) -> None:
        self._note = note
        self._on_progress = on_progress
        self._pace = Pace() if pace is None else pace
        self._is_given = False

    def __call__(self, done: int, total: int | None) -> None:
        """Take how much is done, and pass it on."""
        self._pace.update(done, total)
        left_s, elapsed_s = self._pace.left_s, self._pace.elapsed_s
        is_early = (
            total is None or done < _JUDGED_AFTER_SHARE * total or elapsed_s < _JUDGED_AFTER_S
        )
        if not self._is_given and left_s is not None and not is_early:
            minutes = (elapsed_s + left_s) / 60
            if minutes > _MANY_MINUTES:
                self._is_given = True
                self._note(
                    f"All documents will take about {minutes:.0f} minutes: --sample {_N_PROPOSED} "
                    "takes a fraction of that, and its figures have intervals"
                )
        if self._on_progress is not None:
            self._on_progress(done, total)


def _compare(
    context: Context,
    indexes: tuple[Index, Index],
    target: TargetOptions,
    task: Task,
    n_resamples: int,
    plot: Path | None,
) -> None:
    from layerdex.index.json import to_json

    with context.progress("Evaluating") as on_progress:
        first, second = indexes
        comparison = target.bind(first).compare(
            second, task, n_resamples=n_resamples, on_progress=on_progress
        )
    context.print(
        table=lambda: print_comparison(comparison, note=context.note),
        document=lambda: to_json(comparison),
    )
    if plot is not None:
        save_figure(comparison.plot(), plot)
        context.note(f"Curve written to {plot}")
