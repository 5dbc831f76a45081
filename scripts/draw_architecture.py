"""Draw docs/figures/architecture.svg from today's imports.

    python -m scripts.draw_architecture

The picture shows the rooms by floor, the sub-packages and files of each, and which rooms import
which. The same facts stand as text in its ``<dc:description>``, which `tests.test_architecture`
compares with the source: run this again when that test fails.
"""

from __future__ import annotations

import math
import textwrap
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.imports import (
    FLOORS,
    FOUNDATIONS,
    PACKAGE,
    REPOSITORY,
    Graph,
    list_modules,
    read_imports,
    room_graph,
)

PICTURE = REPOSITORY / "docs" / "figures" / "architecture.svg"

_DESCRIPTION = "{http://purl.org/dc/elements/1.1/}description"
_INK, _FAINT = "#1f2933", "#5b6770"
_UNITS_PER_INCH = 100


@dataclass(frozen=True, slots=True)
class Room:
    """How a room is drawn: left edge and width in hundredths of an inch, and what it is for."""

    x: float
    width: float
    fill: str
    caption: str
    n_columns: int = 4


# Row by row from the top. The colours are tints of Okabe and Ito's palette.
WIDTH, MARGIN, GAP = 960, 20, 32
ROWS: tuple[dict[str, Room], ...] = (
    {
        "cli": Room(20, 660, "#e3eef7", "the command line: parse, call one method, render"),
        "sklearn": Room(712, 228, "#e3eef7", "estimators for scikit-learn"),
    },
    {"index": Room(20, 920, "#fdf0d9", "the facade: Index, and View, which binds a target")},
    {
        "search": Room(20, 444, "#e0f2ec", "vectors to results; imports no model", 3),
        "indexer": Room(496, 444, "#fbe5d8", "texts to vectors; the engines"),
    },
    {"storage": Room(20, 920, "#f6e6ef", "what is on disk: the catalog and the vectors")},
)
ROOMS = {name: room for row in ROWS for name, room in row.items()}
FILES = {
    "arguments": "checks of what callers pass",
    "choices": "enums",
    "cpu": "instructions of the processor",
    "errors": "the tree of exceptions",
    "layers": "what layer numbers mean",
    "limits": "memory and threads at hand",
    "missing": "None, NaN and NA",
    "options": "EncoderOptions, RuntimeOptions",
    "predicates": "the conditions of where",
    "records": "documents, vectors, the Encoder protocol",
    "removals": "how many documents may go",
    "progress": "bars for callbacks",
    "tabular": "results as tables",
    "tag_schemes": "tags of words as spans",
    "terminals": "what a terminal obeys",
    "threads": "a pool that ends whole",
    "forks": "locks and threads after a fork",
    "wording": "names of metrics, counts",
}
_HEADER, _LINE, _CHIP, _FOOTER = 52, 16, 30, 26


def describe(root: Path = REPOSITORY) -> str:
    """Return the facts that the picture shows, one per line."""
    imports = room_graph(read_imports(root))
    lines = [f"floor: {', '.join(floor)}" for floor in FLOORS]
    lines += [f"{room}: {', '.join(contents_of(room, root))}" for room in ROOMS]
    lines += [f"{room} -> {', '.join(sorted(targets))}" for room, targets in imports.items()]
    return "\n".join(lines)


def contents_of(room: str, root: Path = REPOSITORY) -> list[str]:
    """Return the names of a room's sub-packages, each with a slash, then those of its files."""
    prefix = f"{PACKAGE}.{room}."
    children: dict[str, None] = {}
    for module, path in list_modules(root).items():
        if module.startswith(prefix):
            child = module.removeprefix(prefix).split(".")[0]
            is_folder = path.name == "__init__.py" or "." in module.removeprefix(prefix)
            children[f"{child}/" if is_folder else child] = None
    return sorted(children, key=lambda name: (not name.endswith("/"), name))


def read_description(path: Path = PICTURE) -> str:
    """Return the facts that a picture was drawn from."""
    element = next(ET.parse(path).iter(_DESCRIPTION), None)
    if element is None or element.text is None:
        raise ValueError(f"{path} has no description: draw it with scripts.draw_architecture")
    return element.text


