"""Limits of memory, threads and files: one line that says what is missing, and never a crash."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from layerdex import Index, limits
from layerdex.errors import ResourceError
from layerdex.limits import (
    CONVERSION,
    FAISS,
    NUMPY,
    OPENVINO,
    PYARROW,
    TORCH,
    Need,
    Pool,
    check_limits,
    to_resource_error,
)
from tests.cli.conftest import environment
from tests.cli.test_processes import TIMEOUT_S, WITH_WORDS
from tests.cli.words import WordTransformer
from tests.tiny_models import save_tiny_model

MB = 1_000_000
SOAK = pytest.mark.soak
RUN = "from layerdex.__main__ import run\nrun()"
LIMITED = """
import resource, sys
names, bound, *sys.argv[1:] = sys.argv[1:]
for name in names.split("+"):
    most = int(bound) if name == names.split("+")[0] else 16 * 10**9
    resource.setrlimit(getattr(resource, name), (most, most))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
"""


def unprivileged_python() -> list[str]:
    """Return the words that run Python as a user whom a limit of threads binds: not root."""
    if os.getuid() != 0:
        return [sys.executable]
    own = f"--reuid={100_000 + os.getpid()}"
    return ["setpriv", own, "--clear-groups", sys.executable]


@cache
def can_limit_threads() -> bool:
    """Return whether such a user can run this Python, on more than one CPU."""
    if len(os.sched_getaffinity(0)) < 2 or (os.getuid() == 0 and shutil.which("setpriv") is None):
        return False
    command = [*unprivileged_python(), "-c", "import layerdex"]
    return subprocess.run(command, env=environment(), check=False).returncode == 0


def run_limited(
    name: str, bound: int, *words: object, code: str = RUN, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in a process with a limit of its own.

    ``RLIMIT_NPROC+RLIMIT_AS`` is one of threads, beside one of memory that is far.
    """
    python = unprivileged_python() if "RLIMIT_NPROC" in name else [sys.executable]
    return subprocess.run(
        [*python, "-c", LIMITED + code, name, str(bound), *map(str, words)],
        capture_output=True,
        text=True,
        env={name: one for name, one in {**environment(), **variables}.items() if one},
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


@pytest.mark.parametrize(
    ("name", "bound_mb"),
    [
        *(("RLIMIT_AS", bound_mb) for bound_mb in (60, 160, 300)),
        *(("RLIMIT_DATA", bound_mb) for bound_mb in (110, 220, 500)),
        *(pytest.param("RLIMIT_AS", bound_mb, marks=SOAK) for bound_mb in (110, 220, 500)),
        *(pytest.param("RLIMIT_DATA", bound_mb, marks=SOAK) for bound_mb in (60, 160, 300)),
    ],
)
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
@pytest.mark.parametrize(
    ("engine", "bound_mb", "dtype"),
    [
        ("openvino", 500, "float32"),
        ("openvino", 1000, "bfloat16"),
        ("torch", 500, "bfloat16"),
        ("torch", 1000, "float32"),
        pytest.param("openvino", 500, "bfloat16", marks=SOAK),
        pytest.param("openvino", 1000, "float32", marks=SOAK),
        pytest.param("torch", 500, "float32", marks=SOAK),
        pytest.param("torch", 1000, "bfloat16", marks=SOAK),
    ],
)
def test_a_model_in_little_memory_says_what_is_missing(
    tmp_path: Path, engine: str, bound_mb: int, dtype: str
) -> None:
    source = tmp_path / "s.txt"
    source.write_text("a text\n")
    command = ("index", tmp_path / "new", source, "--engine", engine, "--dtype", dtype)
    message = error_of(run_limited("RLIMIT_AS", bound_mb * MB, *command))
    assert message.startswith(f"{engine} needs about ")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("bound_mb", [250, pytest.param(300, marks=SOAK), 350])
def test_parquet_in_little_memory_says_what_is_missing(
    tmp_path: Path, index: Path, bound_mb: int
) -> None:
    command = ("export", index, "-o", tmp_path / "all.parquet")
    message = error_of(run_limited("RLIMIT_AS", bound_mb * MB, *command))
    assert message.startswith("pyarrow needs about ")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def public(index: Path) -> Iterator[Path]:
    """The index where any user may use it, and write beside it."""
    if not can_limit_threads():
        pytest.skip("one CPU, or Python is root's alone")
    with TemporaryDirectory() as folder:
        shutil.copytree(index, Path(folder) / "index")
        for path in (Path(folder), *Path(folder).rglob("*")):
            path.chmod(0o777)
        yield Path(folder) / "index"


ALL_CPUS = {"OMP_NUM_THREADS": "", "OPENBLAS_NUM_THREADS": ""}


@pytest.mark.parametrize(
    ("name", "n_threads"),
    [
        *(("RLIMIT_NPROC", n_threads) for n_threads in (1, 2, 3, 5)),
        *(("RLIMIT_NPROC+RLIMIT_AS", n_threads) for n_threads in (2, 4)),
        pytest.param("RLIMIT_NPROC", 4, marks=SOAK),
        *(pytest.param("RLIMIT_NPROC+RLIMIT_AS", n, marks=SOAK) for n in (1, 3, 5)),
    ],
)
def test_no_further_thread_is_one_line(public: Path, n_threads: int, name: str) -> None:
    ended = run_limited(name, n_threads, "search", public, "--like", "d0", **ALL_CPUS)
    if ended.returncode != 0 or n_threads == 1:
        assert re.search(r"thread|may not start so many", error_of(ended))


@pytest.mark.parametrize("n_threads", [1, pytest.param(2, marks=SOAK)])
def test_one_thread_for_each_library_needs_no_further_one(public: Path, n_threads: int) -> None:
    ended = run_limited("RLIMIT_NPROC", n_threads, "search", public, "--like", "d0")
    assert ended.returncode == 0, ended.stderr


@pytest.mark.minilm
@pytest.mark.parametrize("engine", ["openvino", "torch"])
@pytest.mark.parametrize("n_threads", [3, 6])
def test_a_model_without_threads_is_one_line(public: Path, engine: str, n_threads: int) -> None:
    source, new = public.with_name("s.txt"), public.with_name("new")
    source.write_text("a text\n")
    command = ("index", new, source, "--engine", engine)
    cache = str(public.with_name("cache"))
    name = "RLIMIT_NPROC+RLIMIT_AS"
    ended = run_limited(name, n_threads, *command, XDG_CACHE_HOME=cache, **ALL_CPUS)
    assert "thread" in error_of(ended)
    assert not new.exists()


@pytest.mark.soak
def test_the_first_use_of_a_model_needs_the_memory_of_a_conversion(tmp_path: Path) -> None:
    source, cache = tmp_path / "s.txt", tmp_path / "cache"
    source.write_text("a text\n")
    model = save_tiny_model("bert", tmp_path / "model")
    command = ("index", tmp_path / "new", source, "--engine", "openvino", "--model", model)
    variables = {"XDG_CACHE_HOME": str(cache)}
    message = error_of(run_limited("RLIMIT_AS", 1_400 * MB, *command, **variables))
    assert message.startswith("torch needs about ")
    assert list(cache.rglob(".new-*")) == []
    assert run_limited("RLIMIT_AS", 10_000 * MB, *command, **variables).returncode == 0
    shutil.rmtree(tmp_path / "new")
    ended = run_limited("RLIMIT_AS", 1_400 * MB, *command, **variables)
    assert ended.returncode == 0, ended.stderr


@pytest.fixture
def two_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*Pool.BLAS.value.split(), *Pool.OMP.value.split()):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on threads that is near."""
    limit_to(monkeypatch, {resource.RLIMIT_NPROC: 4_000})


def limit_to(monkeypatch: pytest.MonkeyPatch, bounds: dict[int, int]) -> None:
    def say(number: int) -> tuple[int, int]:
        return (bounds.get(number, resource.RLIM_INFINITY),) * 2

    monkeypatch.setattr(resource, "getrlimit", say)


def refuse_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)


@pytest.mark.usefixtures("two_cpus", "near")
@pytest.mark.parametrize("need", [NUMPY, FAISS, OPENVINO, TORCH, CONVERSION, PYARROW], ids=str)
def test_threads_are_tried_before_a_library_is_loaded(
    monkeypatch: pytest.MonkeyPatch, need: Need
) -> None:
    monkeypatch.delitem(sys.modules, need.module, raising=False)
    check_limits(need)
    refuse_threads(monkeypatch)
    with pytest.raises(ResourceError, match=rf"^{need.module} needs \d more threads?, and this"):
        check_limits(need)


@pytest.mark.usefixtures("two_cpus")
@pytest.mark.parametrize(
    ("bounds", "is_tried"),
    [
        ({}, False),
        ({resource.RLIMIT_NPROC: 50_000}, False),
        ({resource.RLIMIT_NPROC: 100}, True),
        ({resource.RLIMIT_NPROC: 100, resource.RLIMIT_AS: 16_000 * MB}, True),
        ({resource.RLIMIT_NPROC: 100, resource.RLIMIT_DATA: 16_000 * MB}, True),
    ],
)
def test_threads_are_tried_where_a_limit_is_near(
    monkeypatch: pytest.MonkeyPatch, bounds: dict[int, int], is_tried: bool
) -> None:
    monkeypatch.setattr(limits, "_CGROUPS", Path("/nowhere"))
    monkeypatch.delitem(sys.modules, "faiss", raising=False)
    limit_to(monkeypatch, bounds)
    monkeypatch.setattr(limits, "_used_bytes", lambda _: 100 * MB)
    refuse_threads(monkeypatch)
    with pytest.raises(ResourceError) if is_tried else nullcontext():
        check_limits(FAISS)


@pytest.mark.usefixtures("two_cpus")
def test_a_trial_takes_no_memory_that_is_scarce(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "faiss", raising=False)
    scarce = round((FAISS.memory_mb() + 100) * MB)
    limit_to(monkeypatch, {resource.RLIMIT_NPROC: 100, resource.RLIMIT_AS: scarce})
    monkeypatch.setattr(limits, "_used_bytes", lambda _: 0)
    refuse_threads(monkeypatch)
    check_limits(FAISS)


@pytest.mark.parametrize(
    ("most", "used", "is_near"),
    [("max", "3", False), ("100", "3", True), ("9000", "3", False), ("9000", "8990", True)],
)
def test_a_container_has_a_limit_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, most: str, used: str, is_near: bool
) -> None:
    (tmp_path / "pids").mkdir()
    for folder in (tmp_path, tmp_path / "pids"):  # of both versions of cgroups
        (folder / "pids.max").write_text(f"{most}\n")
        (folder / "pids.current").write_text(f"{used}\n")
    monkeypatch.setattr(limits, "_CGROUPS", tmp_path)
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    limit_to(monkeypatch, {})
    refuse_threads(monkeypatch)
    with pytest.raises(ResourceError) if is_near else nullcontext():
        check_limits(OPENVINO)


@pytest.mark.parametrize(
    ("variables", "blas", "omp"),
    [
        ({}, 64, 64),
        ({"OMP_NUM_THREADS": "1"}, 1, 1),
        ({"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "1"}, 2, 1),
        ({"OPENBLAS_NUM_THREADS": "1"}, 1, 64),
        ({"OMP_NUM_THREADS": "3,2"}, 3, 3),
        ({"OMP_NUM_THREADS": "many"}, 64, 64),
        ({"OMP_NUM_THREADS": "0"}, 64, 64),
        ({"OPENBLAS_NUM_THREADS": "99"}, 64, 64),
    ],
)
@pytest.mark.usefixtures("two_cpus")
def test_needs_are_those_of_the_threads_that_are_started(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], blas: int, omp: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (NUMPY.n_threads(), FAISS.n_threads()) == (blas - 1, blas + omp - 2)
    assert NUMPY.memory_mb() == 80 + 41 * blas


@pytest.mark.usefixtures("two_cpus", "near")
def test_the_threads_that_were_tried_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    before = threading.active_count()
    check_limits(OPENVINO)
    assert threading.active_count() == before


class PanicException(BaseException):
    """As a library in Rust raises it."""


POOL = "The global thread pool has not been initialized.: ThreadPoolBuildError { kind: IOError }"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "out of memory"),
        (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        (RuntimeError("can't start new thread"), "no further thread"),
        (PanicException(POOL), "no further thread"),
        (ImportError("libx.so: failed to map segment from shared object"), "out of memory"),
        (ImportError("libx.so: cannot allocate memory in static TLS block"), "out of memory"),
    ],
)
def test_errors_of_python_that_mean_a_missing_resource(error: BaseException, said: str) -> None:
    assert said in str(to_resource_error(error))


@pytest.mark.parametrize(
    "error",
    [ImportError("No module named 'x'"), RuntimeError("x"), OSError(), PanicException("x")],
)
def test_other_errors_mean_something_else(error: BaseException) -> None:
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
