"""Limits of memory, threads and files: one line that says what is missing, and never a crash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from layerdex import Index
from layerdex.errors import ResourceError
from layerdex.limits import (
    FAISS,
    NUMPY,
    OPENVINO,
    PYARROW,
    TORCH,
    Need,
    check_limits,
    to_resource_error,
)
from tests.cli.conftest import environment
from tests.cli.test_processes import TIMEOUT_S, WITH_WORDS
from tests.cli.words import WordTransformer

MB = 1_000_000
RUN = "from layerdex.__main__ import run\nrun()"
LIMITED = """
import resource, sys
name, bound, *sys.argv[1:] = sys.argv[1:]
number = getattr(resource, name)
resource.setrlimit(number, (int(bound), int(bound)))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
"""


def run_limited(
    name: str, bound: int, *words: object, code: str = RUN
) -> subprocess.CompletedProcess[str]:
    """Run a command in a process with a limit of its own."""
    return subprocess.run(
        [sys.executable, "-c", LIMITED + code, name, str(bound), *map(str, words)],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=TIMEOUT_S,
        check=False,
    )


def error_of(ended: subprocess.CompletedProcess[str]) -> str:
    """Return the one line of a command that failed."""
    assert (ended.returncode, ended.stdout) == (1, ""), ended
    assert ended.stderr.startswith("Error: ")
    assert ended.stderr.count("\n") == 1
    return ended.stderr.removeprefix("Error: ")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of three segments."""
    path = tmp_path_factory.mktemp("limits") / "index"
    made = Index.create(path, model=WordTransformer())
    for i in range(3):
        made.add([{"id": f"d{i}", "text": f"word {i}"}], auto_compact=False)
    return path


@pytest.mark.parametrize("name", ["RLIMIT_AS", "RLIMIT_DATA"])
@pytest.mark.parametrize("bound_mb", [60, 110, 160, 220, 300, 500])
def test_a_search_in_little_memory_answers_or_says_what_is_missing(
    index: Path, name: str, bound_mb: int
) -> None:
    ended = run_limited(name, bound_mb * MB, "search", index, "--like", "d0", "--jsonl")
    if ended.returncode == 0:
        assert {json.loads(line)["id"] for line in ended.stdout.splitlines()} == {"d1", "d2"}
        return
    message = error_of(ended)
    assert "memory" in message
    assert "ulimit" in message


@pytest.mark.minilm
@pytest.mark.parametrize("engine", ["openvino", "torch"])
@pytest.mark.parametrize("bound_mb", [500, 1000])
def test_a_model_in_little_memory_says_what_is_missing(
    tmp_path: Path, engine: str, bound_mb: int
) -> None:
    source = tmp_path / "s.txt"
    source.write_text("a text\n")
    command = ("index", tmp_path / "new", source, "--engine", engine)
    message = error_of(run_limited("RLIMIT_AS", bound_mb * MB, *command))
    assert message.startswith(f"{engine} needs about ")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("bound_mb", [250, 300, 350])
def test_parquet_in_little_memory_says_what_is_missing(
    tmp_path: Path, index: Path, bound_mb: int
) -> None:
    command = ("export", index, "-o", tmp_path / "all.parquet")
    message = error_of(run_limited("RLIMIT_AS", bound_mb * MB, *command))
    assert message.startswith("pyarrow needs about ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may start any number of threads")
@pytest.mark.parametrize("n_threads", [1, 2, 3, 4])
def test_no_further_thread_is_one_line(index: Path, n_threads: int) -> None:
    ended = run_limited("RLIMIT_NPROC", n_threads, "search", index, "--like", "d0")
    assert "threads, and this process may not start so many" in error_of(ended)


@pytest.mark.parametrize("need", [NUMPY, FAISS, OPENVINO, TORCH, PYARROW], ids=str)
def test_threads_are_tried_before_a_library_is_loaded(
    monkeypatch: pytest.MonkeyPatch, need: Need
) -> None:
    import threading

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.delitem(sys.modules, need.module, raising=False)
    check_limits(need)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(ResourceError, match=rf"^{need.module} needs \d+ threads"):
        check_limits(need)


def test_the_threads_that_were_tried_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    before = threading.active_count()
    check_limits(OPENVINO)
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "out of memory"),
        (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        (RuntimeError("can't start new thread"), "no further thread"),
        (ImportError("libx.so: failed to map segment from shared object"), "out of memory"),
        (ImportError("libx.so: cannot allocate memory in static TLS block"), "out of memory"),
    ],
)
def test_errors_of_python_that_mean_a_missing_resource(error: Exception, said: str) -> None:
    assert said in str(to_resource_error(error))


@pytest.mark.parametrize(
    "error", [ImportError("No module named 'x'"), RuntimeError("x"), OSError()]
)
def test_other_errors_mean_something_else(error: Exception) -> None:
    assert to_resource_error(error) is None


@pytest.mark.parametrize("bound", [6, 8, 10])
def test_too_few_files_are_one_line_or_enough(index: Path, bound: int) -> None:
    ended = run_limited("RLIMIT_NOFILE", bound, "search", index, "--like", "d0", "--jsonl")
    if ended.returncode != 0:
        assert "open" in error_of(ended)
    else:
        assert len(ended.stdout.splitlines()) == 2


def test_many_segments_need_few_files(tmp_path: Path) -> None:
    made = Index.create(tmp_path / "many", model=WordTransformer())
    for i in range(40):
        made.add([{"id": f"d{i}", "text": f"word {i}"}], auto_compact=False)
    command = ("search", tmp_path / "many", "--like", "d0", "-k", "99", "--layer", "all", "--jsonl")
    ended = run_limited("RLIMIT_NOFILE", 24, *command)
    assert ended.returncode == 0, ended.stderr
    assert len(ended.stdout.splitlines()) == 4 * 39  # layers, other documents


def test_a_bound_on_file_sizes_is_like_a_full_disk(tmp_path: Path) -> None:
    path, source = tmp_path / "index", tmp_path / "s.jsonl"
    Index.create(path, model=WordTransformer()).add([{"id": "old", "text": "old"}])
    rows = [{"id": f"n{i}", "text": f"new {i} " * 20} for i in range(2_000)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    error_of(run_limited("RLIMIT_FSIZE", 150_000, "index", path, source, code=WITH_WORDS))
    again = Index.open(path)
    ids = [document.id for document in again.documents()]
    assert ids == ["old", *(row["id"] for row in rows)][: len(ids)]  # whole windows
    assert len(ids) < len(rows)
    assert again.verify() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("LC_ALL", "xx_YY.none"), ("TERM", "dumb"), ("COLUMNS", "1"), ("TMPDIR", "/nowhere")],
)
def test_odd_surroundings_change_no_answer(
    index: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    ended = run_limited("RLIMIT_CORE", 0, "search", index, "--like", "d0", "--jsonl")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(ended.stdout.splitlines()) == 2