def draw(path: Path = PICTURE) -> None:
    """Write the picture; the same source gives the same bytes."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib.figure import Figure

    heights = [max(_height(name) for name in row) for row in ROWS]
    files_height = 40 + _LINE * 1.4 * math.ceil(len(FOUNDATIONS) / 2)
    height = 2 * MARGIN + sum(heights) + GAP * len(ROWS) + files_height
    figure = Figure(figsize=(WIDTH / _UNITS_PER_INCH, height / _UNITS_PER_INCH), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, height))
    axes.axis("off")
    imports = room_graph(read_imports())
    top = height - MARGIN
    for i, (row, row_height) in enumerate(zip(ROWS, heights, strict=True)):
        for name in row:
            _draw_room(axes, name, top=top, height=row_height, imports=imports[name])
        bottom = top - row_height
        below = ROWS[i + 1] if i + 1 < len(ROWS) else {}
        _draw_arrows(axes, row, below, imports, top=bottom)
        if "search" in below and "storage" in imports["index"]:
            _arrow(axes, (464 + 496) / 2, bottom, bottom - 2 * GAP - heights[i + 1])
        top = bottom - GAP
    _arrow(axes, WIDTH / 2, top + GAP, top)
    _draw_files(axes, top=top, height=files_height)
    # matplotlib's own choices are random names for shared parts, and today's date.
    metadata = {"Date": None, "Title": "Layerdex: rooms and floors", "Description": describe()}
    with mpl.rc_context({"svg.hashsalt": PACKAGE, "svg.fonttype": "path"}):
        figure.savefig(path, format="svg", metadata=metadata)


def _files_of(name: str) -> list[str]:
    """Return the lines that list the files of a room."""
    files = [child for child in contents_of(name) if not child.endswith("/")]
    return textwrap.wrap(", ".join(files), int((ROOMS[name].width - 28) / 7.2))


def _packages_of(name: str) -> list[str]:
    return [child for child in contents_of(name) if child.endswith("/")]


def _height(name: str) -> float:
    """Return the height that a room's contents need."""
    n_rows = math.ceil(len(_packages_of(name)) / ROOMS[name].n_columns)
    return _HEADER + _CHIP * n_rows + _LINE * len(_files_of(name)) + _FOOTER


def _draw_room(axes: Any, name: str, *, top: float, height: float, imports: frozenset[str]) -> None:
    room = ROOMS[name]
    _rectangle(axes, room.x, top - height, room.width, height, fill=room.fill, edge=_INK)
    left = room.x + 14
    title = f"{name}/" if contents_of(name) else f"{name}.py"
    _text(axes, left, top - 18, title, size=13, weight="bold")
    _text(axes, left, top - 37, room.caption, size=9.5, color=_FAINT)
    y = top - _HEADER
    packages = _packages_of(name)
    width = min((room.width - 28 - 8 * (room.n_columns - 1)) / room.n_columns, 140)
    for i, package in enumerate(packages):
        row, column = divmod(i, room.n_columns)
        x, chip_y = left + column * (width + 8), y - _CHIP * row - 24
        _rectangle(axes, x, chip_y, width, 24, fill="white", edge=_FAINT)
        _text(axes, x + width / 2, chip_y + 12, package, size=9.5, align="center")
    y -= _CHIP * math.ceil(len(packages) / room.n_columns)
    for i, line in enumerate(_files_of(name)):
        _text(axes, left, y - _LINE * i - 8, line, size=9)
    rooms = sorted(imports & ROOMS.keys())
    if rooms:
        text = f"imports {', '.join(rooms)}"
        _text(axes, left, top - height + 13, text, size=9, color=_FAINT, style="italic")


def _draw_arrows(
    axes: Any, row: Mapping[str, Room], below: Mapping[str, Room], imports: Graph, *, top: float
) -> None:
    """Draw the imports of one row from the next; longer ones are named in the boxes."""
    for name, room in row.items():
        for target in sorted(imports[name] & below.keys()):
            left = max(room.x, below[target].x)
            right = min(room.x + room.width, below[target].x + below[target].width)
            _arrow(axes, (left + right) / 2, top, top - GAP)


def _draw_files(axes: Any, *, top: float, height: float) -> None:
    """Draw the lowest floor: single files that every room may import."""
    _rectangle(axes, 20, top - height, 920, height, fill="#f0f2f4", edge=_INK)
    _text(axes, 34, top - 18, "imported from every floor above", size=9.5, color=_FAINT)
    n_rows = math.ceil(len(FOUNDATIONS) / 2)
    for i, name in enumerate(FOUNDATIONS):
        column, row = divmod(i, n_rows)
        x, y = 34 + column * 440, top - 42 - row * _LINE * 1.4
        _text(axes, x, y, f"{name}.py", size=10, weight="bold")
        _text(axes, x + 138, y, FILES[name], size=9.5, color=_FAINT)


def _arrow(axes: Any, x: float, top: float, bottom: float) -> None:
    style = {"arrowstyle": "-|>,head_width=0.35,head_length=0.6", "color": _INK, "lw": 1.3}
    ends = {"shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=(x, bottom), xytext=(x, top), arrowprops={**style, **ends})


def _rectangle(
    axes: Any, x: float, y: float, width: float, height: float, *, fill: str, edge: str
) -> None:
    from matplotlib.patches import FancyBboxPatch

    style = "round,pad=0,rounding_size=6"
    box = FancyBboxPatch(
        (x, y), width, height, boxstyle=style, facecolor=fill, edgecolor=edge, lw=1
    )
    axes.add_patch(box)


def _text(
    axes: Any,
    x: float,
    y: float,
    text: str,
    *,
    size: float,
    color: str = _INK,
    weight: str = "normal",
    style: str = "normal",
    align: str = "left",
) -> None:
    axes.text(x, y, text, size=size, color=color, weight=weight, style=style, ha=align, va="center")


if __name__ == "__main__":
    draw()
