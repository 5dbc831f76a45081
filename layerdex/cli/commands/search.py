"""``layerdex search``."""

from __future__ import annotations

from pathlib import Path

import click

from layerdex.choices import Fuse
from layerdex.cli.asked_texts import INPUT_RULES, read_asked_texts
from layerdex.cli.conflicts import check_rules
from layerdex.cli.context import Context, pass_context
from layerdex.cli.options import (
    STORED_TRANSFORM,
    DisplayOptions,
    InputOptions,
    SimilarityType,
    TargetOptions,
    display_options,
    input_options,
    json_option,
    jsonl_option,
    k_option,
    path_argument,
    query_template_option,
    stored_encoder_options,
    target_options,
    verbosity_options,
)
from layerdex.cli.render.hits import Answer, describe_nothing, describe_recall, print_answer


@click.command("search", short_help="Find the documents nearest to a text.")
@path_argument
@click.argument("queries", nargs=-1, metavar="[QUERY]...")
@click.option(
    "--like",
    multiple=True,
    metavar="ID",
    help="Search by this document instead of a text; repeatable.",
)
@input_options
@k_option
@target_options(
    "One or several, such as 4 or 0,3,6. [default: the saved best, else the deepest]",
    fuse=Fuse,
    transform_help=STORED_TRANSFORM,
)
@query_template_option
@click.option(
    "--min-similarity",
    type=SimilarityType(),
    help="Only hits at least this similar: from -1 to 1, or a percentile such as p99: the "
    "similarity that 99 % of random pairs of documents are below at the layer.",
)
@click.option(
    "--exact",
    is_flag=True,
    help="Compare every document, also at layers with an approximate index.",
)
@display_options
@json_option
@jsonl_option
@stored_encoder_options
@verbosity_options
@pass_context
def command(
    context: Context,
    path: Path,
    queries: tuple[str, ...],
    like: tuple[str, ...],
    source: InputOptions,
    k: int,
    target: TargetOptions,
    query_template: str | None,
    min_similarity: float | str | None,
    exact: bool,
    display: DisplayOptions,
) -> None:
    """Find the documents of INDEX most similar to each QUERY.

    Similarity is the cosine at a layer. Every document is compared, so no hit is missed, unless
    'layerdex accelerate' has built an approximate index of the layer: then a note, and "exact" in
    JSON, say which hits are approximate. --fuse and --transform stay exact.

    Layers can be fused: by the mean of their vectors, by their vectors side by side (concat), or by
    their rankings (rrf), which have a score instead: the mean of 1 / (60 + rank).

    \b
    layerdex search my-index "battery died after a week"
    layerdex search my-index "battery died" --layer 0,3,6
    layerdex search my-index "battery died" --layer 4:0.7,6:0.3 --fuse mean
    layerdex search my-index "battery died" --layer 4 --transform whiten
    layerdex search my-index "battery died" --layer 0,3,6 --min-similarity p99.9
    layerdex search my-index --like a17 --where 'stars<3' -k 5
    layerdex search my-index --input questions.txt --jsonl
    """
    from layerdex.index.json import search_to_json

    check_rules(INPUT_RULES)
    index = context.open_index(path)
    view = target.bind(index)
    if not queries and not like and source.input_ is None:
        raise click.UsageError("give a QUERY, --like ID or --input FILE")
    asked = read_asked_texts(context, index, queries, source)
    if query_template is not None and not asked:
        raise click.UsageError("--query-template requires a QUERY or --input")
    detail = display.resolve(index)
    answers = []
    if like:
        with context.progress("Searching"):
            results = view.search_like(like, k=k, min_similarity=min_similarity, exact=exact)
        answers += Answer.group(like, results)
    if asked:
        with context.progress("Searching") as on_progress:
            results = view.search(
                [text for _, text in asked],
                k=k,
                min_similarity=min_similarity,
                query_template=query_template,
                exact=exact,
                on_progress=on_progress,
            )
        answers += Answer.group([identifier for identifier, _ in asked], results)

    def rows() -> list[dict[str, object]]:
        return [
            row
            for answer in answers
            for row in search_to_json(answer.results, query_id=answer.query_id)
        ]

    def table() -> None:
        for i, answer in enumerate(answers):
            if any(result.hits for result in answer.results):
                print_answer(answer.results, detail)
                continue
            subject = "no other document" if i < len(like) else "no document"
            reason = describe_nothing(subject, target.where, min_similarity, answer.results)
            context.note(f"Nothing found for {answer.results[0].query!r}: {reason}")

    context.print(table=table, document=rows, lines=rows)
    if (note := describe_recall(answers)) is not None:
        context.note(note)
