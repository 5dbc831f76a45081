"""``layerdex classify``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from layerdex.choices import Classifier, Weights
from layerdex.cli.asked_texts import INPUT_RULES, AskedText, read_asked_texts
from layerdex.cli.classified_file import note_vanished, print_report, write_classified
from layerdex.cli.conflicts import Excludes, Requires, Rule, check_rules
from layerdex.cli.context import Context, OutputForm, pass_context
from layerdex.cli.files import check_outputs, force_option
from layerdex.cli.options import (
    DISPLAY,
    FUSED_VECTORS,
    STORED_TRANSFORM,
    DisplayOptions,
    EnumChoice,
    InputOptions,
    PathType,
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
    from layerdex.cli.render.cells import Detail
    from layerdex.index import Index
    from layerdex.index.document_reader import DocumentReader
    from layerdex.index.files import InputTable
    from layerdex.records import Document, OnProgress
    from layerdex.search.results import Prediction

_OF_NEIGHBORS = ("k", "layer", "fuse", "transform", "weights", "where")
_RULES: tuple[Rule, ...] = (
    Excludes("classifier", _OF_NEIGHBORS, value=Classifier.HEAD),
    Requires("output", "input_"),
    Requires("report", "input_"),
    Requires("label_field", "report"),
    Requires("force", "output"),
    Excludes("output", DISPLAY),
    Excludes("report", DISPLAY),
    *INPUT_RULES,
)


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
    type=EnumChoice(Classifier),
    default=Classifier.NEIGHBORS.value,
    show_default=True,
    help="Classify by neighbours, or by the head that 'probe --save' stored.",
)
@click.option(
    "-o",
    "--output",
    type=PathType(dir_okay=False),
    metavar="FILE",
    help="Write the rows of --input FILE with the columns predicted, confidence and evidence "
    "(.csv, .tsv, .jsonl, .parquet).",
)
@force_option
@click.option(
    "--report",
    is_flag=True,
    help="Compare with the labels of --input FILE: precision, recall and F1 by label.",
)
@click.option(
    "--label-field",
    help="Field of the true label in --input FILE, for --report. [default: that of INDEX's "
    "sources, or label]",
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
    classifier: Classifier,
    output: Path | None,
    report: bool,
    label_field: str | None,
    display: DisplayOptions,
) -> None:
    """Label each TEXT by the vote of its nearest labelled documents in INDEX.

    A tie goes to the label of the nearest neighbour among the tied. The confidence is the label's
    share of the vote, or with --with head its calibrated probability.

    With -o the rows of a file are written with all of their columns, as they are, and three more:
    the predicted label, its confidence, and as evidence the three nearest neighbours with their
    similarities, or the three likeliest labels of a head.

    \b
    layerdex classify my-index "where is my card?"
    layerdex classify my-index --input new.jsonl --jsonl --min-confidence 0.6
    layerdex classify my-index --input new.csv -o labelled.csv
    layerdex classify my-index --input test.csv --report
    """
    from layerdex.index.checks import source_names

    check_rules(_RULES)
    if not texts and source.input_ is None:
        raise click.UsageError("give a TEXT or --input FILE")
    to_file = output is not None or report
    if to_file:
        _check_file_options(context, texts, source, output, report)
    check_outputs(path, output)
    index = context.open_index(path)
    view = target.bind(index)
    neighbors = ShownNeighbors(is_wanted=context.form is OutputForm.TABLE and not to_file)

    def classify(batch: Sequence[str], on_progress: OnProgress | None = None) -> list[Prediction]:
        if classifier is Classifier.HEAD:
            return index.classify_with_head(batch, min_confidence=min_confidence)
        return view.classify(
            batch,
            k=k,
            weights=weights,
            min_confidence=min_confidence,
            on_result=neighbors.read,
            on_progress=on_progress,
        )

    def known() -> frozenset[str]:
        from layerdex.index.checks import head_labels, known_labels

        return head_labels(index) if classifier is Classifier.HEAD else known_labels(view)

    predictions: Sequence[Prediction | None]
    if to_file:
        names = source_names(index)
        labels = (label_field or names["label"]) if report else None
        table = _read_table(source, names["text"], labels)
        predictions = write_classified(context, table, classify, output)
        if report:
            is_of_head = classifier is Classifier.HEAD
            print_report(context, predictions, table, known(), is_of_head=is_of_head)
    else:
        detail = display.resolve(index)
        asked = read_asked_texts(context, index, texts, source)
        with context.progress("Classifying") as on_progress:
            predictions = classify([text for _, text in asked], on_progress)
        _print_predictions(context, asked, predictions, neighbors, detail)
    _note_labels(context, index, classifier, predictions)


def _check_file_options(
    context: Context,
    texts: Sequence[str],
    source: InputOptions,
    output: Path | None,
    report: bool,
) -> None:
    from layerdex.index.files import table_format

    if texts:
        raise click.UsageError("-o and --report are for --input FILE, without a TEXT")
    if context.form is OutputForm.JSONL or (context.form is OutputForm.JSON and not report):
        raise click.UsageError(
            f"--{context.form} prints predictions, which -o and --report leave to the file: "
            "leave it out, or print a --report with --json"
        )
    if output is not None:
        table_format(output)
        if source.input_ not in (None, "-") and output.resolve() == Path(source.input_).resolve():
            raise click.UsageError(f"-o {output} is the input itself: write to another file")


def _read_table(
    source: InputOptions, stored_text_field: str, label_field: str | None
) -> InputTable:
    from layerdex.index.files import read_input

    return read_input(
        str(source.input_),
        text_field=source.text_field,
        stored_text_field=stored_text_field,
        label_field=label_field,
        format=source.format,
        dialect=source.dialect,
    )


class ShownNeighbors:
    """The documents of the neighbours that a table shows, read in the question's transaction."""

    def __init__(self, *, is_wanted: bool) -> None:
        self.documents: dict[str, Document] = {}
        self.read = self._read if is_wanted else None

    def _read(self, predictions: list[Prediction], read: DocumentReader) -> None:
        shown = [neighbor.id for one in predictions for neighbor in shown_neighbors(one)]
        documents = read(list(dict.fromkeys(shown)))
        self.documents.update({document.id: document for document in documents})


def _print_predictions(
    context: Context,
    asked: Sequence[AskedText],
    predictions: Sequence[Prediction],
    neighbors: ShownNeighbors,
    detail: Detail,
) -> None:
    from layerdex.index.json import prediction_to_json

    def rows() -> list[dict[str, object]]:
        return [
            prediction_to_json(prediction, text_id=text_id)
            for (text_id, _), prediction in zip(asked, predictions, strict=True)
        ]

    context.print(
        table=lambda: print_predictions(predictions, neighbors.documents, detail),
        document=rows,
        lines=rows,
    )


def _note_labels(
    context: Context,
    index: Index,
    classifier: Classifier,
    predictions: Sequence[Prediction | None],
) -> None:
    """Say which labels are odd: those that no document has any more, or the only one there is."""
    from layerdex.index.checks import has_single_label, vanished_head_labels

    if classifier is Classifier.HEAD:
        note_vanished(context, predictions, vanished_head_labels(index))
    elif has_single_label(index):
        context.note("All labelled documents of this index have the same label.")
