"""Run docs/notebook.ipynb from top to bottom, and write its outputs into it.

python -m scripts.execute_notebook
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "notebook.ipynb"


def main() -> None:
    notebook = read_notebook(NOTEBOOK)
    with tempfile.TemporaryDirectory() as folder:
        execute(notebook, Path(folder))
    nbformat.write(notebook, NOTEBOOK)
    print(f"{NOTEBOOK.name}: {NOTEBOOK.stat().st_size / 1000:.0f} kB")


def read_notebook(path: Path) -> Any:
    """Return a notebook, checked against the format's schema."""
    return nbformat.read(path, as_version=4)


def execute(notebook: Any, folder: Path) -> None:
    """Run all cells in a folder by the kernel of this interpreter; an error in a cell is raised."""
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",  # jupyter_client starts it with this interpreter
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
    )
    client.execute()


if __name__ == "__main__":
    main()
