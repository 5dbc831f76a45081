"""``layerdex search``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layerdex.cli.options import (
    SimilarityType,
    check_one_form,
    encoder_options,
    fuse_option,
    index_argument,
    json_option,
    jsonl_option,
    k_option,
    layer_option,
    query_template_option,
    stored_transform_option,
    text_field_option,
    transform_json,
    transform_title,
    verbosity_options,
    where_option,
)
from layerdex.cli.output import (
    make_cell,
    make_table,
    n_beside,
    note,
    one_line,
    print_json,
    print_jsonl,
    print_table,
)

if TYPE_CHECKING:
    from rich.console import Group

    from layerdex.records import LayerName
    from layerdex.search.results import Hit

_LAYER_WIDTH = 26  # of three on 80 columns; in less, ids are broken too often to be read


@dataclass(frozen=True, slots=True)
class Answer:
    """The hits of one query by layer."""

    query: str
    query_id: str | None
    hits: dict[LayerName, list[Hit]]


@click.command("search", short_help="Find the nearest documents to a text.")
@index_argument
@click.argument("queries", nargs=-1, metavar="[QUERY]...")
@click.option(
    "--like",
    multiple=True,
    metavar="ID",
    help="Search by this document instead of a text; repeatable.",
)
@click.option("--input", "input_", metavar="FILE", help="Queries from a file (jsonl, txt, …) or -.")
@text_field_option
@k_option
@layer_option("One or several, such as 4 or 0,3,6. [default: the saved best, else deepest]")
@fuse_option("mean", "concat", "rrf")
@stored_transform_option
@where_option
@query_template_option
@click.option(
    "--min-similarity",
    type=SimilarityType(),
    help="Only hits at least this similar: -1 to 1, or such as p99, what 99 % of random pairs of "
    "documents are below at the layer.",
)
@json_option
@jsonl_option
@encoder_options
@verbosity_options
def command(
    index: Path,
    queries: tuple[str, ...],
    like: tuple[str, ...],
    input_: str | None,
    text_field: str,
    k: int,
    layer: str | None,
    fuse: str | None,
    transform: str,
    where: tuple[str, ...],
    query_template: str | None,
    min_similarity: float | str | None,
    as_json: bool,
    as_jsonl: bool,
    model: str | None,
    adapter: str | None,
    engine: str,
    device: str,
    dtype: str,
) -> None:
    """Find the documents of INDEX most similar to each QUERY.

    Similarity is the cosine at a layer. Every document is compared, so that no hit is missed.
    Layers can be fused: their vectors' mean, their vectors side by side (concat), or their
    rankings (rrf), which give a score instead: the mean of 1 / (60 + rank).

    \b
    layerdex search my-index "battery died after a week"
    layerdex search my-index "battery died" --layer 0,3,6
    layerdex search my-index "battery died" --layer 4:0.7,6:0.3 --fuse mean
    layerdex search my-index "battery died" --layer 4 --transform whiten
    layerdex search my-index "battery died" --layer 0,3,6 --min-similarity p99.9
    layerdex search my-index --like a17 --where 'stars<3' -k 5
    layerdex search my-index --input questions.txt --jsonl
    """
    from layerdex.index import Index

    check_one_form(as_json, as_jsonl)
    target = Index.open(
        index, model=model, adapter=adapter, engine=engine, device=device, dtype=dtype
    )
    options: dict[str, Any] = {
        "layers": layer,
        "fuse": fuse,
        "transform": transform,
        "k": k,
        "where": where,
        "min_similarity": min_similarity,
    }
    asked: list[tuple[str | None, str]] = [(None, query) for query in queries]
    if input_ is not None:
        asked.extend(read_queries(input_, text_field=text_field))
    if not asked and not like and input_ is None:
        raise click.UsageError("give a QUERY, --like ID or --input FILE")
    if query_template is not None and not asked:
        raise click.UsageError("--query-template needs a QUERY or --input: --like has a vector")
    answers = [
        Answer(identifier, identifier, target.search_like(identifier, **options))
        for identifier in like
    ]
    if asked:
        found = target.search_many(
            [text for _, text in asked], query_template=query_template, **options
        )
        answers += [
            Answer(text, identifier, {layer: hits[i] for layer, hits in found.items()})
            for i, (identifier, text) in enumerate(asked)
        ]
    if as_json:
        print_json(list(_rows(answers, transform)))
    elif as_jsonl:
        print_jsonl(_rows(answers, transform))
    else:
        for answer in answers:
            print_answer(answer, transform)


def read_queries(source: str, *, text_field: str) -> list[tuple[str | None, str]]:
    """Return ids (where given) and texts of a file of queries; a bad row is an error.

    What else a row has is not looked at.
    """
    from layerdex.errors import RowError
    from layerdex.indexer.readers import Fields
    from layerdex.indexer.readers.sources import read_all
    from layerdex.records import UNSET, Rejected

    queries = []
    fields = Fields(text=text_field, label=UNSET, metadata=())
    for row in read_all([source], fields=fields):
        if isinstance(row, Rejected):
            raise RowError(str(row))
        queries.append((row.id, row.text))
    return queries


def print_answer(answer: Answer, transform: str = "none") -> None:
    """Print one layer's hits with their texts, or several layers side by side."""
    if not any(answer.hits.values()):
        note(f"Nothing found for {answer.query!r}")
        return
    title = f"{one_line(answer.query, 60)} · layer {', '.join(map(str, answer.hits))}"
    title += transform_title(transform)
    if len(answer.hits) == 1:
        [hits] = answer.hits.values()
        closeness = ">similarity" if hits[0].score is None else ">score"
        table = make_table(">#", closeness, "id and text", "label", title=title)
        for hit in hits:
            cell = make_cell(one_line(hit.id), one_line(hit.text))
            table.add_row(str(hit.rank), _closeness(hit), cell, one_line(hit.label or "", 30))
        print_table(table)
        return
    layers, n = list(answer.hits), n_beside(_LAYER_WIDTH)
    for start in range(0, len(layers), n):
        shown = {layer: answer.hits[layer] for layer in layers[start : start + n]}
        _print_beside(shown, title=None if start else title)


def _print_beside(found: dict[LayerName, list[Hit]], *, title: str | None) -> None:
    table = make_table(">#", *(f"layer {layer}" for layer in found), title=title)
    for rank in range(max(len(hits) for hits in found.values())):
        table.add_row(str(rank + 1), *(_cell(hits, rank) for hits in found.values()))
    print_table(table)


def _cell(hits: list[Hit], rank: int) -> Group | str:
    if rank >= len(hits):
        return ""
    hit = hits[rank]
    return make_cell(f"{_closeness(hit)}\n{one_line(hit.id)}", one_line(hit.text))


def _closeness(hit: Hit) -> str:
    # Scores of neighbouring ranks differ in the fourth decimal.
    return f"{hit.similarity:.3f}" if hit.score is None else f"{hit.score:.5f}"


def _rows(answers: list[Answer], transform: str) -> Iterator[dict[str, Any]]:
    for answer in answers:
        asked = {"query": answer.query}
        if answer.query_id is not None:
            asked["query_id"] = answer.query_id
        for hits in answer.hits.values():
            yield from ({**asked, **_to_json(hit), **transform_json(transform)} for hit in hits)


def _to_json(hit: Hit) -> dict[str, Any]:
    """Return a hit with its ``similarity``, or in the same place the ``score`` of a ranking."""
    fields = asdict(hit)
    score = fields.pop("score")
    if score is None:
        return fields
    fields["similarity"] = score
    return {"score" if name == "similarity" else name: one for name, one in fields.items()}
