"""Predicted labels of texts, with the nearest neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from layerdex.cli.render.cells import Detail, Passage, make_name, stack
from layerdex.cli.render.documents import N_NEIGHBORS, describe_neighbors
from layerdex.cli.render.tables import make_table, print_table
from layerdex.cli.render.text import one_line

if TYPE_CHECKING:
    from layerdex.records import Document
    from layerdex.search.results import LabelledNeighbor, Prediction


def print_predictions(
    predictions: Sequence[Prediction], documents: Mapping[str, Document], detail: Detail
) -> None:
    """Print each text with its label, confidence and nearest neighbours.

    ``documents`` has those of `shown_neighbors` by id.
    """
    if not predictions:
        return
    title = predictions[0].target.title
    if (field := predictions[0].label_field) != "label":
        title += f" · labels are values of {one_line(field, 30)}"
    table = make_table(">confidence", "label and text", title=title)
    for prediction in predictions:
        cell = stack(
            make_name("(unsure)" if prediction.label is None else prediction.label),
            Passage(prediction.text, detail.n_lines),
            *describe_neighbors(shown_neighbors(prediction), documents, detail),
        )
        table.add_row(f"{prediction.confidence:.3f}", cell)
    print_table(table)


def shown_neighbors(prediction: Prediction) -> list[LabelledNeighbor]:
    """Return the nearest neighbours, at least one of them with the predicted label."""
    shown = list(prediction.neighbors[:N_NEIGHBORS])
    label, neighbors = prediction.label, prediction.neighbors
    winners = [neighbor for neighbor in neighbors if neighbor.label == label]
    if winners and winners[0] not in shown:
        shown[-1] = winners[0]
    return shown
