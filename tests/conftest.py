"""What all tests share."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# huggingface_hub reads it once, when it is imported.
os.environ["HF_HUB_OFFLINE"] = "1"
# Small matrices, and threads that spin for the next one: two are slower than one here.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

from layerdex import Index
from tests.encoders import WordEncoder
from tests.tallies import hand_over, summary, take_over

# Timings never fail a test, nor does a busy machine. A commit passes or fails alike each time: the
# soak looks for new cases.
settings.register_profile(
    "suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("soak", settings.get_profile("suite"), derandomize=False)
settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the soak kill and try more often than the suite."""
    parser.addoption("--kills", type=int, default=16, help="writers killed in each way")
    parser.addoption("--sequences", type=int, default=20, help="sequences held to the model")
    parser.addoption("--soak", action="store_true", help="all of what the suite samples")


def pytest_configure(config: pytest.Config) -> None:
    """Let the soak look for new cases: tests take the profile when they are imported."""
    if config.getoption("--soak"):
        settings.load_profile("soak")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave to the soak what goes the same way through the code as another case of its test."""
    if config.getoption("--soak"):
        return
    n_before: Counter[str] = Counter()
    left: list[pytest.Item] = []
    for item in items:
        name = item.nodeid.partition("[")[0]
        sampled = item.get_closest_marker("one_in")
        if item.get_closest_marker("soak") or (sampled and n_before[name] % sampled.args[0]):
            left.append(item)
        n_before[name] += 1
    config.hook.pytest_deselected(items=left)
    chosen = set(items) - set(left)
    items[:] = [item for item in items if item in chosen]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say what the index has survived in this run."""
    if line := summary(config):
        terminalreporter.write_line(f"survived: {line}")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Count what a worker of pytest-xdist counted."""
    take_over(node.config, getattr(node, "workeroutput", {}))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand on what was counted here, if this is such a worker."""
    hand_over(session.config)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def encoder() -> WordEncoder:
    return WordEncoder()


@pytest.fixture
def index(tmp_path: Path, encoder: WordEncoder) -> Index:
    """An empty index with layers 0 to 3, windows of 8 documents."""
    return Index.create(tmp_path / "index", model=encoder)


@pytest.fixture
def memory_folder() -> Iterator[Path]:
    """A folder in memory where the system has one, for tests of thousands of flushes."""
    memory = Path("/dev/shm")
    parent = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="layerdex-", dir=parent) as name:
        yield Path(name)
