"""Predicted labels of texts, with the nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from layerdex.cli.render.tables import make_cell, make_table, print_table
from layerdex.cli.render.text import describe_target, one_line

if TYPE_CHECKING:
    from layerdex.search.results import LabelledNeighbor, Prediction

_N_NEIGHBORS_SHOWN = 3


def print_predictions(predictions: Sequence[Prediction]) -> None:
    """Print each text with its label, confidence and nearest neighbours."""
    if not predictions:
        return
    title = describe_target(predictions[0].target)
    if (field := predictions[0].label_field) != "label":
        title += f" · labels are values of {one_line(field, 30)}"
    table = make_table("text", "label", ">confidence", title=title)
    for prediction in predictions:
        neighbors = [
            one_line(f"{neighbor.similarity:.3f} {neighbor.label} · {neighbor.id}")
            for neighbor in _shown_neighbors(prediction)
        ]
        label = "(unsure)" if prediction.label is None else one_line(prediction.label, 30)
        cell = make_cell(one_line(prediction.text, 120), *neighbors)
        table.add_row(cell, label, f"{prediction.confidence:.3f}")
    print_table(table)


def _shown_neighbors(prediction: Prediction) -> list[LabelledNeighbor]:
    """Return the nearest neighbours, at least one of them with the predicted label."""
    shown = list(prediction.neighbors[:_N_NEIGHBORS_SHOWN])
    label, neighbors = prediction.label, prediction.neighbors
    winners = [neighbor for neighbor in neighbors if neighbor.label == label]
    if winners and winners[0] not in shown:
        shown[-1] = winners[0]
    return shown
