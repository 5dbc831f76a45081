"""``layerdex classify``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from layerdex.cli.options import (
    check_one_form,
    encoder_options,
    fuse_option,
    index_argument,
    json_option,
    jsonl_option,
    k_option,
    layer_option,
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
    note,
    one_line,
    print_json,
    print_jsonl,
    print_table,
)
from layerdex.cli.search_command import read_queries

_N_NEIGHBORS_SHOWN = 3
_HEAD = "head"
_OF_NEIGHBORS = ("k", "layer", "fuse", "transform", "weights", "where")


@click.command("classify", short_help="Label texts by their nearest neighbours.")
@index_argument
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option("--input", "input_", metavar="FILE", help="Texts from a file (jsonl, txt, …) or -.")
@text_field_option
@k_option
@layer_option("Layer to compare at. [default: the saved best, else the deepest]")
@fuse_option("mean", "concat")
@stored_transform_option
@click.option(
    "--weights",
    type=click.Choice(["distance", "uniform"]),
    default="distance",
    show_default=True,
    help="What a neighbour's vote counts: 1/(1 - similarity), or 1.",
)
@click.option(
    "--min-confidence",
    type=float,
    default=0.0,
    help="Below this share of the vote give no label, 0 to 1.",
)
@click.option(
    "--with",
    "judge",
    type=click.Choice(["neighbors", _HEAD]),
    default="neighbors",
    show_default=True,
    help="What decides: neighbours, or the head that 'probe --save' stored.",
)
@where_option
@json_option
@jsonl_option
@encoder_options
@verbosity_options
def command(
    index: Path,
    texts: tuple[str, ...],
    input_: str | None,
    text_field: str,
    as_json: bool,
    as_jsonl: bool,
    model: str | None,
    adapter: str | None,
    engine: str,
    device: str,
    dtype: str,
    judge: str,
    min_confidence: float,
    transform: str,
    **options: Any,
) -> None:
    """Label each TEXT by the vote of its nearest labelled documents in INDEX.

    A tie goes to the label of the nearest neighbour among the tied. The confidence is the
    winning label's share of the vote; --with head, its calibrated probability.

    \b
    layerdex classify my-index "where is my card?"
    layerdex classify my-index --input new.jsonl --jsonl --min-confidence 0.6
    """
    from layerdex.index import Index

    check_one_form(as_json, as_jsonl)
    if judge == _HEAD:
        _refuse_given(_OF_NEIGHBORS)
    asked: list[tuple[str | None, str]] = [(None, text) for text in texts]
    if input_ is not None:
        asked.extend(read_queries(input_, text_field=text_field))
    if not asked and input_ is None:
        raise click.UsageError("give a TEXT or --input FILE")
    target = Index.open(
        index, model=model, adapter=adapter, engine=engine, device=device, dtype=dtype
    )
    shown = [text for _, text in asked]
    if judge == _HEAD:
        predictions = target.classify_by_head(shown, min_confidence=min_confidence)
    else:
        options |= {"transform": transform, "min_confidence": min_confidence}
        predictions = target.classify(shown, **options)
    if judge != _HEAD and len(target.info().labels) == 1:
        note("All labelled documents of this index have the same label.")
    rows = [
        {
            **({} if identifier is None else {"id": identifier}),
            **asdict(prediction),
            **transform_json(transform),
        }
        for (identifier, _), prediction in zip(asked, predictions, strict=True)
    ]
    if as_json:
        print_json(rows)
    elif as_jsonl:
        print_jsonl(rows)
    else:
        _print(predictions, transform)


def _refuse_given(names: tuple[str, ...]) -> None:
    """Refuse options that only neighbours have a use for."""
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = "-k" if name == "k" else f"--{name}"
            raise click.UsageError(f"--with head does not go with {option}")


def _shown_voters(prediction: Any) -> list[Any]:
    """Return the nearest neighbours, and of the winner's at least one."""
    shown = list(prediction.neighbors[:_N_NEIGHBORS_SHOWN])
    winners = [voter for voter in prediction.neighbors if voter.label == prediction.label]
    if winners and winners[0] not in shown:
        shown[-1] = winners[0]
    return shown


def _print(predictions: list[Any], transform: str) -> None:
    if not predictions:
        return
    layer = predictions[0].layer
    title = f"layer {layer}{transform_title(transform)}"
    table = make_table("text", "label", ">confidence", title=title)
    for one in predictions:
        labelled_neighbors = _shown_voters(one)
        nearest = [one_line(f"{v.similarity:.3f} {v.label} · {v.id}") for v in labelled_neighbors]
        label = "(unsure)" if one.label is None else one_line(one.label, 30)
        cell = make_cell(one_line(one.text, 120), *nearest)
        table.add_row(cell, label, f"{one.confidence:.3f}")
    print_table(table)
