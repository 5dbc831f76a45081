"""Commands whose standard streams are closed, full, or have lost their reader."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from layerdex import Index
from tests.cli.conftest import environment
from tests.cli.corpus import DOCUMENTS, EXPORTED, write_jsonl
from tests.cli.runner import Cli
from tests.cli.test_processes import TIMEOUT_S, WITH_WORDS, started

STDIN, STDOUT, STDERR = range(3)
SOAK = pytest.mark.soak
CLOSED = [
    *((STDIN,), (STDOUT,), (STDERR,), (STDIN, STDOUT, STDERR)),
    pytest.param((STDOUT, STDERR), marks=SOAK),
]
IS_CLOSED = "Error: cannot write the output: standard output is closed\n"
Ended = subprocess.CompletedProcess[str]


def run_without(closed: Iterable[int], *words: object, code: str = WITH_WORDS) -> Ended:
    """Run a command in a process that is started with some of its streams closed."""
    closing = " ".join(f"{number}>&-" for number in closed)
    return subprocess.run(
        ["sh", "-c", f'exec "$0" "$@" {closing}', sys.executable, "-c", code, *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.mark.parametrize("closed", CLOSED, ids=str)
def test_an_index_is_made_and_a_lost_report_is_told(
    closed: tuple[int, ...], tmp_path: Path, source: Path
) -> None:
    path, rejects = tmp_path / "new", tmp_path / "bad.jsonl"
    with source.open("a") as file:
        file.write('{"id": "no-text"}\n')
    skip = ("--on-error", "skip", "--rejects", rejects)
    made = run_without(closed, "index", path, source, *skip)
    assert made.returncode == (1 if STDOUT in closed else 0)
    notes = ["Skipped", "Created", *(["Error:"] if STDOUT in closed else [])]
    shown = [line.split()[0] for line in made.stderr.splitlines()]
    assert shown == ([] if STDERR in closed else notes)
    assert made.stdout.startswith("" if STDOUT in closed else "21 read = 20 new")
    [reject] = rejects.read_text().splitlines()
    assert json.loads(reject)["line"] == 21
    index = Index.open(path)
    assert index.verify() == []
    assert [document.id for document in index.documents()] == [one["id"] for one in DOCUMENTS]


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        pytest.param(("--version",), marks=SOAK),
        pytest.param(("search", "--help"), marks=SOAK),
        ("info", "INDEX", "--json"),
        ("search", "INDEX", "--like", "bare"),
        pytest.param(("dedup", "INDEX", "--threshold", "0.9"), marks=SOAK),
        ("export", "INDEX"),
        ("export", "INDEX", "-o", "/dev/stdout"),
    ],
    ids=" ".join,
)
def test_an_answer_is_printed_or_its_loss_is_an_error(
    cli: Cli, shared: Path, words: tuple[str, ...]
) -> None:
    given = [shared if word == "INDEX" else word for word in words]
    lost = run_without([STDOUT], *given)
    assert (lost.returncode, lost.stderr) == (1, IS_CLOSED)
    quiet = run_without([STDERR], *given)
    assert quiet.returncode == 0
    if "--help" not in words and "--version" not in words:  # these name the program
        assert quiet.stdout == cli.data(*given)
    assert quiet.stdout != ""


@pytest.mark.parametrize("closed", [(STDOUT,), (STDIN, STDOUT, STDERR)], ids=str)
def test_a_file_is_written_whatever_is_closed(
    shared: Path, tmp_path: Path, closed: tuple[int, ...]
) -> None:
    ended = run_without(closed, "export", shared, "-o", tmp_path / "all.jsonl")
    assert (ended.returncode, ended.stdout) == (0, "")
    rows = map(json.loads, (tmp_path / "all.jsonl").read_text().splitlines())
    assert list(rows) == EXPORTED


@pytest.mark.parametrize("name", ["/dev/stdout", "/proc/self/fd/1"])
def test_a_file_that_leads_to_a_closed_output_is_an_error(shared: Path, name: str) -> None:
    ended = run_without([STDOUT], "dedup", shared, "--threshold", "0.9", "--clusters", name)
    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: cannot write ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_a_closed_input_that_is_asked_for_is_an_error(tmp_path: Path, name: str) -> None:
    ended = run_without([STDIN], "index", tmp_path / "new", name)
    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: ")
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_what_a_library_prints_never_reaches_a_file(tmp_path: Path, source: Path) -> None:
    """A library that prints to a closed stream prints into what was opened with its number."""
    noisy = """
