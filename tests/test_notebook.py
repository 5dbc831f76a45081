"""The notebook of the documentation runs as it stands, and shows what it made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripts.execute_notebook import NOTEBOOK, execute, read_notebook


def kinds(cell: Any) -> set[str]:
    """Return the media types of a code cell's outputs."""
    return {kind for output in cell.outputs for kind in output.get("data", ())}


@pytest.mark.minilm
@pytest.mark.filterwarnings("default")  # those of Jupyter are not ours
def test_the_notebook_runs_and_shows_tables_and_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    notebook = read_notebook(NOTEBOOK)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    committed = list(map(kinds, code))
    execute(notebook, tmp_path)
    assert list(map(kinds, code)) == committed


def test_the_committed_notebook_is_small_and_whole() -> None:
    assert NOTEBOOK.stat().st_size < 300_000
    code = [cell for cell in read_notebook(NOTEBOOK).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert {"text/html", "image/png"} <= set.union(*map(kinds, code))
