"""``classify --input FILE``: its columns with the predicted labels, and a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from layerdex.cli.context import Context
from layerdex.cli.render.report import note_report, print_classification_report
from layerdex.cli.render.text import counted, describe_labels

if TYPE_CHECKING:
    from layerdex.index.batches import Classify
    from layerdex.index.files import InputTable
    from layerdex.search.results import Prediction

_COLUMNS = ("predicted", "confidence", "evidence")
_N_IN_EVIDENCE = 3


def write_classified(
    context: Context, table: InputTable, classify: Classify, output: Path | None
) -> list[Prediction | None]:
    """Predict the label of each row, and write the rows with it if there is an output.

    Returns the predictions, None for each row without a text.
    """
    from layerdex.index.batches import classify_batches
    from layerdex.index.files import write_table

    predictions: list[Prediction | None] = []
    added = _free_names(table.names)

    def rows(found: Iterator[Prediction | None]) -> Iterator[Mapping[str, object]]:
        for row, prediction in zip(table.rows, found, strict=True):
            predictions.append(prediction)
            yield {**row, **dict(zip(added, _cells(prediction), strict=True))}

    with context.progress("Classifying") as on_progress:
        found = classify_batches(table.texts, classify, on_progress=on_progress)
        if output is None:
            predictions.extend(found)
        else:
            names = [*table.names, *added]
            write_table(output, names, rows(found), delimiter=table.delimiter)
    if output is not None:
        columns = ", ".join(added)
        context.note(f"{counted(len(predictions), 'row')} written to {output} with {columns}")
    if n_blank := predictions.count(None):
        context.note(f"{counted(n_blank, 'row')} without a text: no prediction")
    return predictions


def print_report(
    context: Context,
    predictions: Sequence[Prediction | None],
    table: InputTable,
    known: frozenset[str],
    *,
    is_of_head: bool,
) -> None:
    """Print how good the predictions are; rows without a text are left out."""
    from layerdex.index.json import to_json
    from layerdex.search.evaluation.report import classification_report

    pairs = [
        (prediction, label)
        for prediction, label in zip(predictions, table.labels, strict=True)
        if prediction is not None
    ]
    report = classification_report(
        [label for _, label in pairs], [prediction for prediction, _ in pairs], known=known
    )
    context.print(
        table=lambda: print_classification_report(report), document=lambda: to_json(report)
    )
    note_report(report, is_of_head=is_of_head, note=context.note)


def note_vanished(
    context: Context, predictions: Sequence[Prediction | None], vanished: Sequence[str]
) -> None:
    """Say which of the predicted labels no document of the index has any more."""
    given = {prediction.label for prediction in predictions if prediction is not None}
    if answered := [label for label in vanished if label in given]:
        context.note(
            f"The head predicts labels that no document has any more: {describe_labels(answered)}; "
            "'layerdex probe --save' fits it to the labels of today"
        )


def _free_names(names: Sequence[str]) -> list[str]:
    """Return the names of the columns to add, numbered where the file has them already."""
    number, added = 1, list(_COLUMNS)
    while not {*added}.isdisjoint(names):
        number += 1
        added = [f"{name}_{number}" for name in _COLUMNS]
    return added


def _cells(prediction: Prediction | None) -> tuple[str | None, float | None, str | None]:
    if prediction is None:
        return None, None, None
    evidence = [f"{neighbor.id} {neighbor.similarity:.3f}" for neighbor in prediction.neighbors]
    evidence += [f"{label} {probability:.3f}" for label, probability in prediction.likeliest]
    return prediction.label, prediction.confidence, "; ".join(evidence[:_N_IN_EVIDENCE])
