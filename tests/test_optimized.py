"""Python's own options: -O changes nothing, and -OO is refused where transformers is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_processes import WITH_WORDS
from tests.tiny_models import save_tiny_model

REFUSED = (
    "Error: transformers does not work without docstrings, which python -OO and PYTHONOPTIMIZE=2 "
    "remove: use -O or neither (a model that OpenVINO has already converted needs no "
    "transformers)\n"
)
# One process for several commands: with other options, Python compiles all that it imports anew.
EACH = """
import shlex, sys
commands = sys.argv[1:]
def each(run):
    for command in commands:
        sys.argv[1:] = shlex.split(command)
        try:
            run()
        except SystemExit as ended:
            print("ended with", ended.code or 0, flush=True)
import layerdex.__main__
run_one = layerdex.__main__.run
layerdex.__main__.run = lambda: each(run_one)
"""
MODEL = "from layerdex.__main__ import run\nrun()"


def layerdex(option: str, code: str, *commands: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, option, "-c", EACH + code, *commands],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.soak
def test_without_docstrings_one_line_says_what_to_do(tmp_path: Path) -> None:
    source, model = tmp_path / "texts.txt", save_tiny_model("bert", tmp_path / "model")
    source.write_text("the cat sat on the mat\n")
    words = f"index {tmp_path / 'index'} {source} --model {model} --engine"
    result = layerdex("-OO", MODEL, f"{words} torch", f"{words} auto")
    assert (result.stdout, result.stderr) == ("ended with 1\n" * 2, REFUSED * 2)
    assert not (tmp_path / "index").exists()


def test_without_asserts_a_bad_row_is_still_refused_and_a_good_one_found(tmp_path: Path) -> None:
    index, source = tmp_path / "index", tmp_path / "texts.jsonl"
    source.write_text('{"id": "a", "text": "the cat sat on the mat"}\n{"id": "b", "text": 7}\n')
    words = f"index {index} {source}"
    search = f"search {index} 'a cat' --jsonl"
    ended = layerdex("-O", "assert False\n" + WITH_WORDS, words, f"{words} --on-error skip", search)
    assert "texts.jsonl:2" in ended.stderr
    lines = ended.stdout.splitlines()
    assert [line for line in lines if line.startswith("ended")] == [
        "ended with 1",
        "ended with 0",
        "ended with 0",
    ]
    assert '"id": "a"' in lines[-2]
