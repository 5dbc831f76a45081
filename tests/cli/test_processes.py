"""Commands as processes: pipes that close, interruption, and the real model."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from layerdex import Index
from layerdex.__main__ import run
from tests.cli.conftest import Execute, environment
from tests.cli.corpus import DOCUMENTS, write_jsonl
from tests.cli.runner import Cli
from tests.cli.words import WINDOW, WordTransformer

TIMEOUT_S = 90
SOAK = pytest.mark.soak

WITH_WORDS = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
import layerdex.indexer.encoder
from tests.cli.words import WordTransformer
layerdex.indexer.encoder.TransformerEncoder = WordTransformer
from layerdex.__main__ import run
run()
"""

# Stops where it has found no index and is about to make one, until a line comes in.
WITH_WORDS_AND_A_STOP = f"""
import sys
from layerdex.storage.store import Store
create = Store.create
def stop_and_create(*words, **options):
    print("found no index", flush=True)
    sys.stdin.readline()
    return create(*words, **options)
Store.create = stop_and_create
{WITH_WORDS}"""


@contextmanager
def started(*words: object) -> Iterator[subprocess.Popen[str]]:
    """Start Python with pipes to all three streams; it is gone at the end."""
    process = subprocess.Popen(
        [sys.executable, *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    "words",
    [
        ("info", "INDEX"),
        ("export", "INDEX"),
        ("search", "INDEX", "--like", "d1", "--json"),
        ("--help",),
        pytest.param(("--version",), marks=SOAK),
        pytest.param(("search", "--help"), marks=SOAK),
    ],
)
def test_an_answer_that_cannot_be_written_is_one_line(large: Path, words: tuple[str, ...]) -> None:
    given = [large if word == "INDEX" else word for word in words]
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "layerdex", *given],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            timeout=TIMEOUT_S,
            check=False,
        )
    assert result.stderr == "Error: cannot write the output: No space left on device\n"
    assert result.returncode == 1


