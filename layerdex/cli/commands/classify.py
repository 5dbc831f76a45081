"""``layerdex classify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from layerdex.choices import Weights
from layerdex.cli.asked_texts import INPUT_RULES, read_asked_texts
from layerdex.cli.conflicts import Excludes, Rule, check_rules
from layerdex.cli.context import Context, OutputForm, pass_context
from layerdex.cli.options import (
    FUSED_VECTORS,
    STORED_TRANSFORM,
    DisplayOptions,
    InputOptions,
    TargetOptions,
    display_options,
    input_options,
    json_option,
    jsonl_option,
    k_option,
    path_argument,
    stored_encoder_options,
    target_options,
    verbosity_options,
    weights_option,
)
from layerdex.cli.render.predictions import print_predictions, shown_neighbors

if TYPE_CHECKING:
    from layerdex.index.document_reader import DocumentReader
    from layerdex.records import Document
    from layerdex.search.results import Prediction

_HEAD = "head"
_OF_NEIGHBORS = ("k", "layer", "fuse", "transform", "weights", "where")
_RULES: tuple[Rule, ...] = (Excludes("classifier", _OF_NEIGHBORS, value=_HEAD), *INPUT_RULES)


@click.command("classify", short_help="Label texts by their nearest neighbours.")
@path_argument
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@input_options
@k_option
@target_options(
    "Layer to compare at. [default: the saved best, else the deepest]",
    fuse=FUSED_VECTORS,
    transform_help=STORED_TRANSFORM,
)
@weights_option
@click.option(
    "--min-confidence",
    type=float,
    default=0.0,
    help="Give no label below this confidence, from 0 to 1.",
)
@click.option(
    "--with",
    "classifier",
    type=click.Choice(["neighbors", _HEAD]),
    default="neighbors",
    show_default=True,
    help="Classify by neighbours, or by the head that 'probe --save' stored.",
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
    texts: tuple[str, ...],
    source: InputOptions,
    k: int,
    target: TargetOptions,
    weights: Weights,
    min_confidence: float,
    classifier: str,
    display: DisplayOptions,
) -> None:
    """Label each TEXT by the vote of its nearest labelled documents in INDEX.

    A tie goes to the label of the nearest neighbour among the tied. The confidence is the label's
    share of the vote, or with --with head its calibrated probability.

    \b
    layerdex classify my-index "where is my card?"
    layerdex classify my-index --input new.jsonl --jsonl --min-confidence 0.6
    """
    from layerdex.index.checks import has_single_label
    from layerdex.index.json import prediction_to_json

    check_rules(_RULES)
    if not texts and source.input_ is None:
        raise click.UsageError("give a TEXT or --input FILE")
    asked = read_asked_texts(context, texts, source)
    index = context.open_index(path)
    detail = display.resolve(index)
    texts_asked = [text for _, text in asked]
    documents: dict[str, Document] = {}

    def on_result(predictions: list[Prediction], read: DocumentReader) -> None:
        shown = [neighbor.id for one in predictions for neighbor in shown_neighbors(one)]
        documents.update({document.id: document for document in read(list(dict.fromkeys(shown)))})

    if classifier == _HEAD:
        predictions = index.classify_with_head(texts_asked, min_confidence=min_confidence)
    else:
        view = target.bind(index)
        predictions = view.classify(
            texts_asked,
            k=k,
            weights=weights,
            min_confidence=min_confidence,
            on_result=on_result if context.form is OutputForm.TABLE else None,
        )
        if has_single_label(index):
            context.note("All labelled documents of this index have the same label.")

    def rows() -> list[dict[str, object]]:
        return [
            prediction_to_json(prediction, text_id=text_id)
            for (text_id, _), prediction in zip(asked, predictions, strict=True)
        ]

    context.print(
        table=lambda: print_predictions(predictions, documents, detail), document=rows, lines=rows
    )
