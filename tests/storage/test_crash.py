"""A writer killed by SIGKILL: nothing lost, nothing doubled, and a rerun completes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from layerdex import Index
from tests.encoders import WordEncoder
from tests.storage.corpora import reopen
from tests.storage.killed_writer import corpus
from tests.storage.stored import Version, query, read_live, read_versions

_ROOT = Path(__file__).parents[2]
_POINTS = {
    "half a file": 8,
    "before the rename": 8,
    "after the rename": 8,
    "in the transaction": 8,
    "after the commit": 16,
}
"""Where the writer dies, and how many rows of the corpus are committed then."""


def _create(path: Path) -> Index:
    index = Index.create(path, encoder=WordEncoder())
    index.add([{"id": f"old{i}", "text": f"old text {i}", "label": "y"} for i in range(4)])
    return index


def _kill(index: Index, point: str) -> None:
    command = [sys.executable, "-m", "tests.storage.killed_writer", str(index.store.path), point]
    process = subprocess.run(command, cwd=_ROOT, capture_output=True, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()


def _undisturbed(path: Path, n_rows: int) -> list[Version]:
    _create(path).add(corpus()[:n_rows])
    return read_versions(path)


def _segment_folders(index: Index) -> tuple[set[str], set[str]]:
    on_disk = {entry.name for entry in (index.store.path / "segments").iterdir()}
    return on_disk, {name for (name,) in query(index.store.path, "SELECT name FROM segment")}


@pytest.mark.parametrize("point", _POINTS)
def test_killed_writer_loses_and_doubles_nothing(tmp_path: Path, point: str) -> None:
    index = _create(tmp_path / "killed")
    _kill(index, point)

    survivor = reopen(index)
    assert survivor.verify() == []
    committed = _undisturbed(tmp_path / "part", _POINTS[point])
    assert read_versions(index.store.path) == committed
    assert len(survivor) == len(index) == sum(version.live for version in committed)

    report = survivor.add(corpus())
    assert report.n_new + report.n_updated + report.n_unchanged == report.n_read == len(corpus())
    assert report.n_encoded < len(corpus())
    assert read_versions(index.store.path) == _undisturbed(tmp_path / "whole", len(corpus()))
    on_disk, in_catalog = _segment_folders(index)
    assert on_disk == in_catalog
    assert survivor.verify() == []
    again = survivor.add(corpus())
    assert again.n_unchanged == len(corpus())


@pytest.mark.parametrize("point", ["compaction: before its commit", "compaction: after its commit"])
def test_killed_compaction_loses_nothing(tmp_path: Path, point: str) -> None:
    index = _create(tmp_path / "killed")
    index.add(corpus())
    index.delete("old3")
    before = read_live(index.store.path)
    _kill(index, point)

    survivor = reopen(index)
    assert survivor.verify() == []
    assert read_live(index.store.path) == before
    n_segments = 5 if "before" in point else 1
    assert len(query(index.store.path, "SELECT name FROM segment")) == n_segments
    survivor.compact()
    on_disk, in_catalog = _segment_folders(index)
    assert on_disk == in_catalog
    assert len(in_catalog) == 1
    assert read_live(index.store.path) == before
