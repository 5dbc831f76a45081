"""Figures and the backend that a notebook names in MPLBACKEND."""

from __future__ import annotations

import subprocess
import sys

import pytest

DRAW = """
import os
from layerdex.search.plots.figures import new_figure
new_figure(1, 1)._repr_png_()
import matplotlib, sys
print(matplotlib.get_backend(auto_select=False), os.environ["MPLBACKEND"])
print("matplotlib.pyplot" in sys.modules)
"""


@pytest.mark.parametrize(
    ("backend", "kept"),
    [("module://matplotlib_inline.backend_inline", None), ("svg", None), ("no_such", "None")],
)
def test_a_figure_keeps_the_backend_of_a_notebook_and_starts_none(
    backend: str, kept: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPLBACKEND", backend)
    run = subprocess.run([sys.executable, "-c", DRAW], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [f"{kept or backend} {backend}", "False"]