def test_output_is_utf_8_whatever_the_locale(
    cli: Cli, tmp_path: Path, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, text = tmp_path / "index", "größer 猫 🐈"
    cli.ok("index", path, write_jsonl(tmp_path / "s.jsonl", [{"id": "a", "text": text}]))
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    for words in (["search", path, "--like", "a"], ["get", path, "a"], ["export", path]):
        result = execute("-m", "layerdex", *words)
        assert result.returncode == 0, result.stderr
    assert text in result.stdout


def test_pictures_are_drawn_whatever_backend_a_notebook_has_set(
    path: Path, tmp_path: Path, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = "no_such_backend"  # as matplotlib-inline is where it is not installed
    monkeypatch.setenv("MPLBACKEND", backend)
    draw = ("evaluate", path, "--resamples", "0", "--plot", tmp_path / "curve.png", "-q")
    code = (
        f"import atexit, os\natexit.register(lambda: print(os.environ['MPLBACKEND'])){WITH_WORDS}"
    )
    shown = execute("-c", code, *draw)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.splitlines()[-1] == backend
    assert (tmp_path / "curve.png").stat().st_size > 5_000


def seen_on_a_terminal(
    *words: object, stdin: Path | None = None, stdout: Path | None = None, exit_code: int = 0
) -> str:
    """Run Python with a terminal as its stderr; return what it showed there.

    The terminal is its stdout, too, unless a file is given.
    """
    ours, theirs = pty.openpty()
    with (
        (stdin or Path(os.devnull)).open("rb") as given,
        open(stdout or os.dup(theirs), "wb") as output,  # noqa: PTH123
    ):
        process = subprocess.Popen(
            [sys.executable, *map(str, words)],
            stdin=given,
            stdout=output,
            stderr=theirs,
            env={**environment(), "COLUMNS": "80", "TERM": "xterm"},
        )
        os.close(theirs)
        output.close()
        shown = b""
        with contextlib.suppress(OSError):  # Linux's end of a terminal
            while data := os.read(ours, 1 << 16):
                shown += data
        os.close(ours)
        assert process.wait(TIMEOUT_S) == exit_code
    return shown.decode()


def test_progress_of_files_has_an_end_and_that_of_a_pipe_a_count(
    tmp_path: Path, source: Path
) -> None:
    at_once = "from layerdex.cli import progress\nprogress._SHOWN_AFTER_S = 0.01\n" + WITH_WORDS
    shown = seen_on_a_terminal("-c", at_once, "index", tmp_path / "a", source)
    assert "100%" in shown
    assert "20 rows" in shown
    shown = seen_on_a_terminal("-c", at_once, "index", tmp_path / "b", "-", stdin=source)
    assert "%" not in shown
    assert "20 rows" in shown


def test_two_first_runs_at_once_both_add_their_documents(tmp_path: Path) -> None:
    path = tmp_path / "index"
    sources = [
        write_jsonl(
            tmp_path / f"{name}.jsonl",
            [{"id": f"{name}{i}", "text": f"card {i}"} for i in range(9)],
        )
        for name in "ab"
    ]
    commands = [("-c", WITH_WORDS_AND_A_STOP, "index", path, source) for source in sources]
    with started(*commands[0]) as first, started(*commands[1]) as second:
        for process in (first, second):
            assert process.stdout is not None
            assert process.stdout.readline() == "found no index\n"
        for process in (first, second):
            print(file=process.stdin, flush=True)
        ends = [process.communicate(timeout=TIMEOUT_S) for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), ends
    assert sorted(errors for _, errors in ends) == ["", f"Created {path}\n"]
    assert len(Index.open(path)) == 18


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of more text than a pipe holds."""
    path = tmp_path_factory.mktemp("large") / "index"
    encoder = WordTransformer(window=1024)
    rows = [{"id": f"d{i}", "text": f"word{i % 7} " * 60} for i in range(500)]
    Index.create(path, model=encoder).add(rows)
    return path


@pytest.mark.parametrize(
    ("words", "first_line"),
    [
        (["export"], '{"id": "d0", "text": "word0 word0'),
        (["search", "--like", "d0", "-k", "499", "--jsonl"], '{"query": "d0", "query_id": "d0"'),
        pytest.param(["search", "--like", "d0", "-k", "499", "--json"], "[", marks=SOAK),
        (["search", "--like", "d0", "-k", "499"], "d0 · layer 3"),
        pytest.param(["search", *["--like", "d0"] * 9, "-k", "99"], "d0 · layer 3", marks=SOAK),
    ],
)
def test_a_reader_that_has_seen_enough_is_no_error(
    large: Path, words: list[str], first_line: str
) -> None:
    with started("-m", "layerdex", words[0], large, *words[1:]) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(first_line)
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(TIMEOUT_S) == 0


@pytest.mark.parametrize(
    ("number", "code", "what"),
    [(signal.SIGINT, 130, "Interrupted"), (signal.SIGTERM, 143, "Terminated")],
)
def test_ctrl_c_and_sigterm_leave_what_was_committed(
    tmp_path: Path, number: signal.Signals, code: int, what: str
) -> None:
    path = tmp_path / "new"
    with started("-c", WITH_WORDS, "index", path, "-", "-q") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [json.dumps(one) + "\n" for one in DOCUMENTS[: WINDOW + 1]]
        process.stdin.write("".join(lines) + " " * (1 << 17))  # past every buffer
        process.stdin.flush()
        deadline = time.monotonic() + TIMEOUT_S
        while not list(path.glob("segments/*/layer-03.faiss")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        while len(Index.open(path)) < WINDOW:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(TIMEOUT_S) == code
        assert process.stdout.read() == ""
        assert process.stderr.read() == (
            f"{what}; {WINDOW} documents are in the index; run the same command again to go on\n"
        )
    ids = [document.id for document in Index.open(path).documents()]
    assert ids == [one["id"] for one in DOCUMENTS[:WINDOW]]


@pytest.mark.minilm
@pytest.mark.usefixtures("minilm")
def test_the_packaged_model_from_index_to_answers(
    execute: Execute, cli: Cli, tmp_path: Path
) -> None:
    path, source = tmp_path / "new", write_jsonl(tmp_path / "s.jsonl", DOCUMENTS)
    made = execute("-m", "layerdex", "index", path, source, "--layers", "0,4,6")
    assert (made.returncode, made.stderr) == (0, f"Created {path}\n")
    assert made.stdout == (
        "20 read = 20 new + 0 updated + 0 unchanged + 0 rejected\n"
        "20 documents in the index, layers 0,4,6 of minilm\n"
    )
    texts = "Why was my payment refused?\nHot broth and a loaf\nThunder and hail\n"
    rows = cli.jsonl("classify", path, "--input", "-", "--jsonl", "-k", 5, stdin=texts)
    assert [row["label"] for row in rows] == ["card", "food", "rain"]
    assert [row["text"] for row in rows] == texts.splitlines()
    [hit] = cli.json("search", path, "precipitation", "-k", 1)
    assert (hit["id"], hit["layer"], hit["label"]) == ("rain-0", 6, "rain")


def test_an_interrupt_while_the_command_line_is_imported_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "layerdex.cli.main":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "layerdex.cli.main", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    with pytest.raises(SystemExit) as exit_:
        run()
    assert exit_.value.code == 130
    assert capsys.readouterr().err == "Interrupted\n"


def test_a_second_interrupt_while_python_shuts_down_says_nothing(
    execute: Execute, tmp_path: Path
) -> None:
    interrupted = """
import atexit, os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
atexit.register(os.kill, os.getpid(), signal.SIGINT)
from layerdex.__main__ import run
from layerdex.cli.context import Context
def interrupt(*_, **__):
    os.kill(os.getpid(), signal.SIGINT)
Context.open_index = interrupt
run()
"""
    ended = execute("-c", interrupted, "info", tmp_path)
    assert (ended.returncode, ended.stderr) == (130, "Interrupted\n")
