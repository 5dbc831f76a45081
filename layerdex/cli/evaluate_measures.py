"""``layerdex evaluate`` by judged queries or pairs, or against another index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from layerdex.cli.measurement_output import (
    comparison_json,
    measurement_json,
    print_comparison,
    print_measurement,
)
from layerdex.cli.options import Decorated, query_template_option
from layerdex.cli.output import note, print_json, progress
from layerdex.cli.plot import plot_comparison, plot_measurement

_OF_LABELS = ("k", "weights", "by", "min_per_label", "folds", "test", "label_field", "report")
_NOT_COMPARED = ("test", "report", "save_best", "transform", "metadata_fields", "label_field")
_OF_FIELDS = ("text_field", "id_field", "label_field", "metadata_fields")


def measure_options(function: Decorated) -> Decorated:
    """Add the options of `Asked`."""
    decorators = (
        click.option(
            "--queries",
            metavar="FILE",
            help="Measure retrieval instead: queries with an id and a text (jsonl, tsv, …).",
        ),
        click.option(
            "--qrels",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Which documents are relevant to --queries: TREC's qrels, or BEIR's tsv.",
        ),
        query_template_option,
        click.option(
            "--pairs",
            metavar="FILE",
            help="Measure similarity instead: sentence1, sentence2, and a score, or a label 0 or "
            "1 (jsonl, csv, tsv, …).",
        ),
        click.option(
            "--positive-from",
            type=float,
            metavar="SCORE",
            help="Take --pairs from this score on for a 1, the others for a 0.",
        ),
        click.option(
            "--compare",
            type=click.Path(path_type=Path),
            metavar="INDEX2",
            help="Show this index of the same documents (by id) beside INDEX.",
        ),
    )
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options of `measure_options` say."""

    queries: str | None
    qrels: Path | None
    query_template: str | None
    pairs: str | None
    positive_from: float | None
    compare: Path | None

    @property
    def is_other(self) -> bool:
        """Whether anything but the labels of one index is asked for."""
        return any(one is not None for one in (self.queries, self.pairs, self.compare))

    def check(self, ctx: click.Context) -> None:
        """Refuse options that do not go together."""
        if (self.queries is None) != (self.qrels is None):
            raise click.UsageError("--queries and --qrels go together")
        if self.queries is not None and self.pairs is not None:
            raise click.UsageError("give --queries or --pairs, not both")
        if self.query_template is not None and self.queries is None:
            raise click.UsageError("--query-template needs --queries")
        if self.positive_from is not None and self.pairs is None:
            raise click.UsageError("--positive-from needs --pairs")
        if self.queries is not None:
            _refuse(ctx, (*_OF_LABELS, "metadata_fields", "format_"), beside="--queries")
        if self.pairs is not None:
            _refuse(ctx, (*_OF_LABELS, *_OF_FIELDS, "where"), beside="--pairs")
        if ctx.params["save_best"] and ctx.params["transform"] != "none":
            raise click.UsageError("--save-best is for plain vectors: not with --transform")
        if self.compare is not None:
            _refuse(ctx, _NOT_COMPARED, beside="--compare")


def _refuse(ctx: click.Context, names: Sequence[str], *, beside: str) -> None:
    for parameter in ctx.command.params:
        is_given = ctx.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE
        if parameter.name in names and is_given:
            raise click.UsageError(f"{parameter.opts[-1]} does not go with {beside}")


def measure_otherwise(
    target: Any,
    asked: Asked,
    options: dict[str, Any],
    *,
    running: dict[str, Any],
    plot: Path | None,
    save_best: dict[str, Any] | None,
    as_json: bool,
) -> None:
    """Measure what is asked, print it, and draw and save what is wanted.

    ``options`` are those of `Index.evaluate`, ``running`` says on what the other index's encoder
    runs, and ``save_best`` holds the options of saving, None where nothing is saved.
    """
    from layerdex.index import Index

    other = [] if asked.compare is None else [Index.open(asked.compare, **running)]
    way, given, names = _question(asked, options)
    method = getattr(target, f"compare{way}" if other else f"evaluate{way}")
    kept = {name: options[name] for name in names}
    with progress("Evaluating") as on_progress:
        found = method(*other, *given, **kept, on_progress=on_progress)
    if as_json:
        print_json(comparison_json(found) if other else measurement_json(found))
    elif other:
        print_comparison(found)
    else:
        print_measurement(found)
    if plot is not None:
        (plot_comparison if other else plot_measurement)(found, plot)
        note(f"Curve written to {plot}")
    if save_best is not None:
        target.save_best(found, **save_best)
        note(f"Layer {found.best_layer} is now the default of {target.store.path}")


def _question(
    asked: Asked, options: dict[str, Any]
) -> tuple[str, tuple[Any, ...], tuple[str, ...]]:
    """Return the end of the method's name, its arguments and the names of its options."""
    shared: tuple[str, ...] = ("layers", "fuse", "n_resamples")
    if asked.compare is None:
        shared += ("transform",)
    if asked.queries is not None:
        options["query_template"] = asked.query_template
        names = (*shared, "where", "query_template", "text_field", "id_field")
        return "_retrieval", (asked.queries, asked.qrels), names
    if asked.pairs is not None:
        options["positive_from"] = asked.positive_from
        return "_pairs", (asked.pairs,), (*shared, "positive_from", "format")
    if len(options["k"]) > 1 or len(options["by"]) > 1 or not isinstance(options["weights"], str):
        raise click.UsageError("--compare takes one -k, one --weights and one --by")
    options["k"] = options["k"][0]
    options["by"] = options["by"][0] if options["by"] else "label"
    return "", (), (*shared, "k", "weights", "by", "where", "min_per_label", "folds")
