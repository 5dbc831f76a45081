"""Pictures: their names, and how they are written; results draw them by `plot`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from layerdex.errors import OptionError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SUFFIXES = (".png", ".svg", ".pdf")


def check_picture(path: Path) -> None:
    """Raise `OptionError`, before any work, for a picture that cannot be drawn."""
    if path.suffix.lower() not in _SUFFIXES:
        raise OptionError(f"cannot draw {path}: end the name in .png, .svg or .pdf")
    if not path.absolute().parent.is_dir():
        raise OptionError(f"cannot draw {path}: there is no folder {path.absolute().parent}")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a picture whole or not at all; svg files of equal figures have equal bytes."""
    import matplotlib as mpl

    from layerdex.index.files import atomic_write

    suffix = path.suffix.lower().removeprefix(".")
    # By default, an svg has random ids and the date.
    metadata = {"Date": None} if suffix == "svg" else None
    with atomic_write(path) as written, mpl.rc_context({"svg.hashsalt": "layerdex"}):
        figure.savefig(written, dpi=150, format=suffix, metadata=metadata)
