"""Pictures: their names, colours, and how they are written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from layerdex.errors import OptionError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Distinguishable by colour-blind people too (Okabe and Ito, *Color Universal Design*, 2008).
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_SUFFIXES = (".png", ".svg", ".pdf")


def check_picture(path: Path) -> None:
    """Raise `OptionError`, before any work, for a picture that cannot be drawn."""
    if path.suffix.lower() not in _SUFFIXES:
        raise OptionError(f"cannot draw {path}: end the name in .png, .svg or .pdf")
    if not path.absolute().parent.is_dir():
        raise OptionError(f"cannot draw {path}: there is no folder {path.absolute().parent}")


def color(i: int) -> str:
    """Return the i-th colour; after the last comes the first."""
    return _COLORS[i % len(_COLORS)]


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, its size in inches; it needs no display."""
    # A notebook's backend, which its shells inherit, need not exist here; files need none at all.
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        from matplotlib.figure import Figure
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a picture whole or not at all; svg files of equal figures have equal bytes."""
    import matplotlib as mpl

    from layerdex.index.files import atomic_write

    suffix = path.suffix.lower().removeprefix(".")
    # By default, an svg has random ids and the date.
    metadata = {"Date": None} if suffix == "svg" else None
    with atomic_write(path) as written, mpl.rc_context({"svg.hashsalt": "layerdex"}):
        figure.savefig(written, dpi=150, format=suffix, metadata=metadata)
