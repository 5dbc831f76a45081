"""What all pictures of results share: how they are named, coloured and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from layerdex.errors import OptionError

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Told apart by colour-blind people too (Okabe and Ito, *Color Universal Design*, 2008)."""

_FORMATS = (".png", ".svg", ".pdf")


def check_picture(path: Path) -> None:
    """Raise `OptionError` for a picture that could not be drawn, before any work is done."""
    if path.suffix.lower() not in _FORMATS:
        raise OptionError(f"cannot draw {path}: end the name in .png, .svg or .pdf")
    if not path.absolute().parent.is_dir():
        raise OptionError(f"cannot draw {path}: there is no folder {path.absolute().parent}")


def color(i: int) -> str:
    """Return the colour of the i-th thing drawn; they begin again after the last."""
    return COLORS[i % len(COLORS)]


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure of so many inches, for which no screen is needed."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, path: Path) -> None:
    """Write a whole picture or none; of the same results, an svg of the same bytes."""
    import matplotlib as mpl

    from layerdex.storage.files import atomic_write

    kind = path.suffix.lower().removeprefix(".")
    # matplotlib's own choices are a random salt for the names of parts, and today's date.
    metadata = {"Date": None} if kind == "svg" else None
    with atomic_write(path) as written, mpl.rc_context({"svg.hashsalt": "layerdex"}):
        figure.savefig(written, dpi=150, format=kind, metadata=metadata)
