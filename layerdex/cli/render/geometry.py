"""Label-free figures of layers, and how far layers agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerdex.cli.render.tables import make_table, n_side_by_side, print_table, terminal_width
from layerdex.cli.render.text import counted

if TYPE_CHECKING:
    from layerdex.search.evaluation.geometry import Geometry, LayerShape

_SHOWN_PERCENTILES = ("p50", "p99", "p99.9")
_LAYER_COLUMN, _PAIR_COLUMN, _FIGURE_COLUMN = 9, 6, 11


def print_geometry(geometry: Geometry) -> None:
    """Print the figures of each layer, then the agreement of each two."""
    _print_figures(geometry)
    if len(geometry.layers) > 1:
        _print_agreement(geometry)


def _print_figures(geometry: Geometry) -> None:
    """Print the figures, in as many tables as fit the terminal's width."""
    texts, documents = counted(geometry.n_texts, "text"), counted(geometry.n, "document")
    title = f"{texts} of {documents}, k = {geometry.k}"
    columns = ("rank", "anisotropy", "hubness", "dimension", *_SHOWN_PERCENTILES)
    n = n_side_by_side(_FIGURE_COLUMN)
    for start in range(0, len(columns), n):
        shown = slice(start, start + n)
        headers = (">layer", *(f">{name}" for name in columns[shown]))
        table = make_table(*headers, title=None if start else title)
        for shape in geometry.layers:
            table.add_row(str(shape.layer), *_cells(shape)[shown])
        print_table(table)


def _cells(shape: LayerShape) -> list[str]:
    dimension = shape.intrinsic_dimension
    return [
        f"{shape.effective_rank:.1f}",
        f"{shape.anisotropy:.3f}",
        f"{shape.hubness:.2f}",
        "" if dimension is None else f"{dimension:.1f}",
        *(f"{shape.percentiles[name]:.3f}" for name in _SHOWN_PERCENTILES),
    ]


def _print_agreement(geometry: Geometry) -> None:
    """Print the matrix, in as many tables as fit the terminal's width."""
    layers = [shape.layer for shape in geometry.layers]
    n = max(1, (terminal_width() - _LAYER_COLUMN) // _PAIR_COLUMN)
    title = f"Share of the {counted(geometry.k, 'neighbour')} that two layers have in common"
    for start in range(0, len(layers), n):
        shown = layers[start : start + n]
        headers = (">layer", *(f">{layer}" for layer in shown))
        table = make_table(*headers, title=None if start else title)
        for i, layer in enumerate(layers):
            row = geometry.agreement[i, start : start + n].tolist()
            table.add_row(str(layer), *(f"{share:.2f}" for share in row))
        print_table(table)
