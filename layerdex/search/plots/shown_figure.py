"""A figure that notebooks show without pyplot, and so once only."""

from __future__ import annotations

from io import BytesIO

from matplotlib.figure import Figure


class ShownFigure(Figure):
    """A figure with what IPython asks for; pyplot, which starts a backend, is not imported."""

    def _repr_png_(self) -> bytes:
        """Return the picture as png, 100 pixels to the inch."""
        written = BytesIO()
        self.savefig(written, format="png", dpi=100)
        return written.getvalue()