import os
from layerdex.cli.streams import open_streams
open_streams()
def print_from_c(event, _):
    if event in ("open", "os.rename"):
        for number in (1, 2):
            try:
                os.write(number, b"noise")
            except OSError:
                pass
import sys
sys.addaudithook(print_from_c)
"""
    path = tmp_path / "new"
    made = run_without((0, 1, 2), "index", path, source, code=noisy + WITH_WORDS)
    assert made.returncode == 1  # of the report
    assert Index.open(path).verify() == []
    assert not [
        file for file in path.rglob("*") if file.is_file() and b"noise" in file.read_bytes()
    ]


@pytest.mark.parametrize("device", ["/dev/full", "pipe"])
def test_messages_that_cannot_be_written_end_nothing(
    tmp_path: Path, source: Path, device: str
) -> None:
    path = tmp_path / "new"
    if device == "pipe":
        reader, errors = os.pipe()
        os.close(reader)
    else:
        errors = os.open(device, os.O_WRONLY)
    made = subprocess.run(
        [sys.executable, "-c", WITH_WORDS, "index", str(path), str(source), "-v"],
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        env=environment(),
        timeout=TIMEOUT_S,
        check=False,
    )
    os.close(errors)
    assert made.returncode == 0
    assert made.stdout.startswith("20 read = 20 new")
    assert len(Index.open(path)) == len(DOCUMENTS)


def test_rejects_into_a_pipe_that_closed_are_an_error(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    source = write_jsonl(tmp_path / "s.jsonl", [{"id": "a", "text": "one"}, {"id": "b"}])
    name = f"/proc/{os.getpid()}/fd/{writer}"  # a name of the pipe, as bash's >(…) gives
    skip = ("--on-error", "skip", "--rejects", name)
    with started("-c", WITH_WORDS, "index", tmp_path / "new", source, *skip) as process:
        _, errors = process.communicate(timeout=TIMEOUT_S)
    os.close(writer)
    assert process.returncode == 1
    assert errors.splitlines()[-1] == f"Error: cannot write {name}: Broken pipe"


def test_python_without_streams_adds_and_asks(tmp_path: Path, source: Path) -> None:
    code = """
import sys
from layerdex import Index
from tests.cli.words import WordTransformer
assert (sys.stdin, sys.stdout, sys.stderr) == (None, None, None)
index = Index.create(sys.argv[1], model=WordTransformer())
report = index.add(sys.argv[2])
assert (report.n_new, len(index.search("card", k=3)[0].hits)) == (20, 3)
assert index.verify() == []
"""
    ended = run_without((0, 1, 2), tmp_path / "new", source, code=code)
    assert ended.returncode == 0
    assert Index.open(tmp_path / "new").verify() == []


def test_what_a_library_prints_in_python_without_streams_is_in_no_layer_file(
    tmp_path: Path,
) -> None:
    code = """
import contextlib, os, sys
from pathlib import Path
import numpy as np
from layerdex.storage.files import write_file
fsync = os.fsync
def print_and_flush(descriptor):
    for number in (1, 2):
        with contextlib.suppress(OSError):
            os.write(number, b"noise")
    fsync(descriptor)
os.fsync = print_and_flush
for number in (2, 1, 0):
    os.close(number)
    write_file(Path(sys.argv[1] + str(number)), np.arange(9, dtype=np.uint8))
"""
    assert run_without((), tmp_path / "file", code=code).returncode == 0
    assert [(tmp_path / f"file{i}").read_bytes() for i in range(3)] == [bytes(range(9))] * 3


@pytest.mark.parametrize("words", [("info", "."), ("search", "index", "--like", "a")])
def test_a_current_directory_that_was_deleted_is_said(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    code = f"import os\nos.chdir({str(folder)!r})\nos.rmdir({str(folder)!r})\n{WITH_WORDS}"
    ended = run_without([], *words, code=code)
    said = "Error: the current directory is not there any more: change to another one\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", said)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ((errno.ENOSPC, "No space left"), "cannot write the output: No space left"),
        ((errno.EMFILE, "Too many open files"), "Too many open files"),
        ((errno.EACCES, "Denied", "/x"), "cannot use /x: Denied"),
    ],
)
def test_only_an_error_of_writing_is_about_the_output(error: tuple[object, ...], said: str) -> None:
    code = f"""
from layerdex.index import machine
def fail():
    raise OSError(*{error!r})
machine.describe_machine = fail
"""
    ended = run_without([], "doctor", code=code + WITH_WORDS)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", f"Error: {said}\n")
