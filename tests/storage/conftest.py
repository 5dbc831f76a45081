"""Fixtures that the tests of storage share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.storage.hostile import copy, make_sound
from tests.storage.steps import layers_written_by_threads


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user can reach: pytest's own are closed to all but their owner."""
    with tempfile.TemporaryDirectory(prefix="layerdex-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path
        for entry in path.rglob("*"):
            if entry.is_dir() and not entry.is_symlink():
                entry.chmod(0o755)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder in memory if there is one: thousands of flushes, which are not what is tested."""
    memory = Path("/dev/shm")
    parent = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="layerdex-", dir=parent) as name:
        yield Path(name)


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of three segments, to be copied."""
    path = tmp_path_factory.mktemp("sound") / "index"
    make_sound(path)
    return path


@pytest.fixture
def path(sound: Path, tmp_path: Path) -> Path:
    """A copy of a sound index, to be made hostile."""
    return copy(sound, tmp_path / "index")


@pytest.fixture(params=["one thread", "several"])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have commits write layers by one thread, and by several."""
    with layers_written_by_threads() if request.param == "several" else nullcontext():
        yield
