"""Fixtures that the tests of storage share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


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
